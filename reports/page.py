"""
Templates to HTML: one self-contained file that needs no network and runs nothing but what is in it.

The Content-Security-Policy names the hashes of the style sheet and the script, computed at rendering, and forbids all
else; so no style attribute works, and colours are classes. Everything that comes from a journal is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.charts import draw_all
from reports.model import RunView
from reports.suiterows import SuiteRow
from reports.svg import clean, counted
from seawall.verdicts.model import Verdict

__all__ = ["run_page", "suite_page"]

_WORDS = {
    Verdict.FAIL: "Something that must hold was broken.",
    Verdict.INVALID: "The run proves nothing.",
    Verdict.SAFE: "Clients were refused cleanly, as the scenario allows.",
    Verdict.PARTIAL: "Only advisory limits were missed.",
    Verdict.PASS: "Everything that must hold did.",
}


def run_page(view: RunView) -> bytes:
    """Return the page of one run as UTF-8."""
    script = _file("script.js") if view.faults and view.stories else ""
    return _render("run.html.j2", view.verdict.verdict, script, view=view, charts=draw_all(view))


def suite_page(title: str, worst: Verdict, rows: Sequence[SuiteRow], arenas: Sequence[str]) -> bytes:
    """Return the page of several runs as UTF-8: a matrix of scenarios and arenas, then every run."""
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    cells: dict[tuple[str, str], list[SuiteRow]] = {}
    for row in rows:
        cells.setdefault((row.scenario, row.arena), []).append(row)
    return _render(
        "suite.html.j2",
        worst,
        "",
        title=title,
        rows=rows,
        worst_first=sorted(rows, key=lambda row: list(Verdict).index(row.verdict)),
        arenas=arenas,
        scenarios=scenarios,
        cells=cells,
        worst=worst,
    )


def _render(template: str, verdict: Verdict, script: str, **values: object) -> bytes:
    style = _file("style.css")
    sources = f"style-src '{_hash(style)}'" + (f"; script-src '{_hash(script)}'" if script else "")
    policy = f"default-src 'none'; {sources}; img-src data:; base-uri 'none'; form-action 'none'"
    text = (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            # Our own files, the same for every run: nothing of a journal is in them.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            words=_WORDS,
            meaning=_WORDS[verdict],
            **values,
        )
    )
    return text.encode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _file(name: str) -> str:
    return resources.files("reports").joinpath("templates", name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters["counted"] = counted
    return environment

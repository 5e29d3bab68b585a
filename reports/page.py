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
from markupsafe import Markup, escape

from reports.charts import draw_all
from reports.compare import Comparison
from reports.model import RunView
from reports.suiterows import SuiteRow
from reports.svg import counted, shortened
from seawall.compare.model import Comparison as Systems
from seawall.verdicts.model import Verdict

__all__ = ["compare_page", "run_page", "suite_page", "systems_page"]

_WORDS_MAX = 400
"""Characters of one text; an error may be a megabyte of somebody's HTML."""
_WORDS = {
    Verdict.FAIL: "Something that must hold was broken.",
    Verdict.INVALID: "The run proves nothing.",
    Verdict.SAFE: "Clients were refused cleanly, as the scenario allows.",
    Verdict.PARTIAL: "Only advisory limits were missed.",
    Verdict.PASS: "Everything that must hold did.",
}


def run_page(view: RunView) -> bytes:
    """Return the page of one run as UTF-8."""
    return _render("run.html.j2", view.verdict.verdict, view=view, charts=draw_all(view))


def suite_page(title: str, worst: Verdict, rows: Sequence[SuiteRow], arenas: Sequence[str]) -> bytes:
    """Return the page of several runs as UTF-8: a matrix of scenarios and arenas, then every run."""
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    cells: dict[tuple[str, str], list[SuiteRow]] = {}
    for row in rows:
        cells.setdefault((row.scenario, row.arena), []).append(row)
    return _render(
        "suite.html.j2",
        worst,
        title=title,
        rows=rows,
        worst_first=sorted(rows, key=lambda row: list(Verdict).index(row.verdict)),
        arenas=arenas,
        scenarios=scenarios,
        cells=cells,
        worst=worst,
    )


def compare_page(comparison: Comparison) -> bytes:
    """Return the page of a comparison as UTF-8."""
    first = next((f"{pair.scenario}: {text}" for pair in comparison.pairs for text in pair.regressions), "")
    verdict = Verdict.FAIL if comparison.regressions else Verdict.PASS
    return _render("compare.html.j2", verdict, comparison=comparison, first=first)


def systems_page(comparison: Systems, *, worse: Sequence[str], **values: object) -> bytes:
    """Return the page of systems side by side as UTF-8."""
    labels = [info.label for info in comparison.systems]
    title = f"{', '.join(labels)}: {counted(len(comparison.scenarios), 'scenario')}"
    verdict = Verdict.FAIL if worse else Verdict.PASS
    word = "worse" if worse else "comparison"
    return _render("systems.html.j2", verdict, comparison=comparison, title=title, word=word, worse=worse, **values)


def _render(template: str, verdict: Verdict, **values: object) -> bytes:
    style, script = _file("style.css"), _file("script.js")
    sources = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
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
        finalize=lambda value: shortened(value, _WORDS_MAX) if type(value) is str else value,
    )
    environment.filters["counted"] = counted
    # What may be longer than the rest; Markup, so that `finalize` lets it pass.
    environment.filters["long"] = lambda text, most: Markup(escape(shortened(text, most)))  # noqa: S704
    return environment

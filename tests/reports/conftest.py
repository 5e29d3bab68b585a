"""Runs, views and verdicts to render, and a page taken apart."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from reports.model import RunView, view_of
from seawall.journal.read import load_journal
from seawall.verdicts.model import Check, Evidence, RunVerdict, Verdict, worst

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:  # for `played`, which other rooms' tests use too
    sys.path.insert(0, _TESTS)


def _beside(name: str) -> ModuleType:
    """Load a module of this folder, which is no package, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"tests_reports_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


runs = _beside("runs")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run after the given fields of `Recipe` and returns its folder."""

    def make(name: str = "run", **fields: object) -> Path:
        return runs.write_run(tmp_path / name, msgspec.convert(fields, runs.Recipe))

    return make


class Page(HTMLParser):
    """A page taken apart: `problems` lists every tag that is not closed, or closed by another's end tag."""

    VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "source", "wbr"})

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.html = content.decode()
        self.feed(self.html)
        self.close()
        self.problems += [f"{tag} is never closed" for tag in self.open]
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> at {self.getpos()} closes {self.open[-1:]}")
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.words.append(data)

    @property
    def svgs(self) -> list[str]:
        """The source of every SVG element that lies in no other."""
        found: list[str] = []
        depth = start = 0
        for tag in re.finditer(r"<(/?)svg\b[^>]*>", self.html):
            if not tag[1]:
                start = tag.start() if depth == 0 else start
                depth += 1
            else:
                depth -= 1
                if depth == 0:
                    found.append(self.html[start : tag.end()])
        return found


@pytest.fixture
def parse_page() -> Callable[[bytes], Page]:
    """Return a function that takes a page apart."""
    return Page


@pytest.fixture
def make_view(make_run: Callable[..., Path]) -> Callable[..., RunView]:
    """Return a function that makes the view of a run with the given verdict and fields of `Recipe`."""

    def make(verdict: RunVerdict | None = None, name: str = "run", **fields: object) -> RunView:
        shown = verdict or RunVerdict(verdict=Verdict.PASS, why="All held.", checks=(), undone=True, figures={})
        return view_of(load_journal(make_run(name, **fields) / "journal.jsonl"), shown)

    return make


@pytest.fixture
def make_verdict() -> Callable[..., RunVerdict]:
    """Return a function that makes the verdict of a run with one check of every kind of outcome given."""

    def make(*outcomes: str, run: str | None = None, text: str = "") -> RunVerdict:
        checks = tuple(
            Check(
                group="threshold" if outcome == "partial" else "invariant",
                name=f"check {n} {text}",
                verdict=Verdict(outcome),
                figure="9" + text,
                limit="0" + text,
                margin="-9",
                reason=f"Reason {n}. {text}",
                severity="advisory" if outcome == "partial" else "required",
                examined=1200,
                evidence=(Evidence(text=f"evidence {n} {text}", at_s=10.0 + n, request_id="000200"),),
            )
            for n, outcome in enumerate(outcomes)
        )
        verdict = Verdict(run) if run else worst([check.verdict for check in checks])
        return RunVerdict(
            verdict=verdict, why=f"Why. {text}", checks=checks, undone=True, figures={"success_rate": 0.9925}
        )

    return make

"""From a folder with a journal to its reports: same bytes each time, whole files or none, bounded size and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from junitparser import JUnitXml

from reports.render import render, write_atomically
from reports.suite import render_suite
from seawall.journal.read import JournalError
from seawall.verdicts.model import RunVerdict, Verdict

FILES = ("index.html", "junit.xml", "summary.md", "verdict.json")
MakeRun = Callable[..., Path]


def test_the_same_journal_gives_the_same_bytes(make_run: MakeRun) -> None:
    """Rendering twice, and in another folder, changes no byte of any report."""
    one, other = make_run("one", cut=3), make_run("other", cut=3)
    render(one)
    first = {name: (one / name).read_bytes() for name in FILES}
    render(one)
    render(other)
    for name in FILES:
        assert (one / name).read_bytes() == first[name]
        assert (other / name).read_bytes() == first[name]


def test_the_reports_tell_the_verdict_that_is_returned(make_run: MakeRun) -> None:
    """verdict.json holds the returned verdict; the page, the summary and the JUnit file agree with it."""
    folder = make_run(cut=5)
    verdict = render(folder)
    assert verdict.verdict is Verdict.FAIL
    assert msgspec.json.decode((folder / "verdict.json").read_bytes(), type=RunVerdict) == verdict
    assert f'class="verdict v-{verdict.verdict}"' in (folder / "index.html").read_text()
    assert f" {verdict.verdict}: " in (folder / "summary.md").read_text().splitlines()[0]
    xml = JUnitXml.fromfile(str(folder / "junit.xml"))
    assert xml.tests == len(verdict.checks)
    assert xml.failures == sum(1 for check in verdict.checks if check.verdict is Verdict.FAIL)
    assert xml.errors == sum(1 for check in verdict.checks if check.verdict is Verdict.INVALID)


@pytest.mark.parametrize(
    "fields",
    [
        {"requests": 0, "spells": []},
        {"requests": 1, "duration_s": 1.0, "spells": []},
        {"spells": []},
        {"killed": True},
        {"unmet": True},
        {"observes": ["request"]},
        {"scenario": "no: [scenario"},
    ],
)
def test_poor_journals_are_rendered(fields: dict[str, Any], make_run: MakeRun, parse_page: Any) -> None:
    """No requests, one, no faults, no end, a fault without effect, little observed: every report is written."""
    folder = make_run(**fields)
    render(folder)
    assert parse_page((folder / "index.html").read_bytes()).problems == []
    assert all((folder / name).stat().st_size for name in FILES)


@pytest.mark.parametrize("content", [b"", b"not a journal\n", None])
def test_no_journal_is_an_error_and_writes_nothing(content: bytes | None, tmp_path: Path) -> None:
    """A journal that is missing, empty or of something else is named in an error; no half report is left."""
    if content is not None:
        (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(JournalError):
        render(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"journal.jsonl"}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """A write that fails leaves the old file and nothing else in the folder."""
    path = tmp_path / "report"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_fifty_thousand_requests_stay_small(make_run: MakeRun) -> None:
    """The page of 50,000 requests is under 300 KB and ready in bounded time."""
    folder = make_run(
        requests=50_000,
        duration_s=500.0,
        spells=[{"id": "dark", "at_s": 100.0, "duration_s": 200.0, "target": "gemini"}],
    )
    started = time.monotonic()
    render(folder)
    assert time.monotonic() - started < 60
    assert (folder / "index.html").stat().st_size < 300_000


def test_a_suite_is_a_matrix_with_links(make_run: MakeRun, tmp_path: Path, parse_page: Any) -> None:
    """Each run is in the matrix with its verdict and a link to its own report; the worst verdict is returned."""
    good, bad = make_run("good one", scenario_name="a-good"), make_run("bad", scenario_name="b-bad", cut=5)
    verdicts = [render(good), render(bad)]
    out = tmp_path / "suite"
    assert render_suite(out, [bad, good]) is Verdict.FAIL
    page = parse_page((out / "index.html").read_bytes())
    assert page.problems == []
    links = [values["href"] for tag, values in page.tags if tag == "a"]
    assert {"../good%20one/index.html", "../bad/index.html"} == set(links)
    assert page.text.index("a-good") < page.text.index("b-bad")
    xml = JUnitXml.fromfile(str(out / "junit.xml"))
    assert xml.tests == sum(len(verdict.checks) for verdict in verdicts)
    assert "](../bad/index.html)" in (out / "summary.md").read_text()


def test_a_suite_with_an_unreadable_run_is_invalid(make_run: MakeRun, tmp_path: Path) -> None:
    """A run without a journal is shown as invalid and fails CI; an empty suite is still a page."""
    (tmp_path / "lost").mkdir()
    assert render_suite(tmp_path / "suite", [tmp_path / "lost"]) is Verdict.INVALID
    assert JUnitXml.fromfile(str(tmp_path / "suite" / "junit.xml")).errors == 1
    assert "lost" in (tmp_path / "suite" / "index.html").read_text()
    render_suite(tmp_path / "none", [])
    assert "No run was given" in (tmp_path / "none" / "index.html").read_text()

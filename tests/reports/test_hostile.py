"""Whatever words stand in a journal, the reports keep their structure and their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from junitparser import JUnitXml
from played import HOSTILE, HUGE, play

from reports.annotations import annotations_of
from reports.render import render, view_in

SCENARIO = """\
version: 1
title: Gemini cuts streams, and nobody mends them
seed: 7
system: {gateway: seawall, settings: {midstream: error}}
load: {executor: constant-arrival-rate, rate: 25/s, duration: 12s, stream: 70%}
faults:
  - {id: cut, at: 4s, duration: 4s, target: gemini, respond: {cut_after_chunks: 5}, injection_rate: 40%}
expect:
  thresholds:
    - {metric: success_rate, limit: ">= 99.9%"}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with hostile words wherever there may be any, some errors a megabyte long."""
    folder = play(SCENARIO, tmp_path_factory.mktemp("runs") / "hostile", hostile=HOSTILE)
    assert (folder / "journal.jsonl").stat().st_size > 2 * HUGE
    render(folder)
    return folder


def test_megabytes_of_errors_make_no_megabytes_of_report(hostile: Path) -> None:
    """The page stays within its 250 KB, and what CI reads stays small; what was cut says how long it was."""
    assert (hostile / "index.html").stat().st_size < 250_000
    assert (hostile / "junit.xml").stat().st_size < 250_000
    assert (hostile / "summary.md").stat().st_size < 50_000
    assert "characters in all)" in (hostile / "index.html").read_text()


def test_hostile_words_never_become_markup(hostile: Path, parse_page: Any) -> None:
    """No tag, control character or mark of direction of the journal reaches the page; all of it can be read there."""
    page = parse_page((hostile / "index.html").read_bytes())
    assert page.problems == []
    assert not {"img"} & {tag for tag, _ in page.tags}
    assert not [values for _, values in page.tags if any(name.startswith("on") for name in values)]
    assert not set(page.html) & set("\x00\x1b\u202e\u2066")
    assert page.text.count("onerror=alert(1)") > 10


def test_hostile_words_keep_the_xml_whole(hostile: Path) -> None:
    """The JUnit file parses and has a case a check."""
    verdict = msgspec.json.decode((hostile / "verdict.json").read_bytes())
    assert JUnitXml.fromfile(str(hostile / "junit.xml")).tests == len(verdict["checks"])


def test_hostile_words_make_no_second_command(hostile: Path) -> None:
    """An annotation is one line that begins with its command, whatever it tells."""
    found = annotations_of(view_in(hostile))
    assert found
    for line in found:
        assert line.startswith(("::error ", "::warning "))
        assert not set(line) & set("\r\n\x00\x1b\u202e")
        properties, _, message = line.partition("::")[2].partition("::")
        assert properties.count("title=") == 1
        assert message

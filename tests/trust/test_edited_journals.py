"""A journal that was edited by hand is called so, and is never a pass that says nothing of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played import play

from seawall.cli import main
from seawall.journal.read import JournalError, load_journal
from seawall.journal.seal import seal_in
from seawall.scenario import load_text
from seawall.simulation.run import write_journal
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Verdict

SCENARIO = """
version: 1
title: Gemini goes dark
arenas: [simulation]
seed: 7
load: {executor: constant-arrival-rate, rate: 20/s, duration: 6s}
"""
Lines = list[bytes]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a run that passes."""
    return (play(SCENARIO, tmp_path_factory.mktemp("runs") / "whole") / "journal.jsonl").read_bytes()


def changed(lines: Lines, kind: str, /, **fields: Any) -> Lines:
    """Return the lines with other values in the fourth event of a kind."""
    places = [place for place, line in enumerate(lines) if f'"kind":"{kind}"'.encode() in line]
    place = places[min(3, len(places) - 1)]
    event = json.loads(lines[place]) | fields
    return [*lines[:place], json.dumps(event, separators=(",", ":")).encode() + b"\n", *lines[place + 1 :]]


def without(lines: Lines, words: bytes) -> Lines:
    """Return the lines without the first that has these words."""
    place = next(place for place, line in enumerate(lines) if words in line)
    return [*lines[:place], *lines[place + 1 :]]


EDITS: dict[str, Callable[[Lines], Lines]] = {
    "a changed outcome": lambda lines: changed(lines, "request", outcome="cut"),
    "a changed provider": lambda lines: changed(lines, "call", provider="claude"),
    "a request taken out": lambda lines: without(lines, b'"kind":"request"'),
    "the header taken out": lambda lines: without(lines, b'"kind":"header"'),
    "the end taken out": lambda lines: without(lines, b'"kind":"end"'),
    "another order": lambda lines: [lines[5], *lines[:5], *lines[6:]],
    "a line twice": lambda lines: [*lines[:5], lines[4], *lines[5:]],
    "a truncated line": lambda lines: [*lines[:5], lines[5][:20] + b"\n", *lines[6:]],
    "a truncated end": lambda lines: [*lines[:-1], lines[-1][:-9]],
    "cut in the middle": lambda lines: lines[: len(lines) // 2],
    "an unknown kind": lambda lines: changed(lines, "request", kind="requset"),
    "another kind": lambda lines: changed(lines, "request", kind="end"),
    "a number as text": lambda lines: changed(lines, "request", end_ns="12"),
    "a negative time": lambda lines: changed(lines, "request", intended_ns=-5, sent_ns=-4, mono_ns=-3),
    "not a number": lambda lines: changed(lines, "lag", p99_ms=math.nan) if b"lag" in b"".join(lines) else lines[1:],
    "infinity": lambda lines: [lines[0].replace(b'"wall":', b'"wall":Infinity,"x":', 1), *lines[1:]],
    "an empty line": lambda lines: [*lines[:5], b"\n", *lines[5:]],
    "spaces put in": lambda lines: [lines[0].replace(b",", b", "), *lines[1:]],
    "another scenario": lambda lines: [line.replace(b"rate: 20/s", b"rate: 10/s") for line in lines],
    "a line after the end": lambda lines: [*lines, lines[3]],
    "the whole of it twice": lambda lines: [*lines, *lines],
    "a seal that was reckoned wrong": lambda lines: [*lines[:-1], lines[-1].replace(b'"sha256":"', b'"sha256":"0')],
    "a seal that was spelled otherwise": lambda lines: [*lines[:-1], lines[-1].replace(b'{"v":1,', b'{"v": 1,')],
    "a seal of numbers": lambda lines: [*lines[:-1], lines[-1].replace(b'"lines":', b'"lines":"x","y":')],
    "Windows line ends": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "a mark at the beginning": lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
}


@pytest.mark.parametrize("name", EDITS)
def test_a_journal_edited_by_hand_is_called_so(
    name: str, whole: bytes, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`seawall report` says in one line that it was edited, where that shows, and the verdict is `invalid`."""
    (here / "run").mkdir()
    path = here / "run" / "journal.jsonl"
    path.write_bytes(b"".join(EDITS[name](whole.splitlines(keepends=True))))
    verdict = judge(load_journal(path))
    is_cut = name == "cut in the middle"
    assert verdict.verdict is Verdict.INVALID
    assert is_cut or "edited after the run" in verdict.why, verdict.why
    assert main(["report", "run"]) == 3
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    first = next(line for line in said.out.splitlines() if line.startswith("INVALID"))
    assert is_cut or "edited after the run" in first
    assert json.loads((here / "run" / "verdict.json").read_bytes())["verdict"] == "invalid"


def test_a_whole_journal_passes_and_one_without_a_seal_says_so(whole: bytes, here: Path) -> None:
    """As it is it passes, and says that nothing was changed; without its last line, that a change would not show."""
    path = here / "journal.jsonl"
    path.write_bytes(whole)
    verdict = judge(load_journal(path))
    assert verdict.verdict is Verdict.PASS, verdict.why
    assert "None was changed after the run" in next(
        c.reason for c in verdict.checks if c.name == "the journal is whole"
    )
    assert "seal" not in verdict.why
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    verdict = judge(load_journal(path))
    assert verdict.verdict is Verdict.PASS
    assert "the journal has no seal, so an edit would not show" in verdict.why


def test_an_edit_of_the_parts_is_called_so_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal that is made again from edited parts is no pass, however often; from the old parts it is one again."""
    loaded = load_text(SCENARIO, "played.yaml")
    run = here / "run"
    run.mkdir()
    write_journal(loaded, loaded.scenario, run)
    path = run / "journal.jsonl"
    before = path.read_bytes()
    assert main(["report", "run"]) == 0
    assert path.read_bytes() == before
    assert capsys.readouterr().err == ""
    (part,) = run.glob("events-load-*.jsonl")
    parts = part.read_bytes()
    part.write_bytes(parts.replace(b'"outcome":"whole"', b'"outcome":"error"', 1))
    for _ in range(3):
        assert main(["report", "run"]) == 3
        assert "edited after the run: its events-*.jsonl give another journal" in capsys.readouterr().out
    part.write_bytes(parts)
    assert main(["report", "run"]) == 0
    assert path.read_bytes() == before
    capsys.readouterr()
    path.write_bytes(before.replace(b'"outcome":"whole"', b'"outcome":"error"', 1))
    assert main(["report", "run"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "it was made anew from them" in line
    assert path.read_bytes() == before
    assert seal_in(path) is not None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bytes_are_a_judged_journal_or_one_clear_error(data: st.DataObject, whole: bytes) -> None:
    """Bytes overwritten, taken out or put in anywhere: the verdict is no pass, or there is a JournalError."""
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 3000)))
    put = data.draw(
        st.one_of(st.binary(max_size=60), st.sampled_from([b"\n", b"NaN", b"-1", b'"x"', b"null", b"{}\n"]))
    )
    path = Path("journal.jsonl")
    edited = whole[:start] + put + whole[end:]
    path.write_bytes(edited)
    try:
        verdict = judge(load_journal(path))
    except JournalError:
        return
    if edited == whole:
        assert verdict.verdict is Verdict.PASS
    elif seal_in(path) is not None or verdict.verdict is not Verdict.PASS:
        assert verdict.verdict is Verdict.INVALID, verdict.why
    else:
        assert "no seal" in verdict.why

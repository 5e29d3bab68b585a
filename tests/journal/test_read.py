"""A journal is read as far as it can be: torn, edited, of other versions, of any size."""

from __future__ import annotations

import gc
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from journal_builder import HARNESS, T0, Recording, healthy, line_of, ns, request

from seawall.journal.events import End, Fault, Lag, Note, RequestRecord, Stamped
from seawall.journal.read import JournalError, Tally, load_journal, read_journal
from seawall.verdicts.judge import judge

DEEP = b"[" * 9999 + b"\n"


def written(run: Recording, folder: Path) -> Path:
    path = folder / "journal.jsonl"
    path.write_bytes(b"".join(map(line_of, run.stamped())))
    return path


def note(mono_ns: int = 5, **head: object) -> dict[str, object]:
    return {"v": 1, "kind": "note", "mono_ns": mono_ns, "wall": 1.5, "source": "a-1", "seq": 0, "text": "x"} | head


def test_a_journal_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Every event of every kind is decoded to what was encoded, with its place."""
    run = healthy(seconds=5)
    assert list(read_journal(written(run, tmp_path))) == run.stamped()


def test_unknown_kinds_are_skipped_and_counted_and_unknown_fields_ignored(tmp_path: Path) -> None:
    """A journal of a later minor version can be read."""
    path = tmp_path / "journal.jsonl"
    lines = [note(novelty=[1, 2]), note(kind="weather", wind=3), note(kind="weather", wind=4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tally = Tally()
    assert [stamped.event for stamped in read_journal(path, tally)] == [Note(text="x")]
    assert (tally.unknown_kinds, tally.bad_lines) == ({"weather": 2}, 0)


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """What is written under other rules is not guessed at."""
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps(note()) + "\n" + json.dumps(note(v=2)) + "\n")
    with pytest.raises(JournalError, match=r"journal.jsonl, line 2: is of journal version 2"):
        load_journal(path)


@pytest.mark.parametrize("bad", [b"nonsense\n", b'{"v":1}\n', b"[]\n", b'{"v":1,"kind":"note"}\n', b"\xff\n", DEEP])
def test_a_bad_line_raises_when_strict_and_is_told_when_not(tmp_path: Path, bad: bytes) -> None:
    """Line and reason are named; the view of the rest can be used, and its verdict is `invalid`."""
    run = healthy()
    path = written(run, tmp_path)
    whole = path.read_bytes()
    cut = whole.index(b"\n") + 1
    path.write_bytes(whole[:cut] + bad + whole[cut:])
    with pytest.raises(JournalError, match="line 2: is no event"):
        list(read_journal(path))
    journal = load_journal(path)
    assert journal.tally.bad_lines == 1
    assert journal.tally.problems[0].startswith("line 2: ")
    assert len(journal.requests) == 800
    verdict = judge(journal)
    assert verdict.verdict == "invalid"
    assert "the journal is whole: line 2" in verdict.why


def test_the_problems_told_are_bounded(tmp_path: Path) -> None:
    """A file of garbage after one good line gives its count and the first 100 reasons."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line_of(healthy(seconds=1).stamped()[0]) + b"garbage\n" * 300)
    tally = load_journal(path).tally
    assert (tally.bad_lines, len(tally.problems)) == (300, 100)


def test_a_torn_last_line_is_skipped_and_told(tmp_path: Path) -> None:
    """A journal that is still being copied reads up to its last whole line."""
    path = written(healthy(), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    journal = load_journal(path)
    assert (journal.tally.torn, journal.tally.bad_lines, journal.end) == (True, 0, None)
    assert len(list(read_journal(path))) == whole.count(b"\n") - 1


def test_a_file_that_is_not_there_or_no_journal_is_named(tmp_path: Path) -> None:
    """No traceback of somebody else: a JournalError with the reason."""
    with pytest.raises(JournalError, match="cannot be opened: No such file"):
        load_journal(tmp_path / "journal.jsonl")
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="it is empty"):
        load_journal(path)
    path.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(JournalError) as caught:
        load_journal(path)
    assert (caught.value.line, caught.value.path) == (1, path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_gives_a_partial_view_or_a_journal_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes are overwritten, left out or put in: a partial view and a verdict, or a JournalError."""
    whole = b"".join(map(line_of, SMALL.stamped()))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 2000)))
    damage = data.draw(st.binary(max_size=50))
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    path.write_bytes(whole[:start] + damage + whole[end:])
    with suppress(JournalError):
        assert judge(load_journal(path)).why


SMALL = healthy(seconds=2)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.sampled_from(SMALL.stamped()), max_size=30))
@example(lines=[])
def test_any_part_of_a_journal_can_be_judged(lines: list[Stamped], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half of a journal, or the same line twice, is no reason for a traceback; it never passes."""
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    path.write_bytes(b"".join(map(line_of, lines)))
    if not lines:
        with pytest.raises(JournalError):
            load_journal(path)
        return
    assert judge(load_journal(path)).verdict in ("fail", "invalid")


def test_times_are_seconds_after_the_start_of_the_load() -> None:
    """t0 is what `end` says; without it the first intended request, without any the first event."""
    run = healthy(seconds=2)
    assert (run.journal().t0_ns, run.journal().load_end_ns) == (T0, ns(2))
    assert run.journal().seconds(ns(1.5)) == 1.5
    run.drop(*run.of(End))
    assert (run.journal().t0_ns, run.journal().load_end_ns) == (T0, run.journal().last_ns)
    run.drop(*run.of(RequestRecord))
    assert run.journal().t0_ns == ns(-2)


def test_a_second_header_does_not_replace_the_first_and_the_last_end_counts() -> None:
    """Of a journal that was put together by hand the outermost events speak."""
    run = healthy(seconds=2)
    run.add(ns(1), HARNESS, msgspec.structs.replace(run.journal().header, run="other"))
    run.add(ns(1), HARNESS, End(reason="error"))
    journal = run.journal()
    assert journal.header is not None
    assert journal.end is not None
    assert (journal.header.run, journal.end.reason) == ("r1", "finished")


def test_every_kind_is_indexed() -> None:
    """Faults come with their measured intervals, the rest in lists."""
    journal = healthy().journal()
    assert [len(part) for part in (journal.requests, journal.lags, journal.notes, journal.processes)] == [800, 1, 1, 2]
    assert isinstance(journal.lags[0].event, Lag)
    dark = journal.faults["dark"]
    (interval,) = dark.intervals
    assert [journal.seconds(t or 0) for t in (interval.injected_ns, interval.active_ns)] == [8.0, 8.1]
    assert [journal.seconds(t or 0) for t in (interval.healing_ns, interval.healed_ns)] == [16.0, 16.1]
    assert (interval.met, interval.undo_verified, dark.planned_at_s, dark.duration_s) == (True, True, 8.0, 8.0)
    assert dark.evidence == {"active": {"probe_ms": 1000}}
    assert (journal.observes("call"), journal.observes("hpa")) == (True, False)


def test_a_fault_that_repeats_has_an_interval_each_time() -> None:
    """A new injection begins a new occurrence; a phase told twice keeps its first time."""
    run = Recording()
    for at_s, phase in ((1, "injecting"), (2, "active"), (2.5, "active"), (3, "healed"), (3.5, "healed"),
                        (5, "injecting"), (6, "healing"), (6.5, "healing")):  # fmt: skip
        fault = Fault(id="f", phase=phase, target="gemini", description="d", planned_at_s=1, duration_s=2)  # type: ignore[arg-type]
        run.add(ns(at_s), HARNESS, fault)
    first, second = run.journal().faults["f"].intervals
    assert (first.active_ns, first.healed_ns, first.healing_ns) == (ns(2), ns(3), None)
    assert (second.injected_ns, second.active_ns, second.healing_ns) == (ns(5), None, ns(6))


def test_phases_without_an_injection_still_make_an_interval() -> None:
    """A half-missing life of a fault is shown as far as it is known."""
    run = Recording()
    fault = Fault(id="f", phase="active", target="gemini", description="d", planned_at_s=1, duration_s=2)
    run.add(ns(2), HARNESS, fault)
    (interval,) = run.journal().faults["f"].intervals
    assert (interval.injected_ns, interval.active_ns) == (None, ns(2))


def test_loading_is_compact_and_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    """Under 5 kB of memory a request with all its events, so that 100,000 stay below 500 MB."""
    path = written(healthy(seconds=100), tmp_path)
    assert gc.isenabled()
    tracemalloc.start()
    journal = load_journal(path)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert gc.isenabled()
    assert len(journal.requests) == 2000
    assert used / 2000 < 5000
    gc.disable()
    try:
        load_journal(path)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_requests_with_a_refusal_keep_their_code() -> None:
    """Optional strings that are there are kept as they are."""
    run = Recording()
    run.add(ns(1), "load-2", request("000000", T0, code="all_clouds_down", outcome="refused"))
    assert run.journal().requests[0].code == "all_clouds_down"


def test_an_event_that_cannot_be_kept_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    """A number that no clock shows is somebody else's: told as a problem, never a traceback."""
    run = healthy(seconds=2)
    run.of(RequestRecord)[3].end_ns = 2**70
    journal = load_journal(written(run, tmp_path))
    assert (len(journal.requests), journal.tally.bad_lines) == (39, 1)
    assert "cannot be kept" in journal.tally.problems[0]


def test_an_injection_that_failed_is_no_second_occurrence() -> None:
    """It is told in the same phase as one that begins; one planned for another time is another."""
    run = Recording()
    for at_s, phase, planned_at_s, error in (
        (1, "injecting", 1, None),
        (2, "injecting", 1, "no"),
        (5, "injecting", 5, "no"),
    ):
        fault = Fault(
            id="f",
            phase=phase,
            target="gemini",
            description="d",
            planned_at_s=planned_at_s,
            duration_s=1,
            error=error,  # type: ignore[arg-type]
        )
        run.add(ns(at_s), HARNESS, fault)
    trace = run.journal().faults["f"]
    assert [(interval.injected_ns, interval.planned_at_s) for interval in trace.intervals] == [(ns(1), 1), (ns(5), 5)]
    assert trace.errors == ["no", "no"]

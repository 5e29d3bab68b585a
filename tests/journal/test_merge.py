"""Many processes' files become one journal, in order of time, whatever state they were left in."""

from __future__ import annotations

import heapq
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_builder import Recording, healthy, line_of, ns

from seawall.journal import merge as module
from seawall.journal.events import Note, Process, Stamped
from seawall.journal.merge import merge
from seawall.journal.read import JournalError, load_journal, read_journal
from seawall.journal.writer import EVENTS_VARIABLE, EventWriter


def stamped(mono_ns: int, source: str, seq: int, text: str = "x") -> Stamped:
    return Stamped(mono_ns=mono_ns, wall=1.0, source=source, seq=seq, event=Note(text=text))


def places(path: Path) -> list[tuple[int, str, int]]:
    return [(event.mono_ns, event.source, event.seq) for event in read_journal(path)]


def test_the_journal_is_in_order_of_time_source_and_number(tmp_path: Path) -> None:
    """The events of all processes come out by (mono_ns, source, seq), none lost."""
    run = healthy(seconds=5)
    run.write(tmp_path)
    result = merge(tmp_path)
    expected = sorted((e.mono_ns, e.source, e.seq) for e in run.stamped())
    assert places(result.path) == expected
    assert (result.events, result.torn_lines, result.bad_lines) == (len(expected), 0, 0)


def test_merging_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """A second merge changes nothing, with notes in the journal too, and leaves no other file behind."""
    run = healthy(seconds=2)
    run.of(Process, action="exit")[0].code = -9
    run.write(tmp_path)
    first = merge(tmp_path).path.read_bytes()
    assert merge(tmp_path).path.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("events-")) == ["journal.jsonl"]


@settings(max_examples=25, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc")), min_size=1, max_size=40),
    files=st.lists(st.integers(0, 4), min_size=40, max_size=40),
)
def test_how_the_events_are_spread_over_files_does_not_matter(events: list[tuple[int, str]], files: list[int]) -> None:
    """The same events in other files, in any order within the bound, give the same journal."""
    lines = [line_of(stamped(at, source, seq)) for seq, (at, source) in enumerate(events)]
    journals: list[bytes] = []
    for spread in (files, [0] * len(files)):
        with TemporaryDirectory() as name:
            for line, number in zip(lines, spread, strict=False):
                with (Path(name) / f"events-p-{number}.jsonl").open("ab") as file:
                    file.write(line)
            journals.append(merge(Path(name)).path.read_bytes())
    assert journals[0] == journals[1]


def test_a_torn_last_line_is_dropped_and_counted(tmp_path: Path) -> None:
    """A process killed in a write loses that event only; the journal says so in a warning."""
    run = healthy(seconds=2)
    run.write(tmp_path)
    with (tmp_path / "events-load-2.jsonl").open("ab") as file:
        file.write(b'{"v":1,"mono_ns":10')
    result = merge(tmp_path)
    assert (result.torn_lines, result.bad_lines) == (1, 0)
    (note,) = [timed for timed in load_journal(result.path).notes if timed.source == "merge"]
    assert note.event.level == "warning"
    assert "events-load-2.jsonl ends within line" in note.event.text


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    """Only the newline was lost: the event is there."""
    (tmp_path / "events-a-1.jsonl").write_bytes(line_of(stamped(1, "a-1", 0)).rstrip(b"\n"))
    (tmp_path / "events-b-1.jsonl").write_bytes(line_of(stamped(2, "b-1", 0)))
    result = merge(tmp_path)
    assert places(result.path) == [(1, "a-1", 0), (2, "b-1", 0)]
    assert result.torn_lines == 0


@pytest.mark.parametrize("bad", [b"not json", b"\x00\x00", b"{}", b"\xff\xfe", b'{"v":1,"mono_ns":"x"}', b""])
def test_a_bad_line_in_the_middle_is_counted_and_told(tmp_path: Path, bad: bytes) -> None:
    """What cannot be decoded is left out; the rest is merged, and an error note says which line it was."""
    good = [line_of(stamped(n, "a-1", n)) for n in range(2)]
    (tmp_path / "events-a-1.jsonl").write_bytes(good[0] + bad + b"\n" + good[1])
    result = merge(tmp_path)
    assert (result.torn_lines, result.bad_lines, result.events) == (0, 1, 3)
    note = load_journal(result.path).notes[-1]
    assert (note.event.level, note.source) == ("error", "merge")
    assert "events-a-1.jsonl, line 2" in note.event.text


def test_a_line_longer_than_any_event_is_bad_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without newlines is not read into memory; what comes after the next newline is."""
    monkeypatch.setattr("seawall.journal.read.LINE_BYTES_MAX", 300)
    (tmp_path / "events-a-1.jsonl").write_bytes(b"x" * 5000 + b"\n" + line_of(stamped(7, "a-1", 0)))
    result = merge(tmp_path)
    assert (result.bad_lines, places(result.path)[0]) == (1, (7, "a-1", 0))


@pytest.mark.parametrize(("code", "noted"), [(-9, True), (1, True), (0, False), (None, False)])
def test_a_process_that_ended_badly_is_noted(tmp_path: Path, code: int | None, noted: bool) -> None:
    """An exit by a signal or with a code is remarked on, for events may be missing; nothing else is made up."""
    run = Recording()
    run.add(ns(1), "harness-1", Process(name="gateway-1", action="exit", pid=4, code=code))
    run.write(tmp_path)
    journal = load_journal(merge(tmp_path).path)
    assert [timed.event.text for timed in journal.notes] == (
        [f"process gateway-1 (pid 4) ended with code {code}"] if noted else []
    )


def test_late_stamps_within_the_bound_are_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event stamped earlier than the lines before it finds its place, up to REORDER_LINES lines away."""
    monkeypatch.setattr(module, "REORDER_LINES", 3)
    times = [1, 5, 6, 2, 7, 8, 9]
    (tmp_path / "events-a-1.jsonl").write_bytes(b"".join(line_of(stamped(t, "a-1", n)) for n, t in enumerate(times)))
    result = merge(tmp_path)
    assert [place[0] for place in places(result.path)] == sorted(times)
    assert result.events == len(times)


def test_a_stamp_beyond_the_bound_is_merged_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, nothing held without bound, and the journal says that it is out of order."""
    monkeypatch.setattr(module, "REORDER_LINES", 3)
    times = [3, 5, 6, 7, 8, 9, 2]
    (tmp_path / "events-a-1.jsonl").write_bytes(b"".join(line_of(stamped(t, "a-1", n)) for n, t in enumerate(times)))
    journal = load_journal(merge(tmp_path).path)
    assert sorted(t.mono_ns for t in journal.notes if t.source == "a-1") == sorted(times)
    assert "1 events came over 3 lines too late" in journal.notes[-1].event.text


def test_memory_is_bounded_by_the_lines_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a file is, never more of its lines are held than the bound."""
    monkeypatch.setattr(module, "REORDER_LINES", 16)
    longest = 0

    def push(held: list[object], line: object) -> object:
        nonlocal longest
        longest = max(longest, len(held) + 1)
        return heapq.heappushpop(held, line)  # type: ignore[type-var]

    monkeypatch.setattr(
        module,
        "heapq",
        type(
            "H",
            (),
            {
                "heappush": heapq.heappush,
                "heappop": heapq.heappop,
                "heappushpop": staticmethod(push),
                "merge": heapq.merge,
            },
        ),
    )
    (tmp_path / "events-a-1.jsonl").write_bytes(b"".join(line_of(stamped(n, "a-1", n)) for n in range(1000)))
    assert merge(tmp_path).events == 1000
    assert longest == 17


def test_a_folder_without_events_is_no_run(tmp_path: Path) -> None:
    """An old journal is not replaced by an empty one."""
    (tmp_path / "journal.jsonl").write_bytes(b"old")
    with pytest.raises(JournalError, match="nothing to merge"):
        merge(tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == b"old"


def test_the_notes_are_bounded(tmp_path: Path) -> None:
    """A file of garbage gives a count and at most 100 notes."""
    (tmp_path / "events-a-1.jsonl").write_bytes(b"garbage\n" * 500)
    result = merge(tmp_path)
    assert (result.bad_lines, result.events) == (500, 100)


def test_a_process_finds_its_folder_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEAWALL_EVENTS names the folder; without it a process writes no events."""
    monkeypatch.delenv(EVENTS_VARIABLE, raising=False)
    assert EventWriter.from_environment("role") is None
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path))
    writer = EventWriter.from_environment("role")
    assert writer is not None
    writer.write(Note(text="x"))
    writer.close()
    assert merge(tmp_path).events == 1


def test_what_the_writer_writes_is_merged(tmp_path: Path) -> None:
    """The real writer's file goes through, closed or not."""
    times = iter(range(10))
    writer = EventWriter(tmp_path, "role", mono_ns=lambda: next(times))
    writer.write(Note(text="one"))
    writer.write(Note(text="early"), mono_ns=-5)
    journal = load_journal(merge(tmp_path).path)
    assert [timed.event.text for timed in journal.notes] == ["early", "one"]
    writer.close()
    writer.close()

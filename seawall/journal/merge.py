"""
Merge what the processes of a run wrote into one journal, in order of time.

Memory is bounded whatever the size of the run: of each `events-*.jsonl` at most REORDER_LINES lines are held. A process
stamps an event when it writes it, so its file is in order but for events that it stamped itself (another thread's, an
earlier moment's); these may stand up to REORDER_LINES lines too late. One that is later still is merged where it is
found and reported in a note; readers sort anyway.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from seawall.journal.events import VERSION, Note, Process
from seawall.journal.read import JournalError, lines_of
from seawall.journal.seal import Seal, line_of_seal
from seawall.journal.view import MERGE_SOURCE

__all__ = ["JOURNAL_NAME", "REORDER_LINES", "MergeResult", "merge"]

JOURNAL_NAME = "journal.jsonl"
REORDER_LINES = 4096
_NOTES_MAX = 100


class MergeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge made. A torn line is a last one that was cut off; any other that cannot be decoded is a bad one."""

    path: Path
    events: int
    """Lines of the journal, the notes of the merge among them and its seal not."""
    torn_lines: int
    bad_lines: int


class _Line(msgspec.Struct, frozen=True, order=True, array_like=True):
    mono_ns: int
    source: str
    seq: int
    text: bytes


class _Head(msgspec.Struct, kw_only=True):
    mono_ns: int
    wall: float
    source: str
    seq: int
    kind: str


class _Remarks:
    """What the merge has to say: counts, and notes for the journal."""

    def __init__(self) -> None:
        self.torn_lines = 0
        self.bad_lines = 0
        self.notes: list[Note] = []
        self.last_ns = 0
        self.wall = 0.0

    def add(self, level: Literal["warning", "error"], text: str) -> None:
        if len(self.notes) < _NOTES_MAX:
            self.notes.append(Note(text=text, level=level))


_HEAD = msgspec.json.Decoder(_Head)
_PROCESS = msgspec.json.Decoder(Process)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def merge(folder: Path, *, first: Seal | None = None) -> MergeResult:
    """
    Merge the `events-*.jsonl` of `folder` into its `journal.jsonl`, by (mono_ns, source, seq), and return the counts.

    The journal appears whole or not at all. Merging again gives the same bytes. Notes of level `error` say that
    evidence is missing, of level `warning` that a process ended badly or was cut off in a line; they stand at the end,
    before the seal (`seal.py`). `first` is the seal of an earlier merge: the new one tells when the files, which give
    something else now, were edited in between.
    Raises JournalError when there is nothing to merge, OSError when the disk refuses.
    """
    parts = sorted(folder.glob("events-*.jsonl"))
    target = folder / JOURNAL_NAME
    odd = next((part for part in parts if not part.is_file()), None)
    if odd is not None:  # a pipe or a device may have no end
        raise JournalError(odd, None, "is not a file; take it out of the folder")
    if not parts:
        raise JournalError(target, None, "nothing to merge: the folder has no events-*.jsonl")
    remarks = _Remarks()
    unfinished = folder / f".{JOURNAL_NAME}.{os.getpid()}"
    try:
        with unfinished.open("wb") as file:
            events = _write(file, heapq.merge(*(_in_order(part, remarks) for part in parts)), remarks, first)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return MergeResult(path=target, events=events, torn_lines=remarks.torn_lines, bad_lines=remarks.bad_lines)


def _write(file: BinaryIO, lines: Iterable[_Line], remarks: _Remarks, first: Seal | None) -> int:
    events = late = 0
    last: _Line | None = None
    digest = hashlib.sha256()
    for line in lines:
        file.write(line.text)
        digest.update(line.text)
        events += 1
        if last is not None and line < last:
            late += 1
        else:
            last = line
    if late:
        remarks.add("warning", f"{late} events came over {REORDER_LINES} lines too late and stand out of order")
    for seq, note in enumerate(remarks.notes):
        stamp = {"v": VERSION, "mono_ns": remarks.last_ns, "wall": remarks.wall, "source": MERGE_SOURCE, "seq": seq}
        line = msgspec.json.encode(stamp)[:-1] + b"," + msgspec.json.encode(note)[1:] + b"\n"
        file.write(line)
        digest.update(line)
    count = events + len(remarks.notes)
    now = digest.hexdigest()
    then = now if first is None else first.first_sha256 or first.sha256
    seal = Seal(lines=count, sha256=now, first_sha256=None if then == now else then)
    file.write(line_of_seal(seal, mono_ns=remarks.last_ns, wall=remarks.wall, seq=len(remarks.notes)))
    return count


def _in_order(part: Path, remarks: _Remarks) -> Iterator[_Line]:
    """Yield the lines of one file in order, as far as REORDER_LINES lines held back can make it."""
    held: list[_Line] = []
    for line in _decoded(part, remarks):
        if len(held) < REORDER_LINES:
            heapq.heappush(held, line)
        else:
            yield heapq.heappushpop(held, line)
    while held:
        yield heapq.heappop(held)


def _decoded(part: Path, remarks: _Remarks) -> Iterator[_Line]:
    with part.open("rb") as file:
        for number, (text, ended) in enumerate(lines_of(file), start=1):
            try:
                head = _HEAD.decode(text)
                if head.kind == "process":
                    _remark_on_exit(_PROCESS.decode(text), remarks)
            except _UNREADABLE as error:
                if ended:
                    remarks.bad_lines += 1
                    remarks.add("error", f"{part.name}, line {number} is no event and was left out: {error}")
                else:
                    remarks.torn_lines += 1
                    remarks.add("warning", f"{part.name} ends within line {number}, which was left out")
                continue
            if head.mono_ns > remarks.last_ns:
                remarks.last_ns, remarks.wall = head.mono_ns, head.wall
            yield _Line(head.mono_ns, head.source, head.seq, text if ended else text + b"\n")


def _remark_on_exit(process: Process, remarks: _Remarks) -> None:
    if process.action == "exit" and process.code not in (0, None):
        remarks.add("warning", f"process {process.name} (pid {process.pid}) ended with code {process.code}")

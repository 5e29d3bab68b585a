"""
Read a journal back: as a stream of events, or as an indexed view that verdicts and reports are computed from.

A journal may come from a killed run, another version or somebody's editor. What can be read is read; what cannot is
counted with its line and reason. Nothing here depends on the order of the lines.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from seawall.journal.events import VERSION, JournalEvent, Stamped
from seawall.journal.seal import SealWatch
from seawall.journal.view import Journal, Tally, Timed, index

__all__ = [
    "LINE_BYTES_MAX",
    "Journal",
    "JournalError",
    "Tally",
    "Timed",
    "index",
    "lines_of",
    "load_journal",
    "read_journal",
]

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line is no event of ours; it is counted as undecodable and not kept in memory."""


class JournalError(Exception):
    """A journal cannot be read; `line` counts from 1, and is None where no line is at fault."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {reason}")
        self.path = path
        self.line = line
        self.reason = reason


class _Head(msgspec.Struct, kw_only=True):
    v: int
    kind: str
    mono_ns: int
    wall: float
    source: str
    seq: int


_HEAD = msgspec.json.Decoder(_Head)
_EVENT: msgspec.json.Decoder[JournalEvent] = msgspec.json.Decoder(JournalEvent)
_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(JournalEvent))


def lines_of(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield each line and whether it has its newline; an overlong one is handed on cut to LINE_BYTES_MAX."""
    while line := file.readline(LINE_BYTES_MAX):
        ended = line.endswith(b"\n")
        while not ended and (rest := file.readline(LINE_BYTES_MAX)):
            ended = rest.endswith(b"\n")
        yield line, ended


def read_journal(path: Path, tally: Tally | None = None) -> Iterator[Stamped]:
    """
    Yield the events of a journal in the order of its lines.

    Unknown kinds and a torn last line are skipped, and counted in `tally`. With a tally undecodable lines are counted
    too; without one they raise. Raises JournalError when the file cannot be opened or is of a later version.
    What the journal's seal tells is in `tally` after the last event.
    """
    passed = Tally() if tally is None else tally
    watch = SealWatch()
    for number, (line, ended) in enumerate(watch.over(_lines_in(path)), start=1):
        if not line:  # a seal
            continue
        try:
            event = _decode(line, passed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not ended:
                passed.torn = True
                break
            if tally is None:
                raise JournalError(path, number, f"is no event: {error}") from error
            passed.add(f"line {number}: {error}")
            continue
        except _LaterVersionError as error:
            raise JournalError(path, number, str(error)) from error
        if event is not None:
            yield event
    watch.end(passed)


def load_journal(path: Path) -> Journal:
    """
    Return the indexed view of the journal at `path`, of what can be read of it.

    Raises JournalError when it cannot be opened, is of a later version, or holds no event at all.
    """
    tally = Tally()
    with _no_collection():
        journal = index(read_journal(path, tally), path, tally)
    if journal.events == 0:
        first = tally.problems[0] if tally.problems else "it is empty"
        raise JournalError(path, 1, f"no event of a journal in it ({first})")
    return journal


def _lines_in(path: Path) -> Iterator[tuple[bytes, bool]]:
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise JournalError(path, None, "is not a file; name the folder of a run")
        with path.open("rb") as file:
            yield from lines_of(file)
    except OSError as error:
        raise JournalError(path, None, f"cannot be opened: {error.strerror}") from error


class _LaterVersionError(Exception):
    pass


def _decode(line: bytes, tally: Tally) -> Stamped | None:
    head = _HEAD.decode(line)
    if head.v > VERSION:
        raise _LaterVersionError(f"is of journal version {head.v}; this Seawall reads up to {VERSION}")
    if head.kind not in _KINDS:
        tally.unknown_kinds[head.kind] = tally.unknown_kinds.get(head.kind, 0) + 1
        return None
    event = _EVENT.decode(line)
    return Stamped(mono_ns=head.mono_ns, wall=head.wall, source=head.source, seq=head.seq, event=event)


@contextmanager
def _no_collection() -> Generator[None]:
    """Pause the cyclic collector: it would walk half a million events again and again, and find no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

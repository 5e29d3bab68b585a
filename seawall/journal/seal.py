"""
The seal of a journal: its last line, with the SHA-256 of all lines before it, by which an edit shows.

    {"v":1,"kind":"seal",…,"lines":8123,"sha256":"…"}

It tells of an editor and of a broken copy. It keeps nobody from forging a journal: whoever wants to can make a seal as
well as we can.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from seawall.journal.view import MERGE_SOURCE, Tally

__all__ = ["Seal", "SealWatch", "body_sha256", "line_of_seal", "seal_in"]

_BEGIN = b'{"v":1,"kind":"seal",'
_BYTES_MAX = 1024
_KIND = "seal"


class Seal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a seal says."""

    lines: int
    """How many lines stand before it."""
    sha256: str
    """Of all of them, with their newlines."""
    first_sha256: str | None = None
    """What the parts of the run gave at its end, where they give something else now: they were edited after it."""


class SealWatch:
    """Goes along with the reading of a journal; `end` puts what its seal tells into a tally."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lines = 0
        self._sealed = False
        self._edited: str | None = None

    def over(self, lines: Iterable[tuple[bytes, bool]]) -> Iterator[tuple[bytes, bool]]:
        """Yield the lines, a seal as an empty one, so that they keep their numbers."""
        for line, ended in lines:
            if line.startswith(_BEGIN) and len(line) <= _BYTES_MAX and ended:
                self._take_seal(line)
                yield b"", ended
                continue
            if self._sealed:
                self._tell(f"line {self._lines + 2}: more was written after the seal")
            self._hash.update(line)
            self._lines += 1
            yield line, ended

    def end(self, tally: Tally) -> None:
        """Say in `tally` whether there is a seal, and what shows that the journal was edited."""
        tally.sealed = self._sealed
        if tally.torn:
            self._tell(f"line {self._lines}: it is cut off")
        if _KIND in tally.unknown_kinds:
            self._tell("its seal was written anew by another program")
        tally.edited = self._edited

    def _take_seal(self, line: bytes) -> None:
        number = self._lines + 1
        if self._sealed:
            self._tell(f"line {number + 1}: there is a second seal")
        self._sealed = True
        try:
            seal = msgspec.json.decode(line, type=Seal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._tell(f"line {number}: the seal cannot be read")
            return
        if seal.lines != self._lines:
            self._tell(f"line {number}: {seal.lines} lines were sealed, and {self._lines} stand before the seal")
        elif seal.sha256 != self._hash.hexdigest():
            self._tell(f"line {number}: the lines before do not give the SHA-256 of the seal")
        elif seal.first_sha256 is not None:
            self._tell("its events-*.jsonl give another journal than at its end")

    def _tell(self, what: str) -> None:
        self._edited = self._edited or what


def line_of_seal(seal: Seal, *, mono_ns: int, wall: float, seq: int) -> bytes:
    """Return the line that ends a journal."""
    stamp = {"mono_ns": mono_ns, "wall": wall, "source": MERGE_SOURCE, "seq": seq}
    return _BEGIN + msgspec.json.encode(stamp)[1:-1] + b"," + msgspec.json.encode(seal)[1:] + b"\n"


def seal_in(path: Path) -> Seal | None:
    """Return the seal at the end of the journal at `path`, whether it fits or not; None where there is none."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _BYTES_MAX))
            last = file.read(_BYTES_MAX).rstrip(b"\n").rpartition(b"\n")[2]
        return msgspec.json.decode(last, type=Seal) if last.startswith(_BEGIN) else None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def body_sha256(path: Path) -> str | None:
    """Return the SHA-256 of all lines of a journal but its seals; None where there is no journal."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while line := file.readline(1 << 20):
            if not line.startswith(_BEGIN):
                digest.update(line)
    return digest.hexdigest()

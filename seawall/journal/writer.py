"""
One process's part of the journal.

Each process appends to a file of its own, `events-<role>-<pid>.jsonl`: one event a line, one `write` an event on an
O_APPEND descriptor, nothing buffered, so that a killed process loses at most the event it was writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from seawall.journal.events import VERSION, JournalEvent

__all__ = ["EVENTS_VARIABLE", "EventWriter"]

EVENTS_VARIABLE = "SEAWALL_EVENTS"
"""The environment variable that names the run's folder to the processes of a run."""


class EventWriter:
    """
    Append events to `folder/events-<role>-<pid>.jsonl`.

    `mono_ns` and `wall` are the clocks, replaced in simulation. Not thread-safe: one writer a thread or loop.
    Raises OSError when the disk is full or the folder is gone.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *,
        mono_ns: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.source = f"{role}-{os.getpid()}"
        self.path = folder / f"events-{self.source}.jsonl"
        self._mono_ns = mono_ns
        self._wall = wall
        self._seq = 0
        self._encode = msgspec.json.Encoder().encode
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @classmethod
    def from_environment(cls, role: str) -> EventWriter | None:
        """Return a writer into the folder that SEAWALL_EVENTS names, or None when it names none."""
        folder = os.environ.get(EVENTS_VARIABLE)
        return cls(Path(folder), role) if folder else None

    def write(self, event: JournalEvent, *, mono_ns: int | None = None) -> None:
        """Append one event, stamped with `mono_ns` (default: now)."""
        head = self._encode(
            {
                "v": VERSION,
                "mono_ns": self._mono_ns() if mono_ns is None else mono_ns,
                "wall": round(self._wall(), 6),
                "source": self.source,
                "seq": self._seq,
            }
        )
        self._seq += 1
        # Both are JSON objects: join them without decoding and encoding again.
        os.write(self._fd, head[:-1] + b"," + self._encode(event)[1:] + b"\n")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

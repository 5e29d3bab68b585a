"""
The journal of a load that several processes make: workers ship their lines to the master, which writes them.

Each message says how many requests its worker had begun, and how many lines it has sent so far. So of a worker that is
lost the master knows what is missing: what it had begun and never told, and what was planned and never begun.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from seawall.journal.events import VERSION, JournalEvent, RequestRecord
from seawall.journal.writer import EventWriter

__all__ = ["Events", "LocalEvents", "Received", "ShippedEvents"]


class Events(Protocol):
    """Where a load generator writes. `begun` counts the requests that were begun."""

    begun: int

    def write(self, event: JournalEvent) -> None:
        """Append one event."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


class LocalEvents:
    """Events that go into a file of this process."""

    def __init__(self, folder: Path, role: str = "load") -> None:
        self.begun = 0
        self._writer = EventWriter(folder, role)

    def write(self, event: JournalEvent) -> None:
        """See Events. Raises OSError."""
        self._writer.write(event)

    def close(self) -> None:
        """See Events."""
        self._writer.close()


class ShippedEvents:
    """Events that are sent to the master by `send`, together with those since the last `flush`."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.begun = 0
        self._send = send
        self._source = f"load-{os.getpid()}"
        self._seq = 0
        self._requests = 0
        self._lines: list[bytes] = []

    def write(self, event: JournalEvent) -> None:
        """See Events."""
        stamp = {
            "v": VERSION,
            "mono_ns": time.monotonic_ns(),
            "wall": round(time.time(), 6),
            "source": self._source,
            "seq": self._seq,
        }
        self._seq += 1
        self._requests += isinstance(event, RequestRecord)
        self._lines.append(msgspec.json.encode(stamp)[:-1] + b"," + msgspec.json.encode(event)[1:] + b"\n")

    def flush(self, *, is_last: bool = False) -> None:
        """Send what there is; a message without lines still tells the counts."""
        lines, self._lines = self._lines, []
        told = {"begun": self.begun, "requests": self._requests, "is_last": is_last}
        self._send({"source": self._source, "lines": b"".join(lines), **told})

    def close(self) -> None:
        """See Events."""
        self.flush(is_last=True)


class Received:
    """What came from one worker: its lines, in a file of their own, and its counts. `share` was planned for it."""

    def __init__(self, folder: Path, worker: str, number: int, share: int | None) -> None:
        self.worker = worker
        self.share = share
        self.begun = 0
        self.requests = 0
        self.is_complete = False
        self._path = folder / f"events-load-worker{number}.jsonl"

    def take(self, data: dict[str, Any]) -> None:
        """Take one message. Raises OSError."""
        if data["lines"]:
            with self._path.open("ab") as file:
                file.write(data["lines"])
        self.begun, self.requests = int(data["begun"]), int(data["requests"])
        self.is_complete = bool(data["is_last"])

    def loss(self) -> str:
        """Say what is lost with this worker."""
        under_way = self.begun - self.requests
        parts = [f"lost worker {self.worker}: {self.requests} of its requests are recorded"]
        parts.append(f"{under_way} were under way when it last spoke, and their records are lost")
        if self.share is not None:
            parts.append(f"{self.share - self.begun} that were planned for it were not begun by then")
        else:
            parts.append("what its users began after that is not known")
        return "; ".join(parts)

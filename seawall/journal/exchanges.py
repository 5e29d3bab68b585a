"""What the gateway tells a run of its exchanges with parts that are no providers: traces' collector, key service."""

from __future__ import annotations

import contextlib
import threading
import time

from seawall.journal.events import Exchange, PartName
from seawall.journal.writer import EventWriter

__all__ = ["Exchanges"]


class Exchanges:
    """Writes the exchanges with one part into a file of their own; safe among threads. A full disk costs only them."""

    def __init__(self, part: PartName, writer: EventWriter) -> None:
        self._part: PartName = part
        self._writer = writer
        self._lock = threading.Lock()

    @classmethod
    def of(cls, part: PartName) -> Exchanges | None:
        """Return those with a part, or None where no run listens: nothing is to be told then."""
        with contextlib.suppress(OSError):
            writer = EventWriter.from_environment(part.replace("_", "-"))
            return None if writer is None else cls(part, writer)
        return None

    def tell(self, start_ns: int, *, ok: bool) -> None:
        """Tell of an exchange that has just ended; `start_ns` is of CLOCK_MONOTONIC."""
        event = Exchange(
            part=self._part, start_ns=start_ns, end_ns=time.monotonic_ns(), outcome="ok" if ok else "failed"
        )
        with self._lock, contextlib.suppress(OSError):
            self._writer.write(event)

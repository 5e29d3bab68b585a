"""How many spans this process has sent, and how many it had to drop: `/metrics` shows them."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["SPANS", "Tally"]


class Tally:
    """Two counts, of any thread; they may lie in a row of numbers that somebody else keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: Any = [0, 0]
        self._at = 0

    def count_in(self, slots: Any, at: int) -> None:
        """Count on in the slots `at` (exported) and `at + 1` (dropped) of a row of numbers."""
        with self._lock:
            self._slots, self._at = slots, at

    @property
    def exported(self) -> int:
        """Spans that a collector took."""
        return self._slots[self._at]

    @property
    def dropped(self) -> int:
        """Spans for which there was no room, or which no collector took."""
        return self._slots[self._at + 1]

    def add(self, *, exported: int = 0, dropped: int = 0) -> None:
        """Count."""
        with self._lock:
            self._slots[self._at] += exported
            self._slots[self._at + 1] += dropped


SPANS = Tally()
"""That of this process."""

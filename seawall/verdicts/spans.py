"""Stretches of time, and what overlaps them. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass

__all__ = ["Overlaps", "Span"]


@dataclass(frozen=True)
class Span:
    """A stretch of time in nanoseconds of the journal; the end is not part of it."""

    start_ns: int
    end_ns: int

    def holds(self, ns: int) -> bool:
        """Whether the moment lies in it."""
        return self.start_ns <= ns < self.end_ns


class Overlaps:
    """Things that last, added in order of their start, of which one wants to know whether any overlaps a stretch."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._latest_ends = array("q")

    def add(self, start_ns: int, end_ns: int) -> None:
        """Add one that starts no earlier than those before it."""
        latest = self._latest_ends[-1] if self._latest_ends else end_ns
        self._starts.append(start_ns)
        self._latest_ends.append(max(latest, end_ns))

    def any_in(self, span: Span) -> bool:
        """Whether one begins before the end of `span` and ends at its start or later."""
        before = bisect_left(self._starts, span.end_ns)
        return before > 0 and self._latest_ends[before - 1] >= span.start_ns

"""
The predictive breaker: notice that a provider grows slow, before anything fails. Pure, handed the time.

The last ten response times of a provider (time to first token for streams, total time for JSON) are averaged. Calls
that are still waiting and already older than the limit count with their age, for a provider that stalls gives no
samples. Over the limit the provider is *slow*: it is tried last, but for one measuring call a recovery period, whose
time begins a new window. Leaving takes an average clearly below the limit, so that it does not flap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

__all__ = ["LatencyOptions", "LatencyWatch", "Timing"]


class LatencyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When a provider counts as slow. Times in seconds."""

    limit_s: float = 0.5
    """Average above which it is slow; 0 turns the watch off."""
    resume_ratio: float = 0.8
    """It is fast again when a measured time is at most this share of the limit."""
    window: int = 10
    """How many response times are averaged."""
    samples_min: int = 3
    """Fewer say nothing: one slow first call is no trend."""
    recovery_s: float = 60.0
    """Between two measuring calls to a slow provider."""


class Timing(msgspec.Struct, frozen=True):
    """One call under way. To be handed back once: by `finished` or `dropped`."""

    number: int
    start_s: float
    measures: bool


class LatencyWatch:
    """
    Watch the response times of one provider.

    `on_change(is_slow, average_s)` is told when it turns slow and when it is fast again. One event loop owns it.
    """

    def __init__(self, options: LatencyOptions, *, on_change: Callable[[bool, float], None] | None = None) -> None:
        self._options = options
        self._on_change = on_change
        self._times_s: deque[float] = deque(maxlen=options.window)
        self._waiting: dict[int, float] = {}
        self._numbers = 0
        self._slow = False
        self._measuring: int | None = None
        self._measure_at_s = 0.0

    @property
    def is_slow(self) -> bool:
        """Whether it counts as slow, as of the last `look`."""
        return self._slow

    def average_s(self, now_s: float) -> float | None:
        """Return the average of the latest times, waiting calls over the limit with their age; None for too few."""
        limit_s = self._options.limit_s
        overdue = [now_s - start_s for start_s in self._waiting.values() if now_s - start_s > limit_s]
        latest = [*self._times_s, *overdue][-self._options.window :]
        return sum(latest) / len(latest) if len(latest) >= self._options.samples_min else None

    def look(self, now_s: float) -> bool:
        """Return whether the provider is slow at `now_s`, noticing it first if it has become so."""
        if not self._slow and self._options.limit_s > 0:
            average_s = self.average_s(now_s)
            if average_s is not None and average_s > self._options.limit_s:
                self._turn_slow(now_s, average_s)
        return self._slow

    def may_measure(self, now_s: float) -> bool:
        """Whether a slow provider is due for its one measuring call."""
        return self._slow and self._measuring is None and now_s >= self._measure_at_s

    def started(self, now_s: float, *, is_probe: bool = False) -> Timing:
        """Take note of a call that begins. When one is due, or it is a breaker's probe, it is the measuring call."""
        self._numbers += 1
        measures = self.may_measure(now_s) or (self._slow and is_probe)
        if measures:
            self._measuring = self._numbers
            self._measure_at_s = now_s + self._options.recovery_s
        self._waiting[self._numbers] = now_s
        return Timing(self._numbers, now_s, measures)

    def finished(self, timing: Timing, now_s: float) -> None:
        """Take a response time: the first token of a stream has come, or a whole JSON answer."""
        if self._waiting.pop(timing.number, None) is None:
            return
        took_s = now_s - timing.start_s
        if timing.measures and self._measuring == timing.number:
            self._measuring = None
            if took_s <= self._options.limit_s * self._options.resume_ratio:
                self._turn_fast(took_s)
            return
        if not self._slow:
            self._times_s.append(took_s)

    def dropped(self, timing: Timing) -> None:
        """Take back a call that failed or was cancelled: no response time, and the measuring slot is free again."""
        self._waiting.pop(timing.number, None)
        if self._measuring == timing.number:
            self._measuring = None

    def _turn_slow(self, now_s: float, average_s: float) -> None:
        self._slow = True
        self._measure_at_s = now_s + self._options.recovery_s
        self._times_s.clear()
        if self._on_change is not None:
            self._on_change(True, average_s)

    def _turn_fast(self, took_s: float) -> None:
        self._slow = False
        # Calls from the slow time that still wait must not make it slow again at once.
        self._waiting.clear()
        self._times_s.clear()
        self._times_s.append(took_s)
        if self._on_change is not None:
            self._on_change(False, took_s)

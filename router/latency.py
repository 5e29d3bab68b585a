"""
The predictive breaker: notice that a provider grows slow, before anything fails. Pure, handed the time.

The last ten response times of a provider (time to first token for streams, total time for JSON) are averaged, each as
a share of the limit of its mode. Calls that are still waiting and already older than their limit count with their age,
for a provider that stalls gives no samples. Over the limit the provider is *slow*: it is tried last, but for one
measuring call a recovery period, whose time begins a new window. Leaving takes a time clearly below the limit, so that
it does not flap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

__all__ = ["LatencyOptions", "LatencyWatch", "Timing"]


class LatencyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """When a provider counts as slow. Times in seconds."""

    limit_s: float = 0.5
    """Average time to the first token of a stream above which it is slow; 0: streams are not watched."""
    json_limit_s: float = 0.5
    """The same for the whole time of a JSON answer."""
    resume_ratio: float = 0.8
    """It is fast again when a measured time is at most this share of the limit."""
    window: int = 10
    """How many response times are averaged."""
    samples_min: int = 3
    """Fewer say nothing: one slow first call is no trend."""
    recovery_s: float = 60.0
    """Between two measuring calls to a slow provider."""


class Timing(msgspec.Struct, gc=False, frozen=True):
    """One call under way. To be handed back once: by `finished` or `dropped`."""

    number: int
    start_s: float
    measures: bool
    limit_s: float
    """Of its mode; 0: not watched."""


class LatencyWatch:
    """
    Watch the response times of one provider.

    `on_change(is_slow, average)` is told when it turns slow and when it is fast again, with the average response time
    as a share of the limit. One event loop owns it.
    """

    def __init__(self, options: LatencyOptions, *, on_change: Callable[[bool, float], None] | None = None) -> None:
        self._options = options
        self._on_change = on_change
        self._shares: deque[float] = deque(maxlen=options.window)
        """Response times, each over the limit of its mode."""
        self._worst = 0.0
        self._waiting: dict[int, Timing] = {}
        limits_s = [limit_s for limit_s in (options.limit_s, options.json_limit_s) if limit_s > 0]
        self._limit_min_s = min(limits_s, default=0.0)
        self._numbers = 0
        self.is_slow = False
        """Whether it counts as slow, as of the last `look`."""
        self.is_calm = True
        """Whether nothing waits and no latest time was over its limit, so that a `look` would find nothing."""
        self._measuring: int | None = None
        self._measure_at_s = 0.0

    def average(self, now_s: float) -> float | None:
        """Return the average of the latest shares, overdue calls with their age; None for too few."""
        overdue: list[float] = []
        for timing in self._waiting.values():  # the oldest first, so that hundreds in flight cost nothing
            age_s = now_s - timing.start_s
            if age_s <= self._limit_min_s:
                break
            if age_s > timing.limit_s:
                overdue.append(age_s / timing.limit_s)
        latest = [*self._shares, *overdue][-self._options.window :]
        return sum(latest) / len(latest) if len(latest) >= self._options.samples_min else None

    def look(self, now_s: float) -> bool:
        """Return whether the provider is slow at `now_s`, noticing it first if it has become so."""
        if not self.is_slow and (self._worst > 1 or (self._waiting and self._is_overdue(now_s))):
            average = self.average(now_s)
            if average is not None and average > 1:
                self._turn_slow(now_s, average)
        return self.is_slow

    def _is_overdue(self, now_s: float) -> bool:
        """Whether the oldest call that still waits may be over its limit; where none is, no average can be."""
        for timing in self._waiting.values():
            return now_s - timing.start_s > self._limit_min_s
        return False

    def may_measure(self, now_s: float) -> bool:
        """Whether a slow provider is due for its one measuring call."""
        return self.is_slow and self._measuring is None and now_s >= self._measure_at_s

    def started(self, now_s: float, *, is_probe: bool = False, stream: bool = True) -> Timing:
        """Take note of a call that begins. When one is due, or it is a breaker's probe, it is the measuring call."""
        self._numbers += 1
        limit_s = self._options.limit_s if stream else self._options.json_limit_s
        measures = self.is_slow and (is_probe or self.may_measure(now_s))
        if measures and not limit_s:  # the only traffic there is may be of the mode that is not watched
            limit_s = max(self._options.limit_s, self._options.json_limit_s)
        timing = Timing(self._numbers, now_s, measures, limit_s)
        if measures:
            self._measuring = self._numbers
            self._measure_at_s = now_s + self._options.recovery_s
        if limit_s > 0:
            self._waiting[self._numbers] = timing
            self.is_calm = False
        return timing

    def finished(self, timing: Timing, now_s: float) -> None:
        """Take a response time: the first token of a stream has come, or a whole JSON answer."""
        if self._waiting.pop(timing.number, None) is None:
            return
        share = (now_s - timing.start_s) / timing.limit_s
        if timing.measures and self._measuring == timing.number:
            self._measuring = None
            if share <= self._options.resume_ratio:
                self._turn_fast(share)
        elif not self.is_slow:
            self._keep(share)
        self._calm()

    def dropped(self, timing: Timing) -> None:
        """Take back a call that failed or was cancelled: no response time, and the measuring slot is free again."""
        if self._waiting.pop(timing.number, None) is not None:
            self._calm()
        if self._measuring == timing.number:
            self._measuring = None

    def _keep(self, share: float) -> None:
        self._shares.append(share)
        self._worst = max(self._shares)
        self._calm()

    def _calm(self) -> None:
        self.is_calm = not (self._waiting or self.is_slow or self._worst > 1)

    def _turn_slow(self, now_s: float, average: float) -> None:
        self.is_slow = True
        self._measure_at_s = now_s + self._options.recovery_s
        self._shares.clear()
        self._worst = 0.0
        self._calm()
        if self._on_change is not None:
            self._on_change(True, average)

    def _turn_fast(self, share: float) -> None:
        self.is_slow = False
        # Calls from the slow time that still wait must not make it slow again at once.
        self._waiting.clear()
        self._shares.clear()
        self._keep(share)
        if self._on_change is not None:
            self._on_change(False, share)

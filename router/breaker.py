"""
The circuit breaker of one provider. Pure: it is handed the time and the random source.

    CLOSED ──too many failures──▶ OPEN ──recovery timeout──▶ HALF_OPEN ──probe succeeds──▶ CLOSED
                                   ▲                            │
                                   └───────── probe fails ──────┘

Too many are N in a row, or, where a ratio is set, a share of the latest calls that failed or were slow.

A caller asks for a `Permit` before a call and hands it back with the result. Half-open gives out exactly one permit at
a time. Every transition raises the generation; a result that carries an older one is dropped, so a call from before the
opening can neither close nor reopen anything. A cancelled call counts as neither and gives its slot back.
After sony/gobreaker (generations) and Polly v8 (policy apart from the machine).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum

import msgspec

__all__ = ["Breaker", "BreakerOptions", "BreakerState", "Permit"]

_JITTER_MAX = 0.1  # of the open time; only ever lengthens
_GOOD, _FAILED, _SLOW = range(3)


class BreakerState(StrEnum):
    """The three states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a breaker trips and recovers. Times in seconds."""

    failure_threshold: int = 3
    """Consecutive failures that open it."""
    failure_ratio: float = 0.0
    """Share of the window's calls that failed at which it opens; 0: not judged."""
    slow_ratio: float = 0.0
    """Share of the window's calls that were good and slow at which it opens; 0: not judged."""
    slow_call_s: float = 5.0
    """A response time above this is slow."""
    window: int = 50
    """How many of the latest calls the ratios are judged over."""
    window_min: int = 20
    """Fewer calls say nothing about a ratio; at most the window."""
    recovery_timeout_s: float = 60.0
    """From the opening to the first probe."""
    backoff_factor: float = 1.0
    """Each failed probe multiplies the next open time by this."""
    recovery_timeout_max_s: float = 600.0
    """Cap of the open time before jitter."""


class Permit(msgspec.Struct, gc=False, frozen=True):
    """Leave for one call. To be handed back once: by `success`, `failure` or `release`."""

    generation: int
    is_probe: bool


class Breaker:
    """
    Decide whether a provider may be called.

    `draw` returns numbers in [0, 1); `on_change(old, new, generation, cause)` is told of every transition.
    Not safe for several threads; one event loop owns it.
    """

    def __init__(
        self,
        options: BreakerOptions,
        *,
        draw: Callable[[], float],
        on_change: Callable[[BreakerState, BreakerState, int, str], None] | None = None,
    ) -> None:
        self._options = options
        self._draw = draw
        self._on_change = on_change
        self.state = BreakerState.CLOSED
        """As of the last event; an open breaker whose time is up is still OPEN until it is asked."""
        self.generation = 0
        """How many transitions there were."""
        self._permit = Permit(0, is_probe=False)
        self.probe_at_s = 0.0
        """When the latest opening is over."""
        self.is_probing = False
        """Whether a probe is under way."""
        self._failures = 0
        self._open_s = options.recovery_timeout_s
        self.cause = ""
        """Why it is as it is."""
        self.may_probe: Callable[[], bool] = lambda: True
        """Asked while it is not closed: where workers share their breakers, one of them may probe."""
        self._window = _Window(options) if options.failure_ratio or options.slow_ratio else None

    def allows(self, now_s: float) -> bool:
        """Whether `acquire` would give a permit now. Changes nothing."""
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return self.may_probe() and now_s >= self.probe_at_s
            case BreakerState.HALF_OPEN:
                return not self.is_probing and self.may_probe()

    def soonest_probe_s(self, now_s: float) -> float:
        """Return the seconds from now until a call may be allowed; 0 when one is, or a probe is under way."""
        return max(0.0, self.probe_at_s - now_s) if self.state is BreakerState.OPEN else 0.0

    def acquire(self, now_s: float) -> Permit | None:
        """Return leave for one call, or None. An open breaker whose time is up turns half-open here."""
        if self.state is BreakerState.CLOSED:
            return self._permit
        if not self.allows(now_s):
            return None
        if self.state is BreakerState.OPEN:
            self._transition(BreakerState.HALF_OPEN, "recovery timeout over")
        self.is_probing = True
        return Permit(self.generation, is_probe=True)

    def success(self, permit: Permit, now_s: float = 0.0, took_s: float | None = None) -> None:
        """Take a good result, whose response came after `took_s`; None: not known."""
        if permit.generation != self.generation:
            return
        self._failures = 0
        if permit.is_probe:
            self.is_probing = False
            self._open_s = self._options.recovery_timeout_s
            self._transition(BreakerState.CLOSED, "probe succeeded")
        elif self._window is not None:
            is_slow = took_s is not None and took_s > self._options.slow_call_s
            cause = self._window.add(_SLOW if is_slow else _GOOD)
            if cause is not None:
                self._open(now_s, cause)

    def failure(self, permit: Permit, now_s: float, cause: str) -> None:
        """Take a bad result; `cause` is the stable code of the error."""
        if permit.generation != self.generation:
            return
        if permit.is_probe:
            self.is_probing = False
            # Step by step and capped: a power of the factor overflows in an outage of days.
            cap_s = max(self._options.recovery_timeout_max_s, self._options.recovery_timeout_s)
            self._open_s = min(self._open_s * self._options.backoff_factor, cap_s)
            self._open(now_s, f"probe failed: {cause}")
            return
        self._failures += 1
        ratio = None if self._window is None else self._window.add(_FAILED)
        if self._failures >= self._options.failure_threshold:
            self._open(now_s, f"{self._failures} consecutive failures, the last {cause}")
        elif ratio is not None:
            self._open(now_s, f"{ratio}, the last {cause}")

    def release(self, permit: Permit) -> None:
        """Take back a permit whose call says nothing about the provider: cancelled, or the request's own fault."""
        if permit.is_probe and permit.generation == self.generation:
            self.is_probing = False

    def learn_open(self, probe_at_s: float, cause: str) -> None:
        """Open until then because another worker has; a probe of our own that is under way decides for itself."""
        if self.state is BreakerState.OPEN:
            self.probe_at_s = max(self.probe_at_s, probe_at_s)
        elif not self.is_probing:
            self._rest_until(probe_at_s, cause)

    def learn_closed(self, cause: str) -> None:
        """Close because another worker's probe succeeded; one of our own that is under way decides for itself."""
        if self.is_probing or self.state is BreakerState.CLOSED:
            return
        if self.state is BreakerState.OPEN:
            self._transition(BreakerState.HALF_OPEN, cause)
        self._open_s = self._options.recovery_timeout_s
        self._transition(BreakerState.CLOSED, cause)

    def _open(self, now_s: float, cause: str) -> None:
        self._rest_until(now_s + self._open_s * (1 + _JITTER_MAX * self._draw()), cause)

    def _rest_until(self, probe_at_s: float, cause: str) -> None:
        self.probe_at_s = probe_at_s
        self._failures = 0
        if self._window is not None:
            self._window.clear()
        self._transition(BreakerState.OPEN, cause)

    def _transition(self, to: BreakerState, cause: str) -> None:
        old, self.state, self.cause = self.state, to, cause
        self.generation += 1
        self._permit = Permit(self.generation, is_probe=False)
        if self._on_change is not None:
            self._on_change(old, to, self.generation, cause)


class _Window:
    """The latest calls of a closed breaker, and how many of them were bad, each way."""

    def __init__(self, options: BreakerOptions) -> None:
        self._options = options
        self._latest: deque[int] = deque()
        self._counts = [0, 0, 0]

    def clear(self) -> None:
        self._latest.clear()
        self._counts = [0, 0, 0]

    def add(self, result: int) -> str | None:
        """Take a result; return why the breaker opens with it, or None. A good and fast one never opens it."""
        self._latest.append(result)
        self._counts[result] += 1
        if len(self._latest) > self._options.window:
            self._counts[self._latest.popleft()] -= 1
        total = len(self._latest)
        if result == _GOOD or total < min(self._options.window_min, self._options.window):
            return None
        limit = self._options.failure_ratio if result == _FAILED else self._options.slow_ratio
        count = self._counts[result]
        if limit == 0 or count < limit * total:
            return None
        return f"{count} of the last {total} calls {'failed' if result == _FAILED else 'were slow'}"

"""
The retry budget: extra attempts as a share of the answers that succeed, so that a storm does not multiply calls. Pure.

A token bucket, as gRPC and Finagle have one. A good answer pays `ratio` tokens in, time pays `per_second`, an extra
attempt takes one out. It begins full, and it is large: when providers die, every request in flight has to move on at
once, before the breakers have learnt of it. What the budget stops is the storm that breakers do not end: all providers
failing now and then, for long, for everybody.

The first failover of a request does not come here: with one provider dead, nobody is refused, however many they are.
"""

from __future__ import annotations

import msgspec

__all__ = ["RetryBudget", "RetryOptions"]


class RetryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many extra attempts there may be."""

    ratio: float = 0.2
    """Extra attempts that one good answer pays for."""
    per_second: float = 10.0
    """Extra attempts that a second pays for: the floor, for a router with little traffic or no good answers at all."""
    burst: int = 1000
    """The most that is saved up; what the bucket holds at first."""


class RetryBudget:
    """Count extra attempts of all requests of one router. One event loop owns it."""

    def __init__(self, options: RetryOptions, *, now_s: float) -> None:
        self._options = options
        self._tokens = float(options.burst)
        self._seen_s = now_s

    def deposit(self) -> None:
        """Take note of a good answer."""
        self._tokens = min(self._options.burst, self._tokens + self._options.ratio)

    def withdraw(self, now_s: float) -> bool:
        """Return whether one more extra attempt may be made, and count it."""
        earned = max(0.0, now_s - self._seen_s) * self._options.per_second
        self._tokens = min(self._options.burst, self._tokens + earned)
        self._seen_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

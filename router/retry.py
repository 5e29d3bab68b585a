"""
The retry budget: extra attempts as a share of the answers that succeed, so that a storm does not multiply calls. Pure.

A token bucket, as gRPC and Finagle have one. A good answer pays `ratio` tokens in, time pays `per_second`, an extra
attempt takes one out. It begins full, and it is large: when providers die, every request in flight has to move on at
once, before the breakers have learnt of it. What the budget stops is the storm that breakers do not end: all providers
failing now and then, for long, for everybody.

The first failover of a request does not come here: with one provider dead, nobody is refused, however many they are.
"""

from __future__ import annotations

__all__ = ["RetryBudget"]


class RetryBudget:
    """
    Count extra attempts of all requests of one router. One event loop owns it.

    One good answer pays for `ratio` of them, a second for `per_second`: the floor, for a router with little traffic or
    no good answers at all. `burst` is the most that is saved up, and what the bucket holds at first.
    """

    def __init__(self, *, ratio: float = 0.2, per_second: float = 10.0, burst: int = 1000, now_s: float) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._seen_s = now_s

    def deposit(self) -> None:
        """Take note of a good answer."""
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def withdraw(self, now_s: float) -> bool:
        """Return whether one more extra attempt may be made, and count it."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._seen_s) * self._per_second)
        self._seen_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

"""How long a container that has ended waits before it is started again, as CrashLoopBackOff has it. Pure."""

from __future__ import annotations

__all__ = ["Backoff"]

_FIRST_S = 10.0
_LIMIT_S = 300.0


class Backoff:
    """
    The first restart is at once, the second after 10 s, then twice as long each time, up to 300 s.

    After twice the limit without a restart it begins anew. `scale` shortens all of these for tests. From
    `k8s.io/client-go/util/flowcontrol` as `kuberuntime` uses it.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._first_s = _FIRST_S * scale
        self._limit_s = _LIMIT_S * scale
        self._next_s = 0.0
        self._restarted_s: float | None = None

    def delay_s(self, ended_s: float) -> float:
        """Return how long to wait after an end at `ended_s` (monotonic seconds), and count that restart."""
        if self._restarted_s is not None and ended_s - self._restarted_s > 2 * self._limit_s:
            self._next_s = 0.0
        delay = self._next_s
        self._next_s = min(self._limit_s, max(self._first_s, 2 * delay))
        self._restarted_s = ended_s + delay
        return delay

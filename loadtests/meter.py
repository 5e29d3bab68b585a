"""How late the generator sends what is due, and how busy it is: the figures that make a run's load credible."""

from __future__ import annotations

from seawall.journal.events import Lag

__all__ = ["LagMeter"]


class LagMeter:
    """
    Collect the delay of every send and sum up the time since the last report.

    `now_ns` and `cpu_ns` are readings of CLOCK_MONOTONIC and of this process's CPU time.
    """

    def __init__(self, now_ns: int, cpu_ns: int) -> None:
        self._lags_ns: list[int] = []
        self._since_ns = now_ns
        self._cpu_ns = cpu_ns

    def sent(self, intended_ns: int, sent_ns: int) -> None:
        """Take note of one request whose last byte left at `sent_ns`."""
        self._lags_ns.append(sent_ns - intended_ns)

    def report(self, now_ns: int, cpu_ns: int) -> Lag | None:
        """Return the figures since the last report and begin anew; None when nothing was sent."""
        lags, self._lags_ns = sorted(self._lags_ns), []
        elapsed_ns, used_ns = now_ns - self._since_ns, cpu_ns - self._cpu_ns
        self._since_ns, self._cpu_ns = now_ns, cpu_ns
        if not lags:
            return None
        return Lag(
            requests=len(lags),
            p50_ms=_quantile_ms(lags, 0.50),
            p99_ms=_quantile_ms(lags, 0.99),
            max_ms=round(lags[-1] / 1e6, 3),
            cpu_share=round(min(used_ns / max(elapsed_ns, 1), 1.0), 4),
        )


def _quantile_ms(ordered_ns: list[int], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed."""
    rank = -int(-share * len(ordered_ns) // 1)
    return round(ordered_ns[max(rank, 1) - 1] / 1e6, 3)

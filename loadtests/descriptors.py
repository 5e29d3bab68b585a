"""Whether the open files that this process may have suffice for the plan: every request in flight needs one."""

from __future__ import annotations

import math
import resource

from loadtests.config import ConfigError
from seawall.plan import LoadPlan

__all__ = ["RESERVE", "peak_in_flight", "require_descriptors"]

RESERVE = 64
"""Open files that Locust itself needs."""


def peak_in_flight(plan: LoadPlan) -> int:
    """Return how many requests can be in flight at once: the arrivals within one deadline, when nothing answers."""
    if plan.executor != "arrivals":
        rate = max((max(stage.start_rate, stage.end_rate) for stage in plan.stages), default=0.0)
        # Counting the arrivals of a long load one by one would take seconds.
        arrivals = sum((stage.start_rate + stage.end_rate) / 2 * stage.duration_s for stage in plan.stages)
        return math.ceil(min(rate * plan.deadline_s, arrivals))
    times = sorted(spec.at_s for spec in plan.arrivals)
    first, peak = 0, 0
    for n, at_s in enumerate(times):
        while times[first] <= at_s - plan.deadline_s:
            first += 1
        peak = max(peak, n - first + 1)
    return peak


def require_descriptors(plan: LoadPlan, workers: int = 1) -> None:
    """Raise the limit of open files as far as allowed. Raises ConfigError when one of `workers` may run out of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = math.ceil(peak_in_flight(plan) / workers) + RESERVE
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"the plan may have {needed - RESERVE} requests in flight (rate x deadline of {plan.deadline_s:g} s), which"
            f" needs {needed} open files, but the limit is {hard}; raise `ulimit -Hn`, or lower rate or deadline"
        )

"""
The steady state: before the first fault, and back again after the last has healed.

A request that was under way when a fault killed its worker says nothing of the time before that fault. Pure.
"""

from __future__ import annotations

from seawall.journal.events import RequestRecord
from seawall.scenario.model import SteadyState
from seawall.scenario.quantities import Limit
from seawall.verdicts.case import Case
from seawall.verdicts.checks import absent
from seawall.verdicts.metrics import judge_limit
from seawall.verdicts.model import Check
from seawall.verdicts.spans import Span

__all__ = ["check_steady_state"]

_GROUP = "steady_state"
_IN_HAND_NS = 1_000_000_000
"""What had been waiting for less than this when the first fault came, and was broken by it, belongs to the fault."""


def check_steady_state(case: Case) -> list[Check]:
    """Return one check for each limit of the steady state, before and after; none when the scenario has none."""
    steady = case.scenario.steady_state
    if steady is None:
        return []
    window_ns = round(steady.window * 1e9)
    injected = [i.injected_ns for t in case.journal.faults.values() for i in t.intervals if i.injected_ns is not None]
    if not injected:
        end_ns = case.journal.load_end_ns
        checks = _judge(case, steady, "at the end of the load", Span(end_ns - window_ns, end_ns))
        return checks if not case.specs else checks + _missing(steady, "No fault was injected, so none has healed.")
    first_ns = min(injected)
    before = Span(first_ns - window_ns, first_ns)
    checks = _judge(case, steady, "before the first fault", before, in_hand_at_ns=first_ns)
    healed: list[int] = []
    for trace in case.journal.faults.values():
        for interval in trace.intervals:
            if interval.healed_ns is None:
                return checks + _missing(steady, f"Fault {trace.id} never healed.")
            healed.append(interval.healed_ns)
    return checks + _judge(case, steady, "after the last fault", Span(max(healed), max(healed) + window_ns))


def _judge(case: Case, steady: SteadyState, when: str, span: Span, *, in_hand_at_ns: int | None = None) -> list[Check]:
    requests = case.requests_in([span])
    if in_hand_at_ns is not None:
        requests = [r for r in requests if not _was_in_hand(r, in_hand_at_ns)]
    return [
        judge_limit(case, f"{metric} {limit.text} {when}", metric, limit, [requests], group=_GROUP)
        for metric, limit in _limits(steady)
    ]


def _was_in_hand(request: RequestRecord, at_ns: int) -> bool:
    waited_ns = at_ns - request.intended_ns
    return request.outcome != "whole" and request.end_ns > at_ns and waited_ns < _IN_HAND_NS


def _missing(steady: SteadyState, reason: str) -> list[Check]:
    return [
        absent(_GROUP, f"{metric} {limit.text} after the last fault", reason, limit=limit.text)
        for metric, limit in _limits(steady)
    ]


def _limits(steady: SteadyState) -> list[tuple[str, Limit]]:
    limits = {
        "success_rate": steady.success_rate,
        "latency_p50": steady.latency_p50,
        "latency_p95": steady.latency_p95,
        "latency_p99": steady.latency_p99,
    }
    return [(metric, limit) for metric, limit in limits.items() if limit is not None]

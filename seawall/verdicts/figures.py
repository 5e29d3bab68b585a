"""
The figures of a run by name, the unit in the name. What is not observed or did not happen is None, never 0.

A figure of one provider, refusal code or fault carries it after a colon: `served_share:claude`,
`calls_before_opening:dark`, `time_to_fail_over_s:dark`. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from seawall.journal.events import RequestRecord
from seawall.journal.faults import FaultTrace
from seawall.scenario.model import PROVIDERS
from seawall.verdicts.breakers import Period
from seawall.verdicts.calls import worker_of
from seawall.verdicts.case import Case, served_by
from seawall.verdicts.metrics import measure

__all__ = ["DEBRIS_NS", "figures_of"]

DEBRIS_NS = 1_000_000_000
"""How long after a healing failures on connections that were open before count as its debris."""
_REPORT_NS = 1_000_000
_LATENCIES = ("latency_p50", "latency_p95", "latency_p99", "latency_max")
_FIRST_TOKENS = ("first_token_p50", "first_token_p95", "first_token_p99")

Figures = dict[str, float | None]


def figures_of(case: Case) -> Figures:
    """Return the figures of the run: rates and shares as fractions, times in the unit that the name ends in."""
    journal, requests = case.journal, case.journal.requests
    figures: Figures = {"requests": len(requests)}
    outcomes = Counter(request.outcome for request in requests)
    figures.update({f"requests_{name}": outcomes[name] for name in sorted(outcomes)})
    figures["success_rate"] = measure(case, "success_rate", requests).value
    figures["served_rate"] = outcomes["whole"] / len(requests) if requests else None
    for metric in (*_LATENCIES, *_FIRST_TOKENS, "refusal_latency_max"):
        value = measure(case, metric, requests).value
        what, _, quantile = metric.rpartition("_")
        figures[f"{what}_ms_{quantile}"] = None if value is None else value * 1000
    figures["refusals"] = outcomes["refused"]
    codes = Counter(request.code or "unknown" for request in requests if request.outcome == "refused")
    figures.update({f"refusals:{code}": codes[code] for code in sorted(codes)})
    served = Counter(served_by(request) for request in requests if request.outcome == "whole")
    for provider in PROVIDERS:
        figures[f"served_share:{provider}"] = served[provider] / outcomes["whole"] if outcomes["whole"] else None
        seen = sum(call.provider == provider for call in journal.calls)
        figures[f"calls:{provider}"] = seen if journal.observes("call") else None
    observed = journal.observes("call") and bool(requests)
    figures["amplification"] = len(journal.calls) / len(requests) if observed else None
    figures["spend_usd"] = _spend_usd(case)
    figures["debris_failures"] = _debris(case)
    for trace in journal.faults.values():
        figures.update(_of_fault(case, trace))
    return figures


def _spend_usd(case: Case) -> float | None:
    if not case.journal.observes("spend"):
        return None
    closed = (timed.event for timed in case.journal.spends if timed.event.action != "reserve")
    return sum(event.micro_usd for event in closed) / 1_000_000


def _debris(case: Case) -> int:
    """Count what clients saw of connections that a healing broke. The router must hide it: nothing is excused."""
    heals = [i.healed_ns for t in case.journal.faults.values() for i in t.intervals if i.healed_ns is not None]
    return sum(
        request.reused
        and request.outcome != "whole"
        and any(healed <= request.end_ns <= healed + DEBRIS_NS for healed in heals)
        for request in case.journal.requests
    )


def _of_fault(case: Case, trace: FaultTrace) -> Figures:
    """Return the figures of one fault, of its first occurrence that took effect."""
    interval = next((i for i in trace.intervals if i.active_ns is not None), None)
    active_ns = interval.active_ns if interval is not None else None
    healed_ns = interval.healed_ns if interval is not None else None
    openings = [] if active_ns is None else _openings(case, trace.target, active_ns, healed_ns)
    opened_ns = min((period.start_ns for period in openings), default=None)
    moved_ns = None if active_ns is None else _moved_away(case, trace.target, active_ns, healed_ns)
    back_ns = None if healed_ns is None else _first_end(case, healed_ns, lambda r: served_by(r) == trace.target)
    return {
        f"time_to_detect_s:{trace.id}": _seconds(active_ns, opened_ns),
        f"time_to_fail_over_s:{trace.id}": _seconds(active_ns, moved_ns),
        f"time_to_recover_s:{trace.id}": _seconds(healed_ns, back_ns),
        f"calls_before_opening:{trace.id}": _calls_before(case, active_ns, openings),
        f"in_flight_at_opening:{trace.id}": _in_flight(case, openings),
    }


def _openings(case: Case, provider: str, active_ns: int, healed_ns: int | None) -> list[Period]:
    """Return each worker's first opening while the fault was in force."""
    first: dict[str, Period] = {}
    for period in case.periods.in_state("open", provider):
        if period.start_ns >= active_ns and (healed_ns is None or period.start_ns < healed_ns):
            first.setdefault(period.worker, period)
    return list(first.values())


def _moved_away(case: Case, provider: str, active_ns: int, healed_ns: int | None) -> int | None:
    """Return when the first whole answer of somebody else was there; None where the provider served nobody before."""
    requests = case.journal.requests
    if not any(request.intended_ns < active_ns and served_by(request) == provider for request in requests):
        return None
    return _first_end(
        case,
        active_ns,
        lambda r: served_by(r) not in (None, provider) and (healed_ns is None or r.intended_ns < healed_ns),
    )


def _first_end(case: Case, from_ns: int, wanted: Callable[[RequestRecord], bool]) -> int | None:
    found = (r.end_ns for r in case.journal.requests if r.intended_ns >= from_ns and wanted(r))
    return min(found, default=None)


def _calls_before(case: Case, active_ns: int | None, openings: list[Period]) -> float | None:
    """Count the calls that workers made between the fault's beginning and the opening of their own breaker."""
    if active_ns is None or not openings or not case.journal.observes("call"):
        return None
    until = {period.worker: period.start_ns for period in openings}
    provider = openings[0].provider
    return sum(
        active_ns <= pair.call.arrival_ns < until.get(worker_of(case, pair) or "", 0)
        for pair in case.joined
        if pair.call.provider == provider
    )


def _in_flight(case: Case, openings: list[Period]) -> float | None:
    """Count the attempts that were under way when the breaker of their worker opened."""
    if not openings or not case.journal.observes("attempt"):
        return None
    opened = {(period.worker, period.provider): period.start_ns for period in openings}
    count = 0
    for attempt in case.journal.attempts:
        opened_ns = opened.get((attempt.worker, attempt.provider))
        # The attempt that opened it is reported an instant after.
        if opened_ns is not None and attempt.start_ns <= opened_ns < attempt.end_ns - _REPORT_NS:
            count += 1
    return count


def _seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e9

"""
The figures of a run by name, the unit in the name. What is not observed or did not happen is None, never 0.

A figure of one provider, refusal code or fault carries it after a colon: `served_share:claude`,
`calls_before_opening:dark`, `time_to_fail_over_s:dark`.

What a fault does is counted from its injection: the system under test may have noticed it before the harness had
proven it, and from `active` on it would look slower than it was, or as if it had noticed only the next thing. The time
to recover runs from the healing. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from seawall.journal.events import RequestRecord
from seawall.journal.faults import FaultTrace
from seawall.scenario.model import PROVIDERS
from seawall.verdicts.blackbox import black_box_figures
from seawall.verdicts.breakers import NEVER_NS, Period
from seawall.verdicts.calls import worker_of
from seawall.verdicts.case import Case, percentile, served_by
from seawall.verdicts.metrics import durations_of, measure
from seawall.verdicts.spans import Span

__all__ = ["DEBRIS_NS", "figures_of"]

DEBRIS_NS = 1_000_000_000
"""How long after a healing failures on connections that were open before count as its debris."""
_REPORT_NS = 1_000_000
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
_DURATIONS = {
    "latency": ("p50", "p95", "p99", "max"),
    "first_token": ("p50", "p95", "p99"),
    "refusal_latency": ("max",),
}

Figures = dict[str, float | None]


def figures_of(case: Case) -> Figures:
    """Return the figures of the run: rates and shares as fractions, times in the unit that the name ends in."""
    journal, requests = case.journal, case.journal.requests
    outcomes: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    served: Counter[str | None] = Counter()
    for request in requests:
        outcomes[request.outcome] += 1
        if request.outcome == "refused":
            codes[request.code or "unknown"] += 1
        if request.outcome == "whole":
            served[served_by(request)] += 1
    figures: Figures = {"requests": len(requests)}
    figures.update({f"requests_{name}": outcomes[name] for name in sorted(outcomes)})
    figures["success_rate"] = measure(case, "success_rate", requests).value
    figures["served_rate"] = outcomes["whole"] / len(requests) if requests else None
    for what, quantiles in _DURATIONS.items():
        _, durations = durations_of(what, requests)
        for quantile in quantiles:
            value = percentile(durations, _QUANTILES[quantile])
            figures[f"{what}_ms_{quantile}"] = None if value is None else value / 1e6
    figures["refusals"] = outcomes["refused"]
    figures.update({f"refusals:{code}": codes[code] for code in sorted(codes)})
    calls = journal.calls.counts("provider")
    for provider in PROVIDERS:
        figures[f"served_share:{provider}"] = served[provider] / outcomes["whole"] if outcomes["whole"] else None
        figures[f"calls:{provider}"] = calls.get(provider, 0) if journal.observes("call") else None
    observed = journal.observes("call") and bool(requests)
    figures["amplification"] = len(journal.calls) / len(requests) if observed else None
    figures.update(black_box_figures(case))
    figures["spend_usd"] = measure(case, "spend_usd", requests).value
    figures["debris_failures"] = _debris(case)
    if any(death.killed_by is not None for death in case.deaths):
        figures["requests_died_with_a_worker"] = len(case.orphans)
    for trace in journal.faults.values():
        figures.update(_of_fault(case, trace))
    return figures


def _debris(case: Case) -> int:
    """Count what clients saw of connections that a healing broke. The router must hide it: nothing is excused."""
    heals = [i.healed_ns for t in case.journal.faults.values() for i in t.intervals if i.healed_ns is not None]
    others = case.journal.requests.counts("outcome").keys() - {"whole"}
    return sum(
        request.reused and any(healed <= request.end_ns <= healed + DEBRIS_NS for healed in heals)
        for request in case.journal.requests.having("outcome", *others)
    )


def _of_fault(case: Case, trace: FaultTrace) -> Figures:
    """Return the figures of one fault, of its first occurrence that took effect."""
    interval = next((i for i in trace.intervals if i.active_ns is not None), None)
    struck_ns = healed_ns = None
    if interval is not None:
        struck_ns = interval.injected_ns if interval.injected_ns is not None else interval.active_ns
        healed_ns = interval.healed_ns
    openings = [] if struck_ns is None else _openings(case, trace.target, struck_ns, healed_ns)
    opened_ns = min((period.start_ns for period in openings), default=None)
    moved_ns = None if struck_ns is None else _moved_away(case, trace.target, struck_ns, healed_ns)
    is_provider = trace.target in PROVIDERS
    back_ns = None
    if healed_ns is not None:
        back_ns = _first_end(
            case, healed_ns, lambda r: served_by(r) == trace.target if is_provider else r.outcome == "whole"
        )
    return {
        f"time_to_detect_s:{trace.id}": _seconds(struck_ns, opened_ns),
        f"time_to_fail_over_s:{trace.id}": _seconds(struck_ns, moved_ns),
        f"time_to_recover_s:{trace.id}": _seconds(healed_ns, back_ns),
        f"calls_before_opening:{trace.id}": _calls_before(case, struck_ns, openings),
        f"in_flight_at_opening:{trace.id}": _in_flight(case, openings),
    }


def _openings(case: Case, provider: str, struck_ns: int, healed_ns: int | None) -> list[Period]:
    """Return each worker's first opening between the injection of the fault and its healing."""
    first: dict[str, Period] = {}
    for period in case.periods.in_state("open", provider):
        if period.start_ns >= struck_ns and (healed_ns is None or period.start_ns < healed_ns):
            first.setdefault(period.worker, period)
    return list(first.values())


def _moved_away(case: Case, provider: str, struck_ns: int, healed_ns: int | None) -> int | None:
    """Return when the first whole answer of somebody else was there; None where the provider served nobody before."""
    before = case.requests_in([Span(0, struck_ns)])
    if not any(served_by(request) == provider for request in before):
        return None
    return _first_end(
        case,
        struck_ns,
        lambda r: served_by(r) not in (None, provider) and (healed_ns is None or r.intended_ns < healed_ns),
    )


def _first_end(case: Case, from_ns: int, wanted: Callable[[RequestRecord], bool]) -> int | None:
    later = case.requests_in([Span(from_ns, NEVER_NS)])
    return min((r.end_ns for r in later if wanted(r)), default=None)


def _calls_before(case: Case, struck_ns: int | None, openings: list[Period]) -> float | None:
    """Count the calls that workers made between the fault's beginning and the opening of their own breaker."""
    if struck_ns is None or not openings or not case.journal.observes("call"):
        return None
    until = {period.worker: period.start_ns for period in openings}
    provider = openings[0].provider
    return sum(
        pair.call.arrival_ns < until.get(worker_of(case, pair) or "", 0)
        for pair in case.joined.within(struck_ns, max(until.values()))
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

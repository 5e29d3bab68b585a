"""
Invariants on what must happen, not only on what must not: answers in time, from whoever is well, and all well again.

Each examines only what no fault can excuse, so that none of them needs to be allowed for in a scenario. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.journal.events import RequestRecord
from seawall.verdicts.bounds import Bounds
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = ["ends_in_time", "first_bytes_in_time", "nobody_rests_for_ever", "refused_at_once", "well_again"]

_SLACK_NS = 2_000_000_000
"""How much longer than its timeouts something may take on a busy machine."""
_AT_ONCE_NS = 1_000_000_000
_MOMENT_NS = 100_000_000
_RESTING = frozenset({"breaker_open", "cooling_down"})
_ENDS = frozenset({"whole", "refused", "error", "cut", "disguised"})


def ends_in_time(case: Case) -> Check:
    """Every request ends within TOTAL_TIMEOUT, whatever the providers do, unless a fault had stopped its gateway."""
    name = "every request ends within the total timeout"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")  # the timeouts of others are their own
    bounds = Bounds.of(case)
    limit_ns = bounds.total_ns + _SLACK_NS

    def late() -> Iterator[Evidence]:
        for request in case.journal.requests:
            took_ns = request.end_ns - request.intended_ns
            if request.outcome in _ENDS and took_ns > limit_ns and not bounds.was_stopped(request):
                text = f"ended as {request.outcome} after {took_ns / 1e9:.3f} s"
                yield case.evidence(text, request.intended_ns, request.request_id)

    limit = f"{bounds.total_ns / 1e9:g} s"
    return invariant(name, late(), examined=len(case.journal.requests), of="requests", limit=limit)


def first_bytes_in_time(case: Case) -> Check:
    """No attempt waits longer for the first byte of its answer than the timeouts for that say."""
    name = "no attempt outlasts its first-byte timeout"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    bounds = Bounds.of(case)

    def late() -> Iterator[Evidence]:
        for attempt in case.journal.attempts:
            took_ns = attempt.end_ns - attempt.start_ns
            if attempt.first_byte_ns is not None or took_ns <= bounds.first_byte_ns(attempt.provider) + _SLACK_NS:
                continue
            if not bounds.stands_still(attempt.start_ns, attempt.end_ns):
                text = f"the attempt at {attempt.provider} waited {took_ns / 1e9:.3f} s for a first byte"
                yield case.evidence(text, attempt.start_ns, attempt.request_id)

    return invariant(name, late(), examined=len(case.journal.attempts), of="attempts")


def refused_at_once(case: Case) -> Check:
    """
    Where all providers rest, a request is refused at once, with 503 and a `Retry-After`.

    Nobody was asked then, so there is nothing to wait for but the budget's store.
    """
    name = "a request is refused at once where all providers rest"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    bounds = Bounds.of(case)
    reasons: dict[str, set[str]] = {}
    for timed in case.journal.skips:
        reasons.setdefault(timed.event.request_id, set()).add(timed.event.reason)
    idle = [
        request
        for request in case.journal.requests.having("outcome", "refused")
        if request.request_id not in case.asked
        and not bounds.was_stopped(request)
        and reasons.get(request.request_id, set()) & _RESTING
    ]

    def wrong() -> Iterator[Evidence]:
        for request in idle:
            took_ns = request.end_ns - request.intended_ns
            why = reasons[request.request_id]
            text = None
            if took_ns > _AT_ONCE_NS + 4 * bounds.store_ns:
                text = f"refused after {took_ns / 1e9:.3f} s, though nobody was asked"
            elif "budget" not in why and (request.status != 503 or request.retry_after_s is None):
                told = "no Retry-After" if request.retry_after_s is None else f"{request.retry_after_s:g} s"
                text = f"refused with {request.status} and {told}, though providers only rest"
            if text is not None:
                yield case.evidence(text, request.intended_ns, request.request_id)

    return invariant(name, wrong(), examined=len(idle), of="refusals without an attempt")


def well_again(case: Case) -> Check:
    """
    When all faults have healed and what they left behind is over, a request that is alone is answered whole.

    Alone, for beside another one it may find every breaker busy with that one's probe.
    """
    name = "all is well again after the last fault"
    alone = _alone(case)
    found = (
        case.evidence(f"{r.outcome}: {r.problem or r.code or 'no reason'}", r.intended_ns, r.request_id)
        for r in alone
        if r.outcome not in ("whole", "dropped", "process_died") and r.code != "airgap" and not case.is_allowed(r)
    )
    return invariant(name, found, examined=len(alone), of="single requests after the last fault")


def nobody_rests_for_ever(case: Case) -> Check:
    """
    By then no breaker is open, no cooldown lasts, and the preferred provider is no longer put last for being slow.

    That is, no request that is alone passes anybody over for it: an open breaker whose time is up may be probed. A
    worker may notice only now that its preferred provider was slow; then it measures it a recovery timeout later.
    """
    name = "no provider rests for ever after the last fault"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    bounds, alone = Bounds.of(case), {request.request_id for request in _alone(case)}
    noticed_ns: dict[str, int] = {}
    for attempt in case.journal.attempts if alone else ():
        if attempt.request_id in alone:
            noticed_ns.setdefault(attempt.worker, attempt.start_ns)
    for timed in case.journal.latencies if alone else ():
        if (timed.event.provider, timed.event.to) == (bounds.preferred, "slow"):
            worker = timed.event.worker
            noticed_ns[worker] = max(noticed_ns.get(worker, 0), timed.mono_ns)
    measured_after_ns = round(bounds.settings.circuit_breaker_recovery_timeout * 1e9) + _MOMENT_NS

    def found() -> Iterator[Evidence]:
        for timed in case.journal.skips if alone else ():
            skip = timed.event
            is_slow = skip.reason == "slow" and skip.provider == bounds.preferred and bounds.is_fast_in_health
            is_slow = is_slow and timed.mono_ns > noticed_ns.get(skip.worker, timed.mono_ns) + measured_after_ns
            if skip.request_id in alone and (skip.reason in _RESTING or is_slow):
                yield case.evidence(f"{skip.provider} is skipped as {skip.reason}", timed.mono_ns, skip.request_id)

    return invariant(name, found(), examined=len(alone), of="single requests after the last fault")


def _alone(case: Case) -> list[RequestRecord]:
    """Return the requests after the last fault has settled that begin while no other is under way."""
    bounds = Bounds.of(case)
    if bounds.settled_ns is None or not bounds.is_healthy or bounds.opens_in_health:
        return []
    found: list[RequestRecord] = []
    busy_until_ns = 0
    moments = case.journal.requests.moments
    for n, request in enumerate(case.journal.requests):
        beside = n + 1 < len(moments) and moments[n + 1] == request.intended_ns
        if request.intended_ns >= bounds.settled_ns and request.intended_ns > busy_until_ns and not beside:
            found.append(request)
        busy_until_ns = max(busy_until_ns, request.end_ns)
    return found

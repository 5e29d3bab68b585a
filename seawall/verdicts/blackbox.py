"""
What can be said of a system from its two ends alone: what clients got (`request`) and what providers saw (`call`).

For systems that tell nothing of their attempts. What clients suffer is judged as anywhere; what providers suffer, such
as calls in a pause that they asked for, is advisory here: no gateway of others has promised it to us. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from seawall.journal.events import CallRecord
from seawall.scenario.model import PROVIDERS, FaultSpec
from seawall.verdicts.case import Case, percentile
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["black_box_figures", "check_black_box", "is_black_box"]

_ORDER = {name: n for n, name in enumerate(PROVIDERS)}
_CALLS_MAX = len(PROVIDERS)
_PAUSING = (429, 503)


def is_black_box(case: Case) -> bool:
    """Whether the system under test tells nothing of its attempts."""
    return not case.journal.observes("attempt")


def check_black_box(case: Case) -> list[Check]:
    """Return the checks on a system that is seen from outside; none for one that tells its attempts itself."""
    if not is_black_box(case):
        return []
    return [_in_order(case), _not_multiplied(case), _billed_once(case), _leaves_alone(case)]


def black_box_figures(case: Case) -> dict[str, float | None]:
    """
    Return figures of calls and of giving up, of any system; None where calls are not observed.

    `calls_to_dead:F`: calls that provider saw while fault F had it answer nobody. None for a fault of the wire, behind
    which it sees none. `calls_in_pause:F`: those after it had asked for a pause that was not over.
    `calls_a_request_max` counts all providers. `billed_twice`: requests that two providers, or one twice, answered in
    full. `give_up_ms_*`: how long clients waited for an end that was no answer.
    """
    seen = case.journal.observes("call")
    figures: dict[str, float | None] = {}
    by_request = case.once(_by_request)
    figures["calls_a_request_max"] = max(by_request.values(), default=0) if seen else None
    figures["billed_twice"] = len(_twice(case)) if seen else None
    gave_up = case.journal.requests.having("outcome", "refused", "error", "hung")
    waits = sorted(request.end_ns - request.intended_ns for request in gave_up)
    for name, share in (("p50", 0.5), ("max", 1.0)):
        value = percentile(waits, share)
        figures[f"give_up_ms_{name}"] = None if value is None else value / 1e6
    for fault in case.scenario.faults:
        if fault.respond is not None and fault.target in _ORDER:
            dead = case.journal.calls.counts("behaviour").get(fault.id, 0) if seen else None
            figures[f"calls_to_dead:{fault.id}"] = dead
            if fault.respond.retry_after is not None:
                figures[f"calls_in_pause:{fault.id}"] = len(_in_pause(case, fault)) if seen else None
        elif fault.toxic is not None and fault.target in _ORDER:
            figures[f"calls_to_dead:{fault.id}"] = None
    return figures


def _in_order(case: Case) -> Check:
    """Providers see a request for the first time in the order of the chain."""
    name = "providers are tried in the order of the chain"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    first: defaultdict[str, dict[str, CallRecord]] = defaultdict(dict)
    for call in case.journal.calls:
        if call.request_id is not None:
            first[call.request_id].setdefault(call.provider, call)

    def found() -> Iterator[Evidence]:
        for request_id, calls in first.items():
            order = [_ORDER[provider] for provider in calls]
            if order != sorted(order):
                text = f"asked {' → '.join(calls)}"
                yield case.evidence(text, next(iter(calls.values())).arrival_ns, request_id)

    return _advisory(name, found(), len(first), "requests that reached a provider")


def _not_multiplied(case: Case) -> Check:
    """No request makes more calls than there are providers."""
    name = f"a request makes at most {_CALLS_MAX} calls"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    counts = case.once(_by_request)
    found = (case.evidence(f"made {n} calls", None, key) for key, n in counts.items() if n > _CALLS_MAX)
    return _advisory(name, found, len(counts), "requests that reached a provider")


def _billed_once(case: Case) -> Check:
    """No request is answered in full, and so paid for, twice."""
    name = "no request is paid for twice"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    twice = _twice(case)
    found = (case.evidence(f"answered in full by {' and '.join(who)}", None, key) for key, who in twice.items())
    return _advisory(name, found, len(case.journal.requests), "requests")


def _leaves_alone(case: Case) -> Check:
    """A provider that has asked for a pause is not called until it is over."""
    name = "Retry-After is honoured by not calling"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    asking = [f for f in case.scenario.faults if f.respond is not None and f.respond.retry_after is not None]
    calls = [call for fault in asking for call in _in_pause(case, fault)]
    found = (case.evidence(f"{call.provider} was called", call.arrival_ns, call.request_id) for call in calls)
    return _advisory(name, found, len(asking), "faults that ask for a pause")


def _advisory(name: str, found: Iterator[Evidence], examined: int, of: str) -> Check:
    return invariant(name, found, examined=examined, of=of, verdict=Verdict.PARTIAL)


def _by_request(case: Case) -> Counter[str]:
    """Return how many calls each request made."""
    return Counter(call.request_id for call in case.journal.calls if call.request_id is not None)


def _twice(case: Case) -> dict[str, list[str]]:
    """Return who answered in full, of each request that more than one call did."""
    whole: defaultdict[str, list[str]] = defaultdict(list)
    again = {request_id for request_id, count in case.once(_by_request).items() if count > 1}
    for call in case.journal.calls if again else ():
        if call.request_id is None or call.request_id not in again:
            continue
        if call.completed and call.status == 200 and call.behaviour == "healthy":
            whole[call.request_id].append(call.provider)
    return {request_id: who for request_id, who in whole.items() if len(who) > 1}


def _in_pause(case: Case, fault: FaultSpec) -> list[CallRecord]:
    """
    Return the calls that arrived in a pause that the provider had asked for by an answer that was out.

    What was under way when the first such answer left could not know; so a pause counts from the first answer's end.
    """
    assert fault.respond is not None  # noqa: S101 - what the caller has seen
    pause_ns = round((fault.respond.retry_after or 0.0) * 1e9)
    found: list[CallRecord] = []
    until_ns = 0
    pending: list[CallRecord] = sorted(case.journal.calls, key=lambda call: call.arrival_ns)
    asked = [c.end_ns for c in pending if c.behaviour == fault.id and c.status in _PAUSING]
    asked.sort()
    at = 0
    for call in pending:
        if call.provider != fault.target:
            continue
        while at < len(asked) and asked[at] < call.arrival_ns:
            until_ns = max(until_ns, asked[at] + pause_ns)
            at += 1
        if call.arrival_ns < until_ns:
            found.append(call)
    return found

"""Invariants on the calls that providers saw: none that must not be made, and none that the router hides. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from seawall.journal.events import RequestRecord
from seawall.scenario.model import FaultSpec
from seawall.verdicts.breakers import Period, place
from seawall.verdicts.case import Asked, Case, served_by
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.joins import Joined
from seawall.verdicts.model import Check, Evidence
from seawall.verdicts.workers import DYING_NS

__all__ = [
    "air_gap_holds",
    "answers_are_successes",
    "beside_a_probe",
    "calls_are_attempts",
    "calls_within",
    "no_call_while_open",
    "one_probe_at_a_time",
    "successes_are_calls",
    "worker_of",
]


def worker_of(case: Case, pair: Joined) -> str | None:
    """Return the worker that made a call; without an attempt only a run of a single worker can tell."""
    if pair.attempt is not None:
        return pair.attempt.worker
    workers = {*case.workers, *case.periods.workers}
    return next(iter(workers)) if len(workers) == 1 else None


def calls_within(case: Case, state: str, provider: str | None = None) -> Iterator[tuple[Joined, Period]]:
    """Yield the calls that start while the breaker of the worker that made them is in `state`, with its period."""
    # All are closed but those that said otherwise.
    spans = case.periods.in_state(state, provider) if state != "closed" else None
    ever = None if spans is None else {period.provider for period in spans}
    pairs: Iterable[Joined] = case.joined
    if spans is not None:
        first_ns = min((period.start_ns for period in spans), default=0)
        pairs = case.joined.within(first_ns, max((period.end_ns for period in spans), default=0))
    for pair in pairs:
        called = pair.call.provider
        if provider not in (None, called) or (ever is not None and called not in ever):
            continue
        worker = worker_of(case, pair)
        if worker is None:
            continue
        moments = (pair.start_ns, pair.call.arrival_ns)
        periods = {p.start_ns: p for p in (case.periods.at(called, worker, ns) for ns in moments)}
        for period in periods.values():
            if period.state == state and place(pair, period, delayed=_delayed(case, pair)) == "starts":
                yield pair, period


def beside_a_probe(case: Case, provider: str | None = None) -> list[tuple[Joined, Period]]:
    """Return the calls that start while the probe of their half-open breaker is still under way, with its period."""
    by_period: defaultdict[tuple[str, str, int], list[tuple[Joined, Period]]] = defaultdict(list)
    for pair, period in calls_within(case, "half_open", provider):
        by_period[period.worker, period.provider, period.start_ns].append((pair, period))
    found: list[tuple[Joined, Period]] = []
    for calls in by_period.values():
        calls.sort(key=lambda call: (call[0].start_ns, call[0].call.request_id or ""))
        busy_until_ns = calls[0][0].end_ns
        for pair, period in calls[1:]:
            if pair.start_ns < busy_until_ns:
                found.append((pair, period))
            busy_until_ns = max(busy_until_ns, pair.end_ns)
    return found


def no_call_while_open(case: Case) -> Check:
    """Calls that start between a breaker's opening and its half-open state: none."""
    name = "no call starts while its breaker is open"
    if (missing := _missing(case, "call", "breaker")) is not None:
        return unobservable("invariant", name, missing)
    found = (
        _evidence(case, pair, f"{period.worker} called {period.provider}, its breaker open since "
                              f"{case.journal.seconds(period.start_ns):.3f} s")
        for pair, period in calls_within(case, "open")
    )  # fmt: skip
    return invariant(name, found, examined=len(case.periods.in_state("open")), of="open periods")


def one_probe_at_a_time(case: Case) -> Check:
    """A half-open breaker lets through one call at a time."""
    name = "a half-open breaker lets one call through at a time"
    if (missing := _missing(case, "call", "breaker")) is not None:
        return unobservable("invariant", name, missing)
    found = [
        _evidence(case, pair, f"{period.worker} called half-open {period.provider} beside another probe")
        for pair, period in beside_a_probe(case)
    ]
    return invariant(name, found, examined=len(case.periods.in_state("half_open")), of="half-open periods")


def calls_are_attempts(case: Case) -> Check:
    """Every call that a provider saw is an attempt that the router owns up to, one for one."""
    name = "every call a provider saw is an attempt of the router"
    if (missing := _missing(case, "call", "attempt")) is not None:
        return unobservable("invariant", name, missing)
    found = (
        _evidence(case, pair, f"{pair.call.provider} saw a call that no attempt accounts for")
        for pair in case.joined.unmade()
        if pair.call.request_id is not None and not _died_with(case, pair)
    )
    return invariant(name, found, examined=case.joined.named, of="calls")


def successes_are_calls(case: Case) -> Check:
    """
    Every attempt that the router calls good has a call that the provider completed, and not with an error.

    A toxic may break a connection between the last word of an answer and its end mark: who has the whole text of that
    provider has lost nothing.
    """
    name = "every good attempt has a completed call"
    if (missing := _missing(case, "call", "attempt")) is not None:
        return unobservable("invariant", name, missing)
    answered = case.joined.answered()
    cut_late = _cut_late(case)
    found = (
        case.evidence(f"attempt at {a.provider} reported as ok, but no call was completed", a.start_ns, a.request_id)
        for a in (case.journal.attempts[n] for n, has_call in enumerate(answered) if not has_call)
        if a.outcome == "ok" and (a.request_id, a.provider) not in cut_late
    )
    examined = case.journal.attempts.counts("outcome").get("ok", 0)
    return invariant(name, found, examined=examined, of="good attempts")


def _cut_late(case: Case) -> set[tuple[str, str]]:
    """Return the requests, with the provider asked last, whose client has the whole text of a stream a toxic broke."""
    targets = {fault.target for fault in case.scenario.faults if fault.toxic is not None}
    broken = {
        (call.request_id, call.provider)
        for call in (case.journal.calls if targets else ())
        if call.stream and call.status == 200 and not call.completed and call.provider in targets
    }
    if not broken:
        return set()
    last = {
        (request.request_id, case.asked[request.request_id][-1][1])
        for request in case.journal.requests
        if request.outcome == "whole" and request.request_id in case.asked
    }
    return {made for made in last if made in broken}


def answers_are_successes(case: Case) -> Check:
    """
    Whom the client had its whole answer from is whom the router names: its last attempt, the only good one.

    A request that was refused has no good attempt. The client's view is the text itself, which shows its writer.
    """
    name = "answers come from the attempt that the router names"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")

    def found() -> Iterator[Evidence]:
        for request in case.journal.requests:
            made = case.asked.get(request.request_id)
            text = None if made is None else _contradiction(request, made)
            if text is not None:
                yield case.evidence(text, request.intended_ns, request.request_id)

    return invariant(name, found(), examined=len(case.journal.requests), of="requests")


def _contradiction(request: RequestRecord, made: Asked) -> str | None:
    good = [provider for _, provider, outcome in made if outcome == "ok"]
    if request.outcome == "refused" and good:
        return f"refused with {request.code}, but the attempt at {good[0]} is reported as ok"
    if request.outcome != "whole":
        return None
    if good != [made[-1][1]]:
        told = ", ".join(f"{provider} {outcome}" for _, provider, outcome in made)
        return f"answered whole by {served_by(request)}, but the attempts are reported as {told}"
    writers = request.providers_in_text or ([request.provider] if request.provider is not None else [])
    # Who goes on after a stream that broke may have nothing to add. Otherwise the last to be asked wrote the end.
    asked = iter(provider for _, provider, _ in made)
    in_order = all(writer in asked for writer in writers)
    if in_order and (request.stream or writers[-1:] in ([], good)):
        return None
    return f"answered by {', '.join(writers)}, but the good attempt is said to be {good[0]}'s"


def air_gap_holds(case: Case) -> Check:
    """Under the air gap no provider but the local one sees a call."""
    name = "no cloud call under the air gap"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    if case.setting("AIRGAP_MODE", "").strip().lower() not in ("true", "1", "yes", "on"):
        return invariant(name, [], examined=0, of="calls under an air gap")
    found = (
        _evidence(case, pair, f"{pair.call.provider} was called")
        for pair in case.joined
        if pair.call.provider != "local"
    )
    return invariant(name, found, examined=len(case.joined), of="calls under an air gap")


def _missing(case: Case, *kinds: str) -> str | None:
    return next((kind for kind in kinds if not case.journal.observes(kind)), None)


def _evidence(case: Case, pair: Joined, text: str) -> Evidence:
    return case.evidence(text, pair.start_ns, pair.call.request_id)


def _delayed(case: Case, pair: Joined) -> bool:
    """Whether a toxic on the way to the provider, or a stopped Toxiproxy, was there while the call travelled."""
    return any(
        _holds_up(spec, pair.call.provider)
        and interval.injected_ns is not None
        and interval.injected_ns <= pair.call.arrival_ns
        and (interval.healed_ns is None or interval.healed_ns >= pair.start_ns)
        for spec in case.scenario.faults
        for interval in case.intervals(spec.id)
    )


def _holds_up(spec: FaultSpec, provider: str) -> bool:
    if spec.toxic is not None:
        return spec.toxic.stream == "upstream" and spec.target == provider
    return spec.process == "stop" and spec.target == "toxiproxy"


def _died_with(case: Case, pair: Joined) -> bool:
    """Whether the attempt may be missing because its worker died, or the run, before it could be written."""
    if case.journal.end is None:
        return True
    death = case.orphans.get(pair.call.request_id or "")
    if death is not None and pair.call.arrival_ns <= death.at_ns:
        return True  # on its way to the worker, an answer may outlast the call by as long as a fault holds it
    ends = (death.at_ns for death in case.deaths if death.is_bad)
    return any(pair.call.arrival_ns <= end_ns <= pair.call.end_ns + DYING_NS for end_ns in ends)

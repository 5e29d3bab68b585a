"""Invariants on the calls that providers saw: none that must not be made, and none that the router hides. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from seawall.verdicts.breakers import Period, place
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.joins import Joined
from seawall.verdicts.model import Check, Evidence

__all__ = [
    "air_gap_holds",
    "beside_a_probe",
    "calls_are_attempts",
    "calls_within",
    "no_call_while_open",
    "one_probe_at_a_time",
    "retry_after_is_obeyed",
    "successes_are_calls",
    "worker_of",
]

_DYING_NS = 1_000_000_000
"""How long after a call's end the death of the gateway that made it may be noticed."""
_ASKING = (429, 503)
_COOLDOWN_NS = 50_000_000
"""The cooldown runs from the answer's head, which the router saw this much before its attempt ended, at most."""


def worker_of(case: Case, pair: Joined) -> str | None:
    """Return the worker that made a call; without an attempt only a run of a single worker can tell."""
    if pair.attempt is not None:
        return pair.attempt.worker
    workers = {*case.workers, *case.periods.workers}
    return next(iter(workers)) if len(workers) == 1 else None


def calls_within(case: Case, state: str, provider: str | None = None) -> list[tuple[Joined, Period]]:
    """Return the calls that start while the breaker of the worker that made them is in `state`, with its period."""
    found: list[tuple[Joined, Period]] = []
    for pair in case.joined:
        worker = worker_of(case, pair)
        if worker is None or provider not in (None, pair.call.provider):
            continue
        moments = (pair.start_ns, pair.call.arrival_ns)
        periods = {p.start_ns: p for p in (case.periods.at(pair.call.provider, worker, ns) for ns in moments)}
        found.extend(
            (pair, period)
            for period in periods.values()
            if period.state == state and place(pair, period, delayed=_delayed(case, pair)) == "starts"
        )
    return found


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
    found = [
        _evidence(case, pair, f"{period.worker} called {period.provider}, its breaker open since "
                              f"{case.journal.seconds(period.start_ns):.3f} s")
        for pair, period in calls_within(case, "open")
    ]  # fmt: skip
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
    pairs = [pair for pair in case.joined if pair.call.request_id is not None]
    found = [
        _evidence(case, pair, f"{pair.call.provider} saw a call that no attempt accounts for")
        for pair in pairs
        if pair.attempt is None and not _died_with(case, pair)
    ]
    return invariant(name, found, examined=len(pairs), of="calls")


def successes_are_calls(case: Case) -> Check:
    """Every attempt that the router calls good has a call that the provider completed."""
    name = "every good attempt has a completed call"
    if (missing := _missing(case, "call", "attempt")) is not None:
        return unobservable("invariant", name, missing)
    completed = {id(pair.attempt) for pair in case.joined if pair.attempt is not None and pair.call.completed}
    good = [attempt for attempt in case.journal.attempts if attempt.outcome == "ok"]
    found = [
        case.evidence(f"attempt at {a.provider} reported as ok, but no call was completed", a.start_ns, a.request_id)
        for a in good
        if id(a) not in completed
    ]
    return invariant(name, found, examined=len(good), of="good attempts")


def retry_after_is_obeyed(case: Case) -> Check:
    """After a provider asked for a pause, the worker that was told starts no call to it within the pause."""
    name = "retry-after is obeyed by not calling"
    if (missing := _missing(case, "call", "attempt")) is not None:
        return unobservable("invariant", name, missing)
    pauses = {
        fault.id: round(fault.respond.retry_after * 1e9)
        for fault in case.scenario.faults
        if fault.respond is not None and fault.respond.retry_after is not None
    }
    starts: defaultdict[tuple[str, str], list[Joined]] = defaultdict(list)
    for pair in case.joined:
        if pair.attempt is not None:
            starts[pair.attempt.worker, pair.call.provider].append(pair)
    for pairs in starts.values():
        pairs.sort(key=lambda pair: pair.start_ns)
    asked = [
        pair
        for pair in case.joined
        if pair.call.behaviour in pauses and pair.attempt is not None
        # An answer that never got through to the router asked for nothing.
        if pair.call.status in _ASKING and pair.attempt.status == pair.call.status
    ]
    found: dict[int, Evidence] = {}
    for pair in asked:
        worker, provider = worker_of(case, pair) or "", pair.call.provider
        pairs = starts[worker, provider]
        until_ns = pair.end_ns + pauses[pair.call.behaviour] - _COOLDOWN_NS
        first = bisect_right(pairs, pair.end_ns, key=lambda other: other.start_ns)
        for early in pairs[first : bisect_right(pairs, until_ns - 1, key=lambda other: other.start_ns)]:
            left_s = (until_ns + _COOLDOWN_NS - early.start_ns) / 1e9
            text = f"{worker} called {provider} {left_s:.3f} s before the pause it had asked for was over"
            found.setdefault(id(early), _evidence(case, early, text))
    return invariant(name, list(found.values()), examined=len(asked), of="requests for a pause")


def air_gap_holds(case: Case) -> Check:
    """Under the air gap no provider but the local one sees a call."""
    name = "no cloud call under the air gap"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    header = case.journal.header
    settings = {**case.scenario.system.settings, **(header.settings if header is not None else {})}
    if str(settings.get("AIRGAP_MODE", "")).strip().lower() not in ("true", "1", "yes", "on"):
        return invariant(name, [], examined=0, of="calls under an air gap")
    found = [
        _evidence(case, pair, f"{pair.call.provider} was called")
        for pair in case.joined
        if pair.call.provider != "local"
    ]
    return invariant(name, found, examined=len(case.joined), of="calls under an air gap")


def _missing(case: Case, *kinds: str) -> str | None:
    return next((kind for kind in kinds if not case.journal.observes(kind)), None)


def _evidence(case: Case, pair: Joined, text: str) -> Evidence:
    return case.evidence(text, pair.start_ns, pair.call.request_id)


def _delayed(case: Case, pair: Joined) -> bool:
    """Whether a toxic on the way to the provider was there while the call travelled."""
    return any(
        spec.toxic is not None
        and spec.toxic.stream == "upstream"
        and spec.target == pair.call.provider
        and interval.injected_ns is not None
        and interval.injected_ns <= pair.call.arrival_ns
        and (interval.healed_ns is None or interval.healed_ns >= pair.start_ns)
        for spec in case.scenario.faults
        for interval in case.intervals(spec.id)
    )


def _died_with(case: Case, pair: Joined) -> bool:
    """Whether the attempt may be missing because its process died, or the run, before it could be written."""
    if case.journal.end is None:
        return True
    return any(pair.call.arrival_ns <= exit_ns <= pair.call.end_ns + _DYING_NS for exit_ns in case.bad_exits_ns)

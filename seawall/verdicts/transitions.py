"""Invariants on the breakers' own reports: transitions are legal, late results change nothing, none is stuck. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from math import ceil

from seawall.journal.events import BreakerChange
from seawall.verdicts.breakers import PROBE_NS, Period, changes_of
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = [
    "HALF_OPEN_MAX_S",
    "TOLD",
    "closings_have_a_probe",
    "not_stuck",
    "openings_have_failures",
    "transitions_are_legal",
]

HALF_OPEN_MAX_S = 30.0
"""A probe ends within its timeouts; a breaker that waits longer than this lost it."""
TOLD = "told by "
"""How the cause of a transition begins that a worker learnt of from another (BREAKER_STORE=redis)."""
_NO_FAILURES = frozenset({400, 401, 403, 404, 413, 422})
_LEGAL = {("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("half_open", "open")}


def transitions_are_legal(case: Case) -> Check:
    """Each breaker goes closed → open → half_open → closed or open, from where it was, one generation at a time."""
    name = "breaker transitions are legal"
    if not case.journal.observes("breaker"):
        return unobservable("invariant", name, "breaker")
    found: list[Evidence] = []
    for changes in changes_of(case.journal).values():
        state, generation = "closed", None
        for timed in changes:
            problem = _problem(timed.event, state, generation)
            if problem is not None:
                found.append(case.evidence(problem, timed.mono_ns))
            state, generation = timed.event.to, timed.event.generation
    return invariant(name, found, examined=len(case.journal.breakers), of="transitions")


def closings_have_a_probe(case: Case) -> Check:
    """
    A breaker closes only after a call that began half-open got an answer: a late result changes nothing.

    One that another worker told of its closing has no probe of its own.
    """
    name = "only a probe closes a breaker"
    for kind in ("breaker", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    answered: defaultdict[tuple[str, str], tuple[array[int], array[int]]] = defaultdict(
        lambda: (array("q"), array("q"))
    )
    moved = {(timed.event.worker, timed.event.provider) for timed in case.journal.breakers}
    for attempt in case.journal.attempts:
        if attempt.first_byte_ns is not None and (attempt.worker, attempt.provider) in moved:
            starts, first_bytes = answered[attempt.worker, attempt.provider]
            starts.append(attempt.start_ns)
            first_bytes.append(attempt.first_byte_ns)
    found: list[Evidence] = []
    examined = 0
    for (worker, provider), changes in changes_of(case.journal).items():
        attempts = answered[worker, provider]
        for before, timed in pairwise(changes):
            if timed.event.to != "closed" or timed.event.cause.startswith(TOLD):
                continue
            examined += 1
            if not _has_probe(*attempts, before.mono_ns, timed.mono_ns):
                text = f"{worker} closed its breaker of {provider} without a probe that was answered"
                found.append(case.evidence(text, timed.mono_ns))
    return invariant(name, found, examined=examined, of="closings")


def openings_have_failures(case: Case) -> Check:
    """
    A breaker opens only after as many failures as its threshold, of a kind that says something of the provider.

    A request that is itself at fault (400, 413, 422) or was given up counts as none. Nor does a wrong key or model.
    One that another worker told of its opening has none of its own.
    """
    name = "only failures of the provider open a breaker"
    for kind in ("breaker", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    threshold = _failures_min(case)
    failures: defaultdict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))
    for attempt in case.journal.attempts:
        ends = failures[attempt.worker, attempt.provider]
        if attempt.outcome == "failed" and attempt.status not in _NO_FAILURES:
            ends.append(attempt.end_ns)
    found: list[Evidence] = []
    examined = 0
    changes = changes_of(case.journal)
    for worker, provider in failures.keys() & changes.keys():
        ends = sorted(failures[worker, provider])
        told = {timed.mono_ns for timed in changes[worker, provider] if timed.event.cause.startswith(TOLD)}
        for closed, opened in pairwise(case.periods.of(worker, provider)):
            if closed.state != "closed" or opened.state != "open" or opened.start_ns in told:
                continue
            examined += 1
            last = bisect_left(ends, opened.start_ns + PROBE_NS)  # the attempt is reported after what it led to
            count = last - bisect_left(ends, closed.start_ns)
            if count < threshold:
                text = f"{worker} opened its breaker of {provider} after {count} failures that count, not {threshold}"
                found.append(case.evidence(text, opened.start_ns))
    return invariant(name, found, examined=examined, of="openings")


def _failures_min(case: Case) -> int:
    """Return the fewest failures that can open a breaker: in a row, or as a share of a window; slow calls need none."""
    threshold = int(case.setting("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "3"))
    ratio = float(case.setting("CIRCUIT_BREAKER_FAILURE_RATIO", "0"))
    if float(case.setting("CIRCUIT_BREAKER_SLOW_RATIO", "0")) > 0:
        return 0
    share = ceil(ratio * int(case.setting("CIRCUIT_BREAKER_WINDOW_MIN", "20"))) if ratio > 0 else threshold
    return min(threshold, share)


def not_stuck(case: Case) -> Check:
    """
    No breaker stays half-open for longer than HALF_OPEN_MAX_S, the end of the load included.

    One whose probe has ended without a word on the provider (its caller left, its key was refused) waits for the next
    request: it is stuck when that is turned away.
    """
    name = "no breaker is stuck half-open"
    if not case.journal.observes("breaker"):
        return unobservable("invariant", name, "breaker")
    periods = case.periods.in_state("half_open")
    lengths_s = [(p, (min(p.end_ns, case.journal.load_end_ns) - p.start_ns) / 1e9) for p in periods]
    found = [
        case.evidence(f"{p.worker} kept its breaker of {p.provider} half-open for {length_s:.1f} s", p.start_ns)
        for p, length_s in lengths_s
        if length_s > HALF_OPEN_MAX_S and not _waits_for_a_request(case, p)
    ]
    return invariant(name, found, examined=len(periods), of="half-open periods", limit=f"<= {HALF_OPEN_MAX_S:g} s")


def _waits_for_a_request(case: Case, period: Period) -> bool:
    """Whether the slot of a half-open breaker is free, as far as can be seen: its probe has ended, and nobody came."""
    ends_ns = [
        attempt.end_ns
        for attempt in case.journal.attempts
        if (attempt.worker, attempt.provider) == (period.worker, period.provider)
        and period.start_ns - PROBE_NS <= attempt.start_ns
        and attempt.end_ns < period.end_ns
    ]
    return bool(ends_ns) and not any(
        timed.event.worker == period.worker
        and timed.event.provider == period.provider
        and timed.event.reason == "breaker_open"
        and max(ends_ns) < timed.mono_ns < period.end_ns
        for timed in case.journal.skips
    )


def _problem(change: BreakerChange, state: str, generation: int | None) -> str | None:
    who = f"{change.worker}'s breaker of {change.provider}"
    if change.from_state != state:
        return f"{who} went from {change.from_state} to {change.to}, but it was {state}"
    if (change.from_state, change.to) not in _LEGAL:
        return f"{who} went from {change.from_state} to {change.to}, which is no legal transition"
    if generation is not None and change.generation != generation + 1:
        return f"{who} went from generation {generation} to {change.generation}"
    return None


def _has_probe(starts: array[int], first_bytes: array[int], half_open_ns: int, closed_ns: int) -> bool:
    first, last = bisect_left(starts, half_open_ns - PROBE_NS), bisect_left(starts, closed_ns + 1)
    return any(first_byte_ns <= closed_ns for first_byte_ns in first_bytes[first:last])

"""
Invariants on what a router does of its own accord: it opens and rests as it promised, cools down only for whom asked,
goes on at once, asks for what it was asked for, and ends a call with its request. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby, pairwise

from seawall.journal.events import Attempt, BreakerChange, CallRecord
from seawall.journal.view import Timed
from seawall.verdicts.bounds import Bounds
from seawall.verdicts.breakers import PROBE_NS
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence
from seawall.verdicts.spans import Span
from seawall.verdicts.transitions import TOLD

__all__ = [
    "asks_for_what_was_asked",
    "calls_end_with_their_request",
    "cools_down_for_whom_asked",
    "fast_only_when_measured_so",
    "goes_on_at_once",
    "leaves_a_stream_that_stops",
    "no_broken_answer_is_good",
    "opens_at_its_threshold",
    "rests_for_its_time",
]

_NOT_COUNTED = frozenset({"authentication_failed", "model_not_found", "unsupported"})
_PAUSING = frozenset({"rate_limited", "provider_overloaded"})
_RESUME_RATIO = 0.8
"""Of the limit: a measured time above it leaves a slow provider slow."""
_AT_ONCE_NS = 500_000_000
"""Between two attempts of a request, beside the time for the budget's store."""
_BROKEN = frozenset({"empty", "html", "malformed", "truncated", "error_event", "no_done"})
"""What a provider may do wrong that leaves no answer whole that it takes, however much of the text has come."""
_ENDS_NS = 2_000_000_000
"""How long after the end of its request a call may be seen to end by its provider."""


def opens_at_its_threshold(case: Case) -> Check:
    """
    After as many failures in a row as the threshold no call starts by the same state of the breaker.

    In a row: by the generation at which the calls began, in order of their ends, no good answer between them. Where
    two end at the same moment the good one is taken to lie between.
    """
    name = "a breaker opens at its threshold"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    threshold = int(case.setting("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "3"))
    by_state: defaultdict[tuple[str, str, str | None, int], list[tuple[int, int, str]]] = defaultdict(list)
    for attempt in case.journal.attempts:
        counts = attempt.outcome == "failed" and attempt.error not in _NOT_COUNTED
        kind = "failed" if counts else attempt.outcome
        if kind == "ok" or counts:
            key = (attempt.worker, attempt.provider, attempt.deployment, attempt.generation)
            by_state[key].append((attempt.end_ns, attempt.start_ns, kind))

    def late() -> Iterator[Evidence]:
        for (worker, provider, _, _), ends in by_state.items():
            due_ns = _due_ns(sorted(ends), threshold)
            after = [start_ns for _, start_ns, _ in ends if due_ns is not None and start_ns > due_ns]
            if after:
                text = f"{worker} called {provider} after {threshold} failures in a row had not opened its breaker"
                yield case.evidence(text, min(after))

    return invariant(name, late(), examined=len(by_state), of="states of breakers with results")


def _due_ns(ends: list[tuple[int, int, str]], threshold: int) -> int | None:
    """Return when the last failure of a row as long as the threshold ended; None where there is no such row."""
    failures = 0
    for end_ns, together in groupby(ends, key=lambda end: end[0]):
        kinds = [kind for _, _, kind in together]
        failures = 0 if "ok" in kinds else failures + len(kinds)
        if failures >= threshold:
            return end_ns
    return None


def rests_for_its_time(case: Case) -> Check:
    """An open breaker stays open for the recovery timeout at least, but where another worker told of a probe."""
    name = "a breaker stays open for its recovery timeout"
    if not case.journal.observes("breaker"):
        return unobservable("invariant", name, "breaker")
    recovery_s = Bounds.of(case).settings.circuit_breaker_recovery_timeout
    changes: defaultdict[tuple[str, str, str | None], list[Timed[BreakerChange]]] = defaultdict(list)
    for timed in case.journal.breakers:
        changes[timed.event.worker, timed.event.provider, timed.event.deployment].append(timed)
    rests = [
        (opened, ended)
        for of_one in changes.values()
        for opened, ended in pairwise(of_one)
        if (opened.event.to, ended.event.to) == ("open", "half_open")
        and not any(timed.event.cause.startswith(TOLD) for timed in (opened, ended))
    ]
    found = (
        case.evidence(
            f"{ended.event.worker} let its breaker of {ended.event.provider} rest for {length_ns / 1e9:.3f} s",
            ended.mono_ns,
        )
        for opened, ended in rests
        if (length_ns := ended.mono_ns - opened.mono_ns) < recovery_s * 1e9 - PROBE_NS
    )
    return invariant(name, found, examined=len(rests), of="open periods", limit=f">= {recovery_s:g} s")


def cools_down_for_whom_asked(case: Case) -> Check:
    """A provider is passed over as cooling down only within a pause that it asked that worker for."""
    name = "a provider cools down only when it asked for it"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    if case.setting("BREAKER_STORE", "memory").lower() != "memory":
        return invariant(name, [], examined=0, of="skips of one worker's own")
    pauses_ns: dict[str, int] = {}
    for fault in case.scenario.faults:
        if fault.respond is not None and fault.respond.retry_after is not None:
            pauses_ns[fault.target] = max(pauses_ns.get(fault.target, 0), round(fault.respond.retry_after * 1e9))
    asked: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for attempt in case.journal.attempts:
        if attempt.error in _PAUSING:
            asked[attempt.worker, attempt.provider].append(attempt.end_ns)
    for ends in asked.values():
        ends.sort()
    skips = [timed for timed in case.journal.skips if timed.event.reason == "cooling_down"]

    def unasked() -> Iterator[Evidence]:
        for timed in skips:
            skip = timed.event
            ends = asked.get((skip.worker, skip.provider), [])
            last = bisect_right(ends, timed.mono_ns + PROBE_NS) - 1
            if last < 0 or timed.mono_ns > ends[last] + pauses_ns.get(skip.provider, 0) + PROBE_NS:
                text = f"{skip.worker} passed over {skip.provider} as cooling down, which had not asked for that"
                yield case.evidence(text, timed.mono_ns, skip.request_id)

    return invariant(name, unasked(), examined=len(skips), of="skips for a cooldown")


def fast_only_when_measured_so(case: Case) -> Check:
    """A slow provider counts as fast again only by a measuring call well below the limit: it does not flap."""
    name = "a slow provider is fast again only when it was measured so"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    settings = Bounds.of(case).settings
    limits_s = {True: settings.latency_limit, False: settings.json_limit()}
    turned = [timed for timed in case.journal.latencies if timed.event.to == "fast"]
    measured: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in case.journal.attempts if turned else ():
        if attempt.reason in ("measure", "probe"):
            measured[attempt.worker, attempt.provider].append(attempt)

    def allowed_ns(attempt: Attempt) -> float:
        limit_s = limits_s[attempt.stream] or max(limits_s.values())
        return _RESUME_RATIO * limit_s * 1e9 + PROBE_NS

    found = (
        case.evidence(f"{timed.event.worker} calls {timed.event.provider} fast, and measured no such time",
                      timed.mono_ns)
        for timed in turned
        if not any(
            attempt.start_ns <= timed.mono_ns <= attempt.start_ns + allowed_ns(attempt)
            for attempt in measured[timed.event.worker, timed.event.provider]
        )
    )  # fmt: skip
    return invariant(name, found, examined=len(turned), of="turns to fast")


def goes_on_at_once(case: Case) -> Check:
    """No pause lies between two attempts of a request: whoever waits there waits with the client on the line."""
    name = "a failover is at once"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    bounds = Bounds.of(case)
    limit_ns = _AT_ONCE_NS + 4 * bounds.store_ns  # whoever stands between the two is asked for a reservation as well
    again: dict[str, list[tuple[int, int, int]]] = {}
    for attempt in case.journal.attempts:
        if len(case.asked[attempt.request_id]) > 1:
            again.setdefault(attempt.request_id, []).append((attempt.n, attempt.start_ns, attempt.end_ns))

    def pauses() -> Iterator[Evidence]:
        for request_id, attempts in again.items():
            for (_, _, end_ns), (n, start_ns, _) in pairwise(sorted(attempts)):
                if start_ns - end_ns > limit_ns and not bounds.stands_still(end_ns, start_ns):
                    text = f"attempt {n} began {(start_ns - end_ns) / 1e9:.3f} s after the one before had ended"
                    yield case.evidence(text, start_ns, request_id)

    return invariant(name, pauses(), examined=len(again), of="requests with a failover")


def asks_for_what_was_asked(case: Case) -> Check:
    """Whoever is asked, first or last, is asked for a stream when the client was, and for no longer an answer."""
    name = "every call asks for what its client asked for"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    requests = case.requests
    tokens_max = case.scenario.load.max_tokens

    def wrong() -> Iterator[Evidence]:
        for call in case.journal.calls:
            place = requests.place.get(call.request_id or "")
            if place is None:
                continue
            wanted = bool(requests.streams[place])
            if call.stream != wanted:
                words = ("a stream", "JSON") if call.stream else ("JSON", "a stream")
                yield case.evidence(
                    f"{call.provider} was asked for {words[0]} where the client wants {words[1]}",
                    call.arrival_ns,
                    call.request_id,
                )
            elif call.behaviour == "healthy" and call.completion_tokens > tokens_max:
                text = f"{call.provider} wrote {call.completion_tokens} tokens where the client wants {tokens_max}"
                yield case.evidence(text, call.arrival_ns, call.request_id)

    return invariant(name, wrong(), examined=len(case.journal.calls), of="calls")


def no_broken_answer_is_good(case: Case) -> Check:
    """An answer without its end, or with an error in it, makes no good attempt, though its text may be all there."""
    name = "no broken answer makes a good attempt"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    kinds = {fault.id: fault.respond.kind for fault in case.scenario.faults if fault.respond is not None}
    wrong = {fault_id for fault_id, kind in kinds.items() if kind in _BROKEN}
    broken = list(case.joined.of(lambda call: call.behaviour in wrong)) if wrong else []
    found = (
        case.evidence(
            f"the attempt at {pair.call.provider} is good, and its answer was {kinds[pair.call.behaviour]}",
            pair.start_ns,
            pair.call.request_id,
        )
        for pair in broken
        if pair.attempt is not None and pair.attempt.outcome == "ok"
    )
    return invariant(name, found, examined=len(broken), of="broken answers")


def leaves_a_stream_that_stops(case: Case) -> Check:
    """A stream whose tokens are further apart than the idle timeout is neither taken whole nor waited for."""
    name = "no attempt outlasts its idle timeout"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    bounds, held_up = Bounds.of(case), _held_up(case)
    idle_ns = round(bounds.settings.idle_timeout * 1e9)
    gaps_ns = {f.id: round((f.respond.dribble or 0.0) * 1e9) for f in case.scenario.faults if f.respond is not None}
    stops = {fault_id for fault_id, gap_ns in gaps_ns.items() if gap_ns > idle_ns + PROBE_NS}
    # A toxic may put bytes into the gaps.
    stopping = [
        (pair.attempt, pair.attempt.first_byte_ns, pair.call)
        for pair in (case.joined.of(lambda call: call.behaviour in stops) if stops else ())
        if pair.attempt is not None
        and pair.attempt.first_byte_ns is not None
        and pair.call.stream
        and not _overlaps(held_up, pair.call)
    ]

    def waited() -> Iterator[Evidence]:
        for attempt, first_byte_ns, call in stopping:
            took_ns = attempt.end_ns - first_byte_ns
            if took_ns > idle_ns + _ENDS_NS or (attempt.outcome == "ok" and call.completion_tokens > 1):
                text = (
                    f"the attempt at {attempt.provider} ended {took_ns / 1e9:.3f} s after its first byte, its tokens "
                )
                text += f"{gaps_ns[call.behaviour] / 1e9:g} s apart"
                yield case.evidence(text, attempt.start_ns, attempt.request_id)

    return invariant(name, waited(), examined=len(stopping), of="streams that stop", limit=f"{idle_ns / 1e9:g} s")


def calls_end_with_their_request(case: Case) -> Check:
    """A call ends when its request does: what goes on after its client has left is paid for nothing."""
    name = "no call outlives its request"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    requests = case.requests
    held_up = _held_up(case)

    def late() -> Iterator[Evidence]:
        for call in case.journal.calls:
            place = requests.place.get(call.request_id or "")
            over_ns = 0 if place is None else call.end_ns - requests.ends_ns[place]
            if over_ns <= _ENDS_NS or _overlaps(held_up, call):
                continue
            text = f"the call at {call.provider} went on for {over_ns / 1e9:.3f} s after its request had ended"
            yield case.evidence(text, call.arrival_ns, call.request_id)

    return invariant(name, late(), examined=len(case.journal.calls), of="calls")


def _overlaps(spans: dict[str, list[Span]], call: CallRecord) -> bool:
    return any(
        span.start_ns <= call.end_ns and call.arrival_ns <= span.end_ns
        for span in (*spans.get(call.provider, ()), *spans.get("", ()))
    )


def _held_up(case: Case) -> dict[str, list[Span]]:
    """Return when a provider could not see that its caller had left, by provider; "": none of them could."""
    spans: dict[str, list[Span]] = {}
    for fault in case.scenario.faults:
        if fault.toxic is None and fault.process is None:
            continue
        whom = fault.target if fault.toxic is not None else ""
        for interval in case.intervals(fault.id):
            if interval.injected_ns is not None:
                healed_ns = case.journal.last_ns if interval.healed_ns is None else interval.healed_ns
                spans.setdefault(whom, []).append(Span(interval.injected_ns, healed_ns + _ENDS_NS))
    return spans

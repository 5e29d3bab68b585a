"""Mutations of a healthy run, each with the checks that it turns red, the run's verdict, and words of its `why`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from journal_builder import EMULATORS, LOADER, SCENARIO, WORKER, Recording, ns

from seawall.journal.events import (
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Fault,
    Header,
    Note,
    Process,
    RequestRecord,
    Skip,
    Spend,
)

copy = msgspec.structs.replace


class Broken(NamedTuple):
    """A mutation, the checks it turns red (by their names), the run's verdict, and words of `why`."""

    mutate: Callable[[Recording], object]
    red: set[str]
    verdict: str
    why: str
    scenario: str = SCENARIO


def records(run: Recording, **fields: Any) -> list[RequestRecord]:
    return run.of(RequestRecord, **fields)


def outcome(outcome: str, **fields: Any) -> Callable[[Recording], None]:
    def mutate(run: Recording) -> None:
        record = records(run, request_id="000300")[0]
        record.outcome = outcome  # type: ignore[assignment]
        for name, value in fields.items():
            setattr(record, name, value)

    return mutate


def answered_by(run: Recording, request_id: str, provider: str) -> None:
    """Let a request's first attempt be at this provider, which answers it, from everybody's point of view."""
    attempt, call = run.of(Attempt, request_id=request_id)[0], run.of(CallRecord, request_id=request_id)[0]
    (record,) = records(run, request_id=request_id)
    attempt.provider = call.provider = record.provider = provider
    record.providers_in_text = [provider]


def twice(run: Recording) -> None:
    record = records(run, request_id="000300")[0]
    run.add(record.end_ns, LOADER, copy(record))


def lost(run: Recording) -> None:
    run.drop(*records(run, request_id="000300"))


def foreign(run: Recording) -> None:
    records(run, request_id="000300")[0].request_id = "000900"


def wrong_order(run: Recording) -> None:
    answered_by(run, "000500", "claude")


def asked_twice(run: Recording) -> None:
    """The same provider again after a failure."""
    failed = run.of(Attempt, provider="gemini", outcome="failed", status=429)[0]
    for event in (*run.of(Attempt, request_id=failed.request_id), *run.of(CallRecord, request_id=failed.request_id)):
        event.provider = "claude"
    run.add(ns(26), WORKER, Skip(request_id=failed.request_id, provider="gemini", reason="budget", worker=WORKER))
    for call in run.of(CallRecord, request_id=failed.request_id):
        call.behaviour = "healthy"


def called_while_open(run: Recording) -> None:
    """A request that went to Claude while Gemini's breaker was open goes to Gemini first."""
    skip = next(s for s in run.of(Skip, reason="breaker_open") if run.time_of(s) > ns(10.5))
    answered_by(run, skip.request_id, "gemini")


def two_probes(run: Recording) -> None:
    probe = run.of(Attempt, reason="probe")[0]
    skip = next(s for s in run.of(Skip, reason="breaker_open") if run.time_of(s) > probe.start_ns)
    answered_by(run, skip.request_id, "gemini")


def opens_too_soon(run: Recording) -> None:
    """Two of the three failures that open the breaker were the requests' own fault."""
    for attempt in run.of(Attempt, provider="gemini", outcome="failed")[:2]:
        attempt.status = 400


def waited_for(run: Recording) -> None:
    """The attempt that is told to come back in 2 s ends, in vain, 2 s later."""
    call = run.of(CallRecord, behaviour="throttle")[0]
    call.end_ns -= 2_000_000_000


def misreported(run: Recording) -> None:
    """A failed attempt is said to have been good."""
    run.of(Attempt, status=429)[0].outcome = "ok"


def hidden_call(run: Recording) -> None:
    call = run.of(CallRecord, request_id="000500")[0]
    again = copy(call, arrival_ns=call.arrival_ns + 1_000_000)
    run.add(call.end_ns, EMULATORS, again)


def hidden_attempt(run: Recording) -> None:
    run.drop(*run.of(Attempt, request_id="000301"))


def false_success(run: Recording) -> None:
    run.of(CallRecord, request_id="000300")[0].completed = False


def called_in_pause(run: Recording) -> None:
    told = run.of(Attempt, provider="gemini", status=429)[0]
    skip = next(s for s in run.of(Skip, reason="cooling_down") if run.time_of(s) > told.end_ns)
    answered_by(run, skip.request_id, "gemini")
    run.drop(skip)


def airgap(run: Recording) -> None:
    run.of(Header)[0].settings["AIRGAP_MODE"] = "True"


def illegal_transition(run: Recording) -> None:
    run.of(BreakerChange, to="half_open")[1].from_state = "closed"


def unknown_transition(run: Recording) -> None:
    """The last transition goes from closed to closed once more."""
    last = run.of(BreakerChange)[-1]
    again = copy(last, from_state="closed", generation=last.generation + 1)
    run.add(run.time_of(last) + 200_000_000, WORKER, again)


def generation_jumps(run: Recording) -> None:
    run.of(BreakerChange)[-1].generation += 1


def late_result_closes(run: Recording) -> None:
    """The breaker closes although its probe never got a byte."""
    run.of(Attempt, reason="probe", outcome="ok")[0].first_byte_ns = None


def stuck(run: Recording) -> None:
    """A breaker of another worker goes half-open and stays so."""
    for at_s, old, new, generation in ((1.0, "closed", "open", 1), (4.0, "open", "half_open", 2)):
        change = BreakerChange(
            worker="gateway-101", provider="claude", from_state=old, to=new, generation=generation, cause="x"
        )
        run.add(ns(at_s), "gateway-101", change)


def overspent(run: Recording) -> None:
    for spend in run.of(Spend):
        spend.limit_micro_usd = 100_000


def not_settled(run: Recording) -> None:
    """The last settlement is missing; the total still holds the reservation."""
    run.drop(run.of(Spend, action="settle")[-1])


def settled_twice(run: Recording) -> None:
    first = run.of(Spend, action="settle")[-1]
    run.add(run.time_of(first) + 1, WORKER, copy(first, micro_usd=0))


def wrong_total(run: Recording) -> None:
    run.of(Spend)[-1].total_micro_usd += 1


def out_of_window(run: Recording) -> None:
    run.of(CallRecord, request_id="000700")[0].behaviour = "throttle"


def told_a_key(run: Recording) -> None:
    answered_by(run, "000300", "claude")
    skip = Skip(request_id="000300", provider="gemini", reason="no_key", worker=WORKER)
    run.add(ns(15), WORKER, skip)
    run.of(Attempt, request_id="000300")[0].error = "401 for authorization: Bearer emulated"


def not_active(fault_id: str) -> Callable[[Recording], None]:
    def mutate(run: Recording) -> None:
        run.drop(*run.of(Fault, id=fault_id, phase="active"))

    return mutate


def not_met(run: Recording) -> None:
    run.drop(*run.of(Fault, id="throttle", phase="met"))


def nobody_touched(run: Recording) -> None:
    """The harness says that it was met, but no call bears the mark."""
    for call in run.of(CallRecord, behaviour="throttle"):
        call.behaviour = "healthy"


def never_injected(run: Recording) -> None:
    gone = [fault for fault in run.of(Fault, id="throttle") if fault.phase != "planned"]
    gone[0].error = "the proxy refused"
    run.drop(*gone[1:])
    gone[0].phase = "planned"
    for call in run.of(CallRecord, behaviour="throttle"):
        call.behaviour = "healthy"


def lagging(run: Recording) -> None:
    """1 of 50 requests leaves 20 ms late."""
    for record in records(run)[::50]:
        record.sent_ns = record.intended_ns + 20_000_000


def one_late(run: Recording) -> None:
    records(run)[400].sent_ns = records(run)[400].intended_ns + 101_000_000


def generator_died(run: Recording) -> None:
    run.of(Process, action="exit")[0].code = -9


def killed(run: Recording) -> None:
    run.drop(*run.of(End))


def ended(reason: str) -> Callable[[Recording], None]:
    def mutate(run: Recording) -> None:
        run.of(End)[0].reason = reason  # type: ignore[assignment]
        run.of(End)[0].detail = "why"

    return mutate


def bad_line(run: Recording) -> None:
    run.add(ns(43), "merge", Note(text="events-load-2.jsonl, line 7 is no event", level="error"))


def no_requests(run: Recording) -> None:
    run.drop(*records(run))


def never_opens(run: Recording) -> None:
    run.drop(*run.of(BreakerChange))


def unsteady(first: int, last: int, extra_ms: int) -> Callable[[Recording], None]:
    """Requests `first` to `last` take longer."""

    def mutate(run: Recording) -> None:
        for record in records(run)[first : last + 1]:
            record.end_ns += extra_ms * 1_000_000

    return mutate


def claude_keeps_serving(run: Recording) -> None:
    for record in records(run):
        if record.intended_ns > ns(16):
            record.providers_in_text = ["claude"]


def breaker_stays_open(run: Recording) -> None:
    """Another worker's breaker closes only 5.3 s after the healing."""
    run.of(Attempt, request_id="000426")[0].worker = "gateway-101"  # its probe, at 21.3 s
    for attempt in run.of(Attempt, outcome="failed")[5:8]:
        attempt.worker = "gateway-101"
    steps = (("closed", "open", 14.0), ("open", "half_open", 17.0), ("half_open", "closed", 21.4))
    for generation, (old, new, at_s) in enumerate(steps, start=1):
        change = BreakerChange(
            worker="gateway-101", provider="gemini", from_state=old, to=new, generation=generation, cause="x"
        )
        run.add(ns(at_s), "gateway-101", change)


def slow_in_the_dark(run: Recording) -> None:
    for record in records(run):
        if ns(8.1) <= record.intended_ns < ns(8.4):
            record.end_ns += 1_000_000_000


DISGUISED, CUT, HUNG = "no error is passed on as an answer", "no answer is cut", "no request hangs"
ONE_RECORD, COMPLETE = "every request has exactly one record", "every planned request was sent and recorded"
ORDER, WHILE_OPEN = "failover follows the chain", "no call starts while its breaker is open"
PROBES, HAS_ATTEMPT = "a half-open breaker lets one call through at a time", "every call a provider saw is an attempt"
HAS_ATTEMPT += " of the router"
HAS_CALL, PAUSE = "every good attempt has a completed call", "retry-after is obeyed by not calling"
LEGAL, ONLY_PROBE, STUCK = "breaker transitions are legal", "only a probe closes a breaker", "no breaker is stuck"
STUCK += " half-open"
LIMIT, CLOSED = "spend never passes the limit", "every reservation is settled or expired once"
SUM, WINDOW = "the total spent is the sum of the settlements", "no fault acts outside its window"
ANSWERS, OPENED = "answers come from the attempt that the router names", "only failures of the provider open a breaker"
WAITED, WELL = "no client sits through a retry-after", "a provider that is well answers"
SECRET = "no secret in any output"
MET, DARK_MET = "fault throttle was in force and met", "fault dark was in force and met"
TIMES, GENERATOR = "the load generator kept its times", "the load generator ended well"
ENDED, READABLE = "the run came to its end", "the journal is whole"
RATE, ALWAYS = "success_rate >= 99.9%", "calls to gemini while open"
BACK, SHARE = "the breaker of gemini is closed after dark", "gemini serves >= 95% of the requests after dark"
REACHES, SERVED = "the breaker of gemini reaches open", "requests served by claude"
SLOW = "latency_p99 < 1500ms during dark"

NO_SHARE = SCENARIO.replace('    - {served_by: gemini, share: ">= 95%", within: 8s, after: dark}\n', "")

BROKEN: dict[str, Broken] = {
    "disguised": Broken(outcome("disguised"), {DISGUISED, RATE}, "fail", "request 000300"),
    "cut": Broken(outcome("cut", problem="gap"), {CUT, RATE}, "fail", "the answer was cut: gap (at 15.000 s"),
    "hung": Broken(outcome("hung"), {HUNG, RATE}, "fail", "no end within the client's deadline"),
    "error": Broken(
        outcome("error", status=502), {WELL, RATE}, "fail", "though local and claude and openai was well (at 15.000 s"
    ),
    "duplicated": Broken(twice, {ONE_RECORD, COMPLETE}, "fail", "2 records of one request (at 15.000 s"),
    "lost": Broken(lost, {ONE_RECORD, COMPLETE}, "invalid", "no record of it (request 000300)"),
    "foreign": Broken(foreign, {ONE_RECORD}, "invalid", "no record of it (request 000300)"),
    "dropped": Broken(outcome("dropped"), {COMPLETE}, "invalid", "let it go: dropped (at 15.000 s, request 000300)"),
    "order": Broken(wrong_order, {ORDER}, "fail", "asked claude where the plan is gemini"),
    "asked twice": Broken(
        asked_twice,
        {ORDER, "a provider cools down only when it asked for it", "every call is settled at its price"},
        "fail",
        "claude was asked twice: claude → claude",
    ),
    "while open": Broken(
        called_while_open, {WHILE_OPEN, ALWAYS}, "fail", "gateway-100 called gemini, its breaker open since 9.202 s"
    ),
    "two probes": Broken(two_probes, {PROBES}, "fail", "called half-open gemini beside another probe"),
    "hidden call": Broken(hidden_call, {HAS_ATTEMPT}, "fail", "gemini saw a call that no attempt accounts for"),
    "hidden attempt": Broken(hidden_attempt, {HAS_ATTEMPT}, "fail", "request 000301"),
    "false success": Broken(false_success, {HAS_CALL}, "fail", "reported as ok, but no call was completed"),
    "pause": Broken(called_in_pause, {PAUSE}, "fail", "before the pause it had asked for was over"),
    "air gap": Broken(airgap, {"no cloud call under the air gap"}, "fail", "gemini was called (at 0.002 s"),
    "illegal transition": Broken(illegal_transition, {LEGAL}, "fail", "from closed to half_open, but it was open"),
    "unknown transition": Broken(unknown_transition, {LEGAL}, "fail", "which is no legal transition"),
    "generation": Broken(generation_jumps, {LEGAL}, "fail", "went from generation 4 to 6"),
    "opens too soon": Broken(opens_too_soon, {OPENED}, "fail", "after 1 failures that count, not 3"),
    "waited for": Broken(waited_for, {WAITED}, "fail", "went on for 2.000 s after it had asked for a pause of 2 s"),
    "misreported": Broken(
        misreported, {ANSWERS, HAS_CALL}, "fail", "attempt at gemini reported as ok, but no call was completed"
    ),
    "late result": Broken(late_result_closes, {ONLY_PROBE}, "fail", "without a probe that was answered"),
    "stuck": Broken(stuck, {STUCK}, "fail", "half-open for 36.0 s (at 4.000 s)"),
    "overspent": Broken(overspent, {LIMIT}, "fail", "over the limit of 0.100000 USD"),
    "not settled": Broken(not_settled, {CLOSED}, "fail", "was made 1 times and closed 0 times"),
    "settled twice": Broken(settled_twice, {CLOSED}, "fail", "was made 1 times and closed 2 times"),
    "wrong total": Broken(wrong_total, {SUM}, "fail", "but its steps add up to 0.120000 USD"),
    "out of window": Broken(out_of_window, {WINDOW}, "invalid", "behaved by fault throttle (at 35.004 s"),
    "secret": Broken(told_a_key, {SECRET}, "fail", "looks like a key or a password in an attempt at claude"),
    "not active": Broken(not_active("throttle"), {MET}, "invalid", "fault throttle never took effect (at 26.000 s)"),
    "not met": Broken(not_met, {MET}, "invalid", "fault throttle was in force, but nobody met it (at 26.100 s)"),
    "nobody touched": Broken(nobody_touched, {MET}, "invalid", "nobody met it"),
    "never injected": Broken(
        never_injected, {MET}, "invalid", "Fault throttle was never injected: the proxy refused", NO_SHARE
    ),
    "lagging": Broken(lagging, {TIMES}, "invalid", "sent 20.0 ms late (at 0.000 s, request 000000)"),
    "one late": Broken(one_late, {TIMES}, "invalid", "sent 101.0 ms late (at 20.000 s, request 000400)"),
    "generator died": Broken(generator_died, {GENERATOR}, "invalid", "load ended with code -9 (at 42.000 s)"),
    "killed": Broken(killed, {ENDED}, "invalid", "The journal has no end: the run was killed."),
    "stopped": Broken(ended("stopped"), {ENDED}, "invalid", "ended by stopped: why"),
    "bad line": Broken(bad_line, {READABLE}, "invalid", "line 7 is no event"),
    "unsteady before": Broken(
        unsteady(60, 159, 150), {"latency_p50 < 200ms before the first fault"}, "fail", "took 213.0 ms (at 3.000 s"
    ),
    "unsteady after": Broken(
        unsteady(600, 605, 400), {"latency_p95 < 400ms after the last fault"}, "fail", "took 463.0 ms (at 30.000 s"
    ),
    "slow to close": Broken(
        breaker_stays_open, {BACK}, "fail", "gateway-101's breaker of gemini was half_open (at 17.000 s)"
    ),
    "claude keeps serving": Broken(
        claude_keeps_serving, {SHARE, ANSWERS}, "fail", "but the good attempt is said to be gemini's"
    ),
    "advisory": Broken(slow_in_the_dark, {SLOW}, "partial", "took 2063.0 ms (at 8.100 s, request 000162)"),
}

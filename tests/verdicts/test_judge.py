"""A healthy run passes; every single thing that is broken in it turns exactly its check red, with the right verdict."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_builder import (
    EMULATORS,
    HARNESS,
    LOADER,
    SCENARIO,
    T0,
    WORKER,
    Recording,
    header,
    healthy,
    ns,
)

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
from seawall.journal.view import index
from seawall.verdicts.invariants import INVARIANTS
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, RunVerdict, Verdict

copy = msgspec.structs.replace


class Broken(NamedTuple):
    """A mutation, the checks it turns red (by their names), the run's verdict, and words of `why`."""

    mutate: Callable[[Recording], object]
    red: set[str]
    verdict: str
    why: str
    scenario: str = SCENARIO


def red_of(verdict: RunVerdict) -> set[str]:
    return {check.name for check in verdict.checks if check.verdict is not Verdict.PASS}


def check_of(verdict: RunVerdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def records(run: Recording, **fields: Any) -> list[RequestRecord]:
    return run.of(RequestRecord, **fields)


def outcome(outcome: str, **fields: Any) -> Callable[[Recording], None]:
    def mutate(run: Recording) -> None:
        record = records(run, request_id="000300")[0]
        record.outcome = outcome  # type: ignore[assignment]
        for name, value in fields.items():
            setattr(record, name, value)

    return mutate


def twice(run: Recording) -> None:
    record = records(run, request_id="000300")[0]
    run.add(record.end_ns, LOADER, copy(record))


def lost(run: Recording) -> None:
    run.drop(*records(run, request_id="000300"))


def foreign(run: Recording) -> None:
    records(run, request_id="000300")[0].request_id = "000900"


def wrong_order(run: Recording) -> None:
    attempt = run.of(Attempt, request_id="000500")[0]
    call = run.of(CallRecord, request_id="000500")[0]
    attempt.provider = call.provider = "claude"


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
    attempt = run.of(Attempt, request_id=skip.request_id)[0]
    call = run.of(CallRecord, request_id=skip.request_id)[0]
    attempt.provider = call.provider = "gemini"


def two_probes(run: Recording) -> None:
    probe = run.of(Attempt, reason="probe")[0]
    skip = next(s for s in run.of(Skip, reason="breaker_open") if run.time_of(s) > probe.start_ns)
    attempt = run.of(Attempt, request_id=skip.request_id)[0]
    call = run.of(CallRecord, request_id=skip.request_id)[0]
    attempt.provider = call.provider = "gemini"


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
    attempt = run.of(Attempt, request_id=skip.request_id)[0]
    call = run.of(CallRecord, request_id=skip.request_id)[0]
    attempt.provider = call.provider = "gemini"
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
    "error": Broken(outcome("error", status=502), {RATE}, "fail", "error: status 502 (at 15.000 s, request 000300)"),
    "duplicated": Broken(twice, {ONE_RECORD, COMPLETE}, "fail", "2 records of one request (at 15.000 s"),
    "lost": Broken(lost, {ONE_RECORD, COMPLETE}, "invalid", "no record of it (request 000300)"),
    "foreign": Broken(foreign, {ONE_RECORD}, "invalid", "no record of it (request 000300)"),
    "dropped": Broken(outcome("dropped"), {COMPLETE}, "invalid", "let it go: dropped (at 15.000 s, request 000300)"),
    "order": Broken(wrong_order, {ORDER}, "fail", "asked claude where the plan is gemini"),
    "asked twice": Broken(asked_twice, {ORDER}, "fail", "claude was asked twice: claude → claude"),
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
    "late result": Broken(late_result_closes, {ONLY_PROBE}, "fail", "without a probe that was answered"),
    "stuck": Broken(stuck, {STUCK}, "fail", "half-open for 36.0 s (at 4.000 s)"),
    "overspent": Broken(overspent, {LIMIT}, "fail", "over the limit of 0.100000 USD"),
    "not settled": Broken(not_settled, {CLOSED}, "fail", "was made 1 times and closed 0 times"),
    "settled twice": Broken(settled_twice, {CLOSED}, "fail", "was made 1 times and closed 2 times"),
    "wrong total": Broken(wrong_total, {SUM}, "fail", "but its steps add up to 0.120000 USD"),
    "out of window": Broken(out_of_window, {WINDOW}, "invalid", "behaved by fault throttle (at 35.004 s"),
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
        claude_keeps_serving, {SHARE}, "fail", "gemini served 0.0 % of the last 20 requests"
    ),
    "advisory": Broken(slow_in_the_dark, {SLOW}, "partial", "took 2063.0 ms (at 8.100 s, request 000162)"),
}


@pytest.fixture(scope="module")
def passed() -> RunVerdict:
    return judge(healthy().journal())


def test_a_healthy_run_passes_and_says_what_it_has_shown(passed: RunVerdict) -> None:
    """All checks of a healthy run pass, and `why` names the faults met and how fast the system moved."""
    assert red_of(passed) == set()
    assert (passed.verdict, passed.undone) == (Verdict.PASS, True)
    assert "800 requests" in passed.why
    assert "faults met: dark, throttle" in passed.why
    assert "dark detected after 1.102 s" in passed.why


def test_every_check_of_a_healthy_run_has_looked_at_something(passed: RunVerdict) -> None:
    """Only what a run of this scenario cannot hold (refusals, an air gap) is unexamined, and says so in words."""
    idle = {check.name: check.reason for check in passed.checks if check.examined == 0}
    assert set(idle) == {"refusals are clean and allowed by the scenario", "no cloud call under the air gap"}
    assert all(reason.startswith("Nothing to examine") for reason in idle.values())


@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_thing_turns_exactly_its_checks_red(name: str) -> None:
    """A minimal mutation of a healthy run is caught by its check, by no other, with the right verdict and reason."""
    case = BROKEN[name]
    run = healthy(case.scenario)
    case.mutate(run)
    verdict = judge(run.journal())
    assert red_of(verdict) == case.red
    assert verdict.verdict == case.verdict
    assert case.why in verdict.why
    assert len(verdict.why.splitlines()) == 1


def test_every_invariant_has_a_mutation_that_breaks_it(passed: RunVerdict) -> None:
    """The table above leaves out no invariant."""
    names = {check.name for check in passed.checks if check.group == "invariant"}
    assert len(names) == len(INVARIANTS)
    allowed = "refusals are clean and allowed by the scenario"  # below: it never fails, it makes a run `safe`
    assert names - {allowed} <= set().union(*(case.red for case in BROKEN.values()))


def test_the_worst_kind_wins_and_its_earliest_violation_is_told() -> None:
    """With a late failure, an early one and an invalidity, the early failure is the reason."""
    run = healthy()
    killed(run)
    records(run)[700].outcome = "hung"
    records(run)[30].outcome = "cut"
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.FAIL
    assert "at 1.500 s, request 000030" in verdict.why


def test_a_missed_sometimes_fails_when_its_faults_were_met() -> None:
    """A breaker that never opened under a fault that was met is the system's failure."""
    run = healthy()
    never_opens(run)
    verdict = judge(run.journal())
    assert check_of(verdict, REACHES).verdict is Verdict.FAIL
    # An `always` without a time to be checked in proves nothing.
    assert check_of(verdict, ALWAYS).verdict is Verdict.INVALID
    assert verdict.verdict is Verdict.FAIL


def test_a_missed_sometimes_is_invalid_when_a_fault_was_not_met() -> None:
    """A breaker that never opened under a fault that nobody met says nothing about the system."""
    run = healthy()
    never_opens(run)
    run.drop(*run.of(Fault, id="dark", phase="met"))
    verdict = judge(run.journal())
    check = check_of(verdict, REACHES)
    assert check.verdict is Verdict.INVALID
    assert check.reason == "0 times, it takes >= 1, but nobody met dark."
    assert verdict.verdict is Verdict.INVALID


def test_served_by_counts_whole_answers_of_that_provider() -> None:
    """Too few answers of Claude miss the expectation, with the count as the figure."""
    run = healthy()
    for record in records(run, provider="claude")[19:]:
        record.providers_in_text = ["gemini"]
    check = check_of(judge(run.journal()), SERVED)
    assert (check.verdict, check.figure, check.limit) == (Verdict.FAIL, "19 requests", ">= 20")


def test_a_missed_eventually_is_invalid_when_its_fault_was_not_met() -> None:
    """What did not come back after a fault that nobody met proves nothing."""
    run = healthy()
    breaker_stays_open(run)
    run.drop(*run.of(Fault, id="dark", phase="met"))
    assert check_of(judge(run.journal()), BACK).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("observes", "unseen"),
    [
        ("call", {WHILE_OPEN, PROBES, HAS_ATTEMPT, HAS_CALL, PAUSE, WINDOW, ALWAYS}),
        ("attempt", {ORDER, HAS_ATTEMPT, HAS_CALL, PAUSE, ONLY_PROBE}),
        ("breaker", {WHILE_OPEN, PROBES, LEGAL, ONLY_PROBE, STUCK, ALWAYS, REACHES, BACK}),
        ("spend", {LIMIT, CLOSED, SUM}),
        ("request", {SHARE}),
    ],
)
def test_what_a_system_does_not_observe_is_not_applicable(observes: str, unseen: set[str]) -> None:
    """A check that needs events which the system does not report passes as n/a, and is never counted as 0."""
    run = healthy()
    run.of(Header)[0].observes.remove(observes)
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.PASS
    na = {check.name for check in verdict.checks if check.figure == "n/a"}
    assert unseen <= na
    assert all(check_of(verdict, name).reason.startswith("Not observable") for name in unseen)


def test_a_scenario_left_with_nothing_observable_is_invalid() -> None:
    """A run whose every expectation is n/a proves nothing."""
    expect = "expect:\n  sometimes:\n    - {breaker: gemini, reaches: open}\n"
    run = healthy(SCENARIO[: SCENARIO.index("expect:")] + expect)
    run.of(Header)[0].observes.remove("breaker")
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.INVALID
    assert "No expectation of the scenario is observable" in verdict.why


def test_undoing_is_an_axis_of_its_own() -> None:
    """A fault whose undo was not verified changes `undone`, and not the verdict of the run."""
    run = healthy()
    run.drop(*run.of(Fault, id="dark", phase="undo_verified"))
    verdict = judge(run.journal())
    assert (verdict.verdict, verdict.undone) == (Verdict.PASS, False)
    check = check_of(verdict, "every fault is undone")
    assert (check.group, check.verdict) == ("undo", Verdict.FAIL)
    assert check.reason == "the undo of fault dark was not verified (at 16.100 s)."


def test_the_harness_may_know_of_more_to_undo() -> None:
    """An `end` that says not everything was undone is believed."""
    run = healthy()
    run.of(End)[0].undone = False
    verdict = judge(run.journal())
    assert (verdict.verdict, verdict.undone) == (Verdict.PASS, False)
    assert "harness itself" in check_of(verdict, "every fault is undone").reason


def test_an_undo_that_failed_is_told_with_its_error() -> None:
    """The phase `undo_verified` with an error is no verification."""
    run = healthy()
    run.of(Fault, id="dark", phase="undo_verified")[0].error = "the proxy hangs"
    verdict = judge(run.journal())
    assert verdict.undone is False
    assert "the proxy hangs" in check_of(verdict, "every fault is undone").reason


def all_down(run: Recording) -> list[RequestRecord]:
    """Make twenty requests refused, cleanly, because everybody was down."""
    refused = records(run)[300:320]
    for record in refused:
        record.outcome, record.status, record.code = "refused", 503, "all_clouds_down"
        record.provider, record.providers_in_text = None, []
    return refused


def test_an_allowed_refusal_makes_the_run_safe() -> None:
    """Clean refusals of a kind that the scenario allows neither hurt the success rate nor let the run pass."""
    run = healthy(SCENARIO + "allow_refusal: [all_down]\n")
    all_down(run)
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.SAFE
    assert "refused with 503 all_clouds_down after 63 ms (at 15.000 s, request 000300)" in verdict.why
    assert (verdict.figures["success_rate"], verdict.figures["served_rate"]) == (1.0, 780 / 800)
    assert verdict.figures["refusals:all_clouds_down"] == 20


@pytest.mark.parametrize("allowed", ["", "allow_refusal: [budget, airgap]\n"])
def test_a_refusal_that_is_not_allowed_counts_against_the_success_rate(allowed: str) -> None:
    """Refusals of other kinds than the scenario allows are requests that were not served."""
    run = healthy(SCENARIO + allowed)
    all_down(run)
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.FAIL
    assert red_of(verdict) == {RATE}
    assert verdict.figures["success_rate"] == 780 / 800
    assert "count as not served" in check_of(verdict, "refusals are clean and allowed by the scenario").reason


def test_a_journal_without_a_header_is_invalid() -> None:
    """Without the scenario nothing can be judged, and that is said."""
    run = healthy()
    run.drop(*run.of(Header))
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.INVALID
    assert "no header" in verdict.why


def test_a_scenario_that_cannot_be_read_is_invalid() -> None:
    """A header with a broken scenario gives its first problem, no traceback."""
    run = Recording()
    run.add(T0, HARNESS, header("version: 1\ntitle: [\n"))
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.INVALID
    assert "cannot be read" in verdict.why


def test_a_run_without_requests_is_invalid_not_empty() -> None:
    """No request at all is missing evidence for every share and every limit."""
    run = healthy()
    no_requests(run)
    verdict = judge(run.journal())
    assert check_of(verdict, COMPLETE).verdict is Verdict.INVALID
    assert check_of(verdict, RATE).verdict is Verdict.INVALID
    assert verdict.figures["success_rate"] is None
    assert verdict.figures["amplification"] is None


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["healthy", "while open", "cut", "lagging"]))
def test_the_order_of_the_lines_does_not_matter(seed: int, name: str) -> None:
    """However the events of the processes interleave in the file, the verdict is the same to the last letter."""
    run = healthy(seconds=40.0)
    if name in BROKEN:
        BROKEN[name].mutate(run)
    stamped = run.stamped()
    expected = judge(run.journal())
    random.Random(seed).shuffle(stamped)
    assert judge(index(stamped, run.journal().path)) == expected

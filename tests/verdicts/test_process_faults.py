"""What a fault at a process explains, and what it does not: dead workers, stopped gateways, breakers of the dead."""

from __future__ import annotations

import pytest
from journal_builder import HARNESS, LOADER, SCENARIO, WORKER, Recording, healthy, ns
from verdict_judging import check, inject, with_fault

from seawall.journal.events import Attempt, BreakerChange, CallRecord, Fault, Process, RequestRecord, Skip, Spend
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Verdict

KILL = with_fault("id: crash, at: 32s, duration: 2s, target: gateway, process: kill")
RESTART = KILL.replace("process: kill", "process: restart")
STOP = KILL.replace("process: kill", "process: stop")
CUT, HUNG, DISGUISED = "no answer is cut", "no request hangs", "no error is passed on as an answer"
RATE, MET = "success_rate >= 99.9%", "fault crash was in force and met"
HAS_ATTEMPT = "every call a provider saw is an attempt of the router"
CLOSED, SUM = "every reservation is settled or expired once", "the total spent is the sum of the settlements"
BACK = "the breaker of gemini is closed after dark"
PID = int(WORKER.rpartition("-")[2])


def crash(scenario: str = KILL, code: int = -9, at_s: float = 32.02) -> Recording:
    """Return a run whose only worker is struck at 32 s, in the middle of request 000640, which came at 32 s."""
    run = healthy(scenario)
    inject(run, "crash", 32, 34, "gateway")
    run.add(ns(at_s), HARNESS, Process(name="gateway", action="exit", pid=PID, code=code))
    return run


def broken_off(run: Recording, outcome: str, request_id: str = "000640") -> RequestRecord:
    """Let a request end as its worker dies: the client's view only, for the worker can say nothing any more."""
    run.drop(*run.of(Attempt, request_id=request_id), *run.of(Spend, request_id=request_id, action="settle"))
    (record,) = run.of(RequestRecord, request_id=request_id)
    record.outcome, record.problem, record.end_ns = outcome, "the connection was reset", ns(32.01)  # type: ignore[assignment]
    return record


@pytest.mark.parametrize(("outcome", "name"), [("cut", CUT), ("hung", HUNG)])
def test_what_died_with_a_killed_worker_is_told_and_not_held_against_the_router(outcome: str, name: str) -> None:
    """It is no violation, its evidence names fault and worker, and it still counts against the success rate."""
    run = crash()
    broken_off(run, outcome)
    verdict = judge(run.journal())
    told = next(c for c in verdict.checks if c.name == name)
    assert (told.verdict, told.figure) == (Verdict.PASS, "0 of 800 requests")
    assert "1 more are explained by a fault" in told.reason
    assert "fault crash had killed its worker gateway-100" in told.evidence[0].text
    assert {c.name for c in verdict.checks if c.verdict is not Verdict.PASS} == {RATE}
    assert verdict.figures["requests_died_with_a_worker"] == 1


@pytest.mark.parametrize(
    ("scenario", "code", "at_s"),
    [
        (RESTART, -9, 32.02),  # told to end in order, with all the time of the fault for it
        (RESTART, 0, 32.02),
        (KILL, -9, 30.0),  # nobody had killed it by then
        (KILL, 0, 32.02),
    ],
)
def test_a_worker_that_no_fault_killed_explains_nothing(scenario: str, code: int, at_s: float) -> None:
    """A restart has to lose nothing, and a crash of its own is the gateway's."""
    run = crash(scenario, code, at_s)
    broken_off(run, "cut")
    assert check(run, CUT).verdict is Verdict.FAIL


def test_a_request_that_ended_long_after_the_death_is_not_explained() -> None:
    """Its connection cannot have died with the worker."""
    run = crash()
    broken_off(run, "cut").end_ns = ns(33.1)
    assert check(run, CUT).verdict is Verdict.FAIL


@pytest.mark.parametrize("report", ["attempt", "skip"])
def test_a_request_of_another_worker_is_not_explained(report: str) -> None:
    """Who lives answers for his own requests."""
    run = crash()
    broken_off(run, "cut")
    if report == "attempt":
        (call,) = run.of(CallRecord, request_id="000640")
        attempt = Attempt(
            **{f: getattr(run.of(Attempt)[0], f) for f in Attempt.__struct_fields__}
            | {"request_id": "000640", "worker": "gateway-200", "start_ns": call.arrival_ns, "end_ns": call.end_ns}
        )
        run.add(call.end_ns, "gateway-200", attempt)
    else:
        for provider in ("openai", "local"):
            skip = Skip(request_id="000640", provider=provider, reason="no_key", worker="gateway-200")
            run.add(ns(32.001), "gateway-200", skip)
    assert check(run, CUT).verdict is Verdict.FAIL


def test_an_error_passed_off_as_an_answer_is_never_explained() -> None:
    """Whatever died, nothing may claim to be whole that is not."""
    run = crash()
    broken_off(run, "disguised")
    assert check(run, DISGUISED).verdict is Verdict.FAIL


@pytest.mark.parametrize(("end_s", "verdict"), [(33.0, "pass"), (31.5, "fail"), (35.0, "fail")])
def test_what_hung_while_the_gateway_stood_still_is_explained(end_s: float, verdict: str) -> None:
    """Only a deadline that passed while the fault had the gateway stopped."""
    run = healthy(STOP)
    inject(run, "crash", 32, 34, "gateway")
    (record,) = run.of(RequestRecord, request_id="000600")
    record.outcome, record.end_ns = "hung", ns(end_s)
    assert check(run, HUNG).verdict == verdict
    record.outcome = "cut"
    assert check(run, CUT).verdict is Verdict.FAIL


def test_attempts_and_settlements_of_a_dead_worker_may_be_missing() -> None:
    """The provider's call stands alone, the reservation stays open, and there is no sum to be made."""
    run = crash()
    broken_off(run, "error")
    run.of(CallRecord, request_id="000640")[0].end_ns = ns(32.01)
    assert {check(run, name).verdict for name in (HAS_ATTEMPT, CLOSED, SUM)} == {Verdict.PASS}
    assert "A worker died" in check(run, SUM).reason


def test_a_reservation_of_a_living_worker_must_be_closed() -> None:
    """The death of one worker excuses nothing of another."""
    run = crash()
    run.drop(run.of(Spend, action="settle", request_id="000500")[0])
    run.of(Spend, action="reserve", request_id="000500")[0].worker = "gateway-200"
    assert check(run, CLOSED).verdict is Verdict.FAIL


def test_the_breaker_of_a_dead_worker_ends_with_it() -> None:
    """A worker that died with its breaker open does not keep `state: closed` from becoming true."""
    run = healthy(SCENARIO)
    for at_s, pid in ((14.0, None), (20.0, 300)):
        change = BreakerChange(
            worker="gateway-300", provider="gemini", from_state="closed", to="open", generation=1, cause="x"
        )
        if pid is None:
            run.add(ns(at_s), "gateway-300", change)
            run.of(Attempt, request_id="000010")[0].worker = "gateway-300"
            assert check(run, BACK).verdict is Verdict.FAIL
        else:
            run.add(ns(at_s), HARNESS, Process(name="gateway-2", action="exit", pid=pid, code=0))
    assert check(run, BACK).figure == "3.900 s"


def test_a_fault_at_a_process_is_met_from_its_injection() -> None:
    """A request that was under way when the gateway was struck met the fault, proven or not by then."""
    run = crash()
    for record in run.of(RequestRecord):
        if ns(31.9) < record.intended_ns < ns(34):
            run.drop(record)
    assert check(run, MET).verdict is Verdict.INVALID
    run.add(ns(32.1), LOADER, healthy().of(RequestRecord, request_id="000640")[0])
    assert check(run, MET).verdict is Verdict.PASS


def test_a_request_that_died_with_its_worker_says_nothing_of_the_time_before() -> None:
    """It was due before the fault and cut by it: the steady state before the fault is that of the others."""
    steady = 'steady_state: {window: 2s, success_rate: ">= 99.9%"}\nfaults:\n'
    run = crash(KILL.replace("faults:\n", steady))
    run.drop(*[event for fault_id in ("dark", "throttle") for event in run.of(Fault, id=fault_id)])
    before = "success_rate >= 99.9% before the first fault"
    broken_off(run, "cut", "000639")
    assert check(run, before).verdict is Verdict.PASS
    run.of(RequestRecord, request_id="000638")[0].outcome = "cut"
    run.of(RequestRecord, request_id="000638")[0].end_ns = ns(31.95)
    assert check(run, before).verdict is Verdict.FAIL

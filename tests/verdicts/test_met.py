"""Who met a fault, and when that counts: by kind, by target, and each time that it came."""

from __future__ import annotations

import pytest
from journal_builder import Recording, healthy, ns
from verdict_judging import UNSTEADY, check, fault, inject, with_fault

from seawall.journal.events import Attempt, CallRecord, Fault, Header, RequestRecord, Skip, Spend
from seawall.verdicts.model import Verdict

MET, THROTTLE = "fault extra was in force and met", "fault throttle was in force and met"
REDIS = UNSTEADY.replace("{CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 3s}", "{BUDGET_STORE: redis}")
EVERY = with_fault("id: extra, at: 31s, duration: 1s, every: 3s, target: gemini, toxic: {type: reset_peer}")


@pytest.mark.parametrize(("fault_id", "verdict"), [("throttle", "pass"), ("dark", "invalid")])
def test_a_call_that_its_provider_marked_counts_from_the_injection(fault_id: str, verdict: str) -> None:
    """With Retry-After the first call may be the only one, and come before the fault was read back; not so a toxic."""
    run = healthy()
    active = run.of(Fault, id=fault_id, phase="active")[0]
    start_s, end_s = (26, 29.1) if fault_id == "throttle" else (8, 16.1)
    run.move(active, ns(end_s - 0.01))
    for call in run.of(CallRecord, behaviour="throttle")[1:]:
        call.behaviour = "healthy"
    for event in (*run.of(CallRecord, provider="gemini"), *run.of(Attempt, provider="gemini")):
        began_ns = event.arrival_ns if isinstance(event, CallRecord) else event.start_ns
        if fault_id == "dark" and event.end_ns > ns(end_s - 1.2) and began_ns < ns(end_s + 0.2):
            run.drop(event)
    assert check(run, f"fault {fault_id} was in force and met").verdict == verdict
    assert start_s < end_s


def test_a_mark_from_before_the_injection_or_after_the_healing_counts_for_nothing() -> None:
    """That is a fault outside of its window."""
    run = healthy()
    marked = run.of(CallRecord, behaviour="throttle")
    for call in marked[1:]:
        call.behaviour = "healthy"
    assert check(run, THROTTLE).verdict is Verdict.PASS
    for at_s in (25.9, 29.2):
        marked[0].arrival_ns = ns(at_s)
        assert check(run, THROTTLE).verdict is Verdict.INVALID


def extra(target: str, harm: str, scenario: str = UNSTEADY) -> Recording:
    """Return a run with one fault more, from 34 s to 36 s."""
    run = healthy(with_fault(f"id: extra, at: 34s, duration: 2s, target: {target}, {harm}", scenario))
    inject(run, "extra", 34, 36, target)
    return run


def silence(run: Recording, *kinds: type, start_s: float = 33.8, end_s: float = 36.2) -> None:
    """Drop all events of these kinds that may touch the fault."""
    for kind in kinds:
        for event in run.of(kind):
            moment = getattr(event, "start_ns", None) or getattr(event, "arrival_ns", None)
            moment = moment or getattr(event, "intended_ns", None) or run.time_of(event)
            if ns(start_s) <= moment <= ns(end_s):
                run.drop(event)


@pytest.mark.parametrize(
    ("target", "harm", "kind"),
    [
        ("redis", "toxic: {type: down}", Spend),
        ("redis", "process: kill", Spend),
        ("budget", "remaining: 0.10 USD", Spend),
        ("toxiproxy", "process: stop", Attempt),
        ("gateway", "process: stop", RequestRecord),
    ],
)
def test_who_meets_a_fault_that_is_no_providers(target: str, harm: str, kind: type) -> None:
    """The store is met by steps of the budget, the gateway by requests, Toxiproxy by attempts; nobody else will do."""
    run = extra(target, harm, REDIS)
    assert check(run, MET).verdict is Verdict.PASS
    silence(run, kind)
    assert check(run, MET).verdict is Verdict.INVALID


def test_a_provider_left_out_for_want_of_money_has_met_the_budget() -> None:
    """Where every call was refused there is no step of the budget."""
    run = extra("budget", "remaining: 0.01 USD", REDIS)
    silence(run, Spend)
    run.add(ns(35), "gateway-100", Skip(request_id="000700", provider="gemini", reason="budget", worker="gateway-100"))
    assert check(run, MET).verdict is Verdict.PASS


@pytest.mark.parametrize(("target", "kind"), [("redis", "spend"), ("toxiproxy", "attempt")])
def test_what_is_not_observed_cannot_contradict_the_harness(target: str, kind: str) -> None:
    """Of a system that reports no budget or no attempts the harness's word is all there is."""
    run = extra(target, "process: stop", REDIS)
    silence(run, Spend, Attempt)
    assert check(run, MET).verdict is Verdict.INVALID
    run.of(Header)[0].observes.remove(kind)
    assert check(run, MET).verdict is Verdict.PASS


def test_a_fault_that_repeats_must_come_as_often_as_planned() -> None:
    """At 31, 34 and 37 s: two of three are too few; all three, each met, are enough."""
    run = healthy(EVERY)
    inject(run, "extra", 31, 32)
    inject(run, "extra", 34, 35)
    found = check(run, MET)
    assert (found.verdict, found.figure) == (Verdict.INVALID, "2 of 3 times")
    assert "fault extra was injected 2 of 3 times" in found.reason
    inject(run, "extra", 37, 38)
    found = check(run, MET)
    assert (found.verdict, found.figure) == (Verdict.PASS, "3 of 3 times")


def test_an_occurrence_that_nobody_met_is_told_with_its_time() -> None:
    """The harness says in the end which it saw met; by its planned time, in whatever order."""
    run = healthy(EVERY)
    for start_s in (31, 34, 37):
        inject(run, "extra", start_s, start_s + 1)
    run.drop(*run.of(Fault, id="extra", phase="met"))
    for start_s in (37, 31):
        run.add(ns(41), "harness-1", fault("extra", "met", start_s))
    found = check(run, MET)
    assert (found.verdict, found.figure) == (Verdict.INVALID, "2 of 3 times")
    assert "nobody met it (at 34.000 s)" in found.reason

"""A healthy run passes; every single thing that is broken in it turns exactly its check red, with the right verdict."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_builder import HARNESS, SCENARIO, T0, Recording, header, healthy
from verdict_conduct import CONDUCT
from verdict_liveness import LIVENESS
from verdict_mutations import (
    ALWAYS,
    BACK,
    BROKEN,
    CLOSED,
    COMPLETE,
    HAS_ATTEMPT,
    HAS_CALL,
    LEGAL,
    LIMIT,
    ONLY_PROBE,
    ORDER,
    PAUSE,
    PROBES,
    RATE,
    REACHES,
    SERVED,
    SHARE,
    STUCK,
    SUM,
    WELL,
    WHILE_OPEN,
    WINDOW,
    breaker_stays_open,
    killed,
    never_opens,
    no_requests,
    records,
)  # fmt: skip

from seawall.journal.events import Attempt, End, Fault, Header, RequestRecord
from seawall.journal.view import index
from seawall.verdicts.invariants import INVARIANTS
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, RunVerdict, Verdict

SCALING = {
    "replicas stay within their bounds",
    "what the HPA wants follows from its metrics",
    "no pod is taken away before its time",
}
"""Of runs with pods only: each is turned red in tests/cluster/test_arena_verdicts.py."""


def red_of(verdict: RunVerdict) -> set[str]:
    return {check.name for check in verdict.checks if check.verdict is not Verdict.PASS}


def check_of(verdict: RunVerdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


@pytest.fixture(scope="module")
def passed() -> RunVerdict:
    return judge(healthy().journal())


def test_a_healthy_run_passes_and_says_what_it_has_shown(passed: RunVerdict) -> None:
    """All checks of a healthy run pass, and `why` names the faults met and how fast the system moved."""
    assert red_of(passed) == set()
    assert (passed.verdict, passed.undone, passed.told) == (Verdict.PASS, True, None)
    assert "800 requests" in passed.why
    assert "faults met: dark, throttle" in passed.why
    assert "dark detected 1.202 s after its injection" in passed.why
    assert "recovered 0.163 s after its healing" in passed.why


def test_every_check_of_a_healthy_run_has_looked_at_something(passed: RunVerdict) -> None:
    """Only what a run of this scenario cannot hold (refusals, an air gap) is unexamined, and says so in words."""
    idle = {check.name: check.reason for check in passed.checks if check.examined == 0}
    assert set(idle) == {
        "refusals are clean and allowed by the scenario",
        "no cloud call under the air gap",
        "a request is refused at once where all providers rest",
        "all is well again after the last fault",
        "no provider rests for ever after the last fault",
        "no attempt outlasts its idle timeout",
        "no broken answer makes a good attempt",
        "a slow provider is fast again only when it was measured so",
        *SCALING,
    }
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
    assert verdict.told is not None
    assert verdict.why.startswith(f"{verdict.told.name}: ")
    assert len(verdict.why.splitlines()) == 1


def test_every_invariant_has_a_mutation_that_breaks_it(passed: RunVerdict) -> None:
    """The table above leaves out no invariant."""
    names = {check.name for check in passed.checks if check.group == "invariant"}
    assert len(names) == len(INVARIANTS)
    allowed = "refusals are clean and allowed by the scenario"  # below: it never fails, it makes a run `safe`
    assert names - {allowed} <= set().union(SCALING, CONDUCT, LIVENESS, *(case.red for case in BROKEN.values()))


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


def all_down(run: Recording, count: int = 20) -> list[RequestRecord]:
    """Make some requests refused, cleanly, because everybody was down."""
    refused = records(run)[300 : 300 + count]
    for record in refused:
        record.outcome, record.status, record.code = "refused", 503, "all_clouds_down"
        record.provider, record.providers_in_text = None, []
        for attempt in run.of(Attempt, request_id=record.request_id):
            attempt.outcome, attempt.error = "failed", "authentication_failed"  # which opens no breaker
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
    all_down(run, 30)
    check = check_of(judge(run.journal()), "refusals are clean and allowed by the scenario")
    assert (check.figure, len(check.evidence)) == ("30 of 30 refusals allowed", 20)


@pytest.mark.parametrize("allowed", ["", "allow_refusal: [budget, airgap]\n"])
def test_a_refusal_that_is_not_allowed_counts_against_the_success_rate(allowed: str) -> None:
    """Refusals of other kinds than the scenario allows are requests that were not served."""
    run = healthy(SCENARIO + allowed)
    all_down(run)
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.FAIL
    assert red_of(verdict) == {RATE, WELL}
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

"""Limits on metrics, the steady state, and what makes a run worth judging."""

from __future__ import annotations

import pytest
from journal_builder import SCENARIO, WORKER, Recording, healthy, ns
from verdict_judging import HEAD, NO_STEADY, expecting, inject, judged, one
from verdict_mutations import answered_by

from seawall.journal.events import CallRecord, End, Fault, RequestRecord, Skip
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, Verdict


@pytest.mark.parametrize(
    ("line", "verdict", "figure"),
    [
        ('metric: success_rate, limit: ">= 100%"', "pass", "100.00 %"),
        ('metric: refused_rate, limit: "<= 0%"', "pass", "0.00 %"),
        ('metric: requests, limit: "== 800"', "pass", "800"),
        ('metric: requests, limit: "> 800"', "fail", "800"),
        ('metric: latency_p50, limit: "<= 63ms"', "pass", "63.0 ms"),
        ('metric: latency_p95, limit: "< 63ms"', "fail", "63.0 ms"),
        ('metric: latency_p99, limit: "< 1s"', "fail", "1063.0 ms"),
        ('metric: latency_max, limit: "< 2s"', "pass", "1063.0 ms"),
        ('metric: first_token_p50, limit: "< 30ms"', "pass", "22.0 ms"),
        ('metric: first_token_p95, limit: "< 30ms"', "pass", "22.0 ms"),
        ('metric: first_token_p99, limit: "< 30ms"', "fail", "1022.0 ms"),
        ('metric: refusal_latency_max, limit: "< 1s"', "invalid", "n/a"),
        ('metric: latency_p99, limit: "< 2s", after: throttle', "pass", "63.0 ms"),
        ('metric: latency_p99, limit: "< 2s", during: throttle', "invalid", "n/a"),
        ('metric: first_token_p99, limit: "< 2s", during: dark', "invalid", "n/a"),
    ],
)
def test_a_threshold_measures_its_metric_in_its_time(line: str, verdict: str, figure: str) -> None:
    """Each metric has its unit, its requests and its least number of them: 100 for a p99, 20 for a rate."""
    check = one("threshold", line, healthy(threshold(line)))
    assert (check.verdict, check.figure) == (verdict, figure)


def threshold(line: str) -> str:
    return expecting("thresholds", line)


def test_a_p99_of_too_few_requests_says_how_many_it_takes() -> None:
    """`invalid`, with both numbers: 60 requests during the throttle."""
    check = judged(healthy(threshold('metric: latency_p99, limit: "< 2s", during: throttle')), "threshold")
    assert check.reason == "60 requests are too few for latency_p99; it takes 100."


def test_refusals_have_their_rate_and_their_time() -> None:
    """Every refusal counts for the refused rate; the slowest is what `refusal_latency_max` limits."""
    for line, figure, who in (
        ('metric: refused_rate, limit: "< 1%"', "1.25 %", "refused: airgap (at 15.000 s, request 000300)"),
        ('metric: refusal_latency_max, limit: "< 50ms"', "63.0 ms", "took 63.0 ms (at 15.000 s, request 000300)"),
    ):
        run = healthy(threshold(line))
        for record in run.of(RequestRecord)[300:310]:
            record.outcome, record.code = "refused", "airgap"
        check = judged(run, "threshold")
        assert (check.verdict, check.figure) == (Verdict.FAIL, figure)
        assert who in check.reason


def test_an_advisory_limit_that_is_missed_makes_the_run_partial() -> None:
    """The check and the run are `partial`; its severity is told."""
    run = healthy(threshold('metric: latency_p99, limit: "< 1s", severity: advisory'))
    verdict = judge(run.journal())
    assert verdict.verdict is Verdict.PARTIAL
    assert judged(run, "threshold").severity == "advisory"


def test_a_limit_in_another_unit_proves_nothing() -> None:
    """`latency < 800` compared as seconds would always hold: it is `invalid` instead."""
    from seawall.scenario.loader import load_text
    from seawall.scenario.quantities import parse_limit
    from seawall.verdicts.case import Case
    from seawall.verdicts.metrics import judge_limit

    journal = healthy().journal()
    case = Case(journal, load_text(SCENARIO, "x").scenario)
    check = judge_limit(case, "x", "latency_p50", parse_limit("< 800"), [journal.requests])
    assert (check.verdict, "another unit" in check.reason) == (Verdict.INVALID, True)


def test_each_occurrence_of_a_fault_is_measured_for_itself() -> None:
    """A repeated fault's limit must hold each time; the worst time is the figure, for either comparison."""
    for line, figure in (
        ('metric: latency_max, limit: "< 2s", during: dark', "5063.0 ms"),
        ('metric: requests, limit: ">= 1", during: dark', "40"),
        ('metric: requests, limit: "== 160", during: dark', "40"),
    ):
        run = healthy(threshold(line))
        inject(run, "dark", 32, 34)
        run.of(RequestRecord, request_id="000650")[0].end_ns += 5_000_000_000
        assert judged(run, "threshold").figure == figure


def test_a_limit_during_a_fault_that_never_was_in_force_is_invalid() -> None:
    """There was no such time."""
    run = healthy(threshold('metric: success_rate, limit: ">= 1%", during: dark'))
    run.drop(*run.of(Fault, id="dark", phase="active"))
    assert "never came" in judged(run, "threshold").reason


# steady state


def steady(run: Recording) -> dict[str, Check]:
    return {check.name: check for check in judge(run.journal()).checks if check.group == "steady_state"}


def test_without_a_fault_the_steady_state_is_that_of_the_end() -> None:
    """A run of no faults is judged by its last window."""
    calm = HEAD[: HEAD.index("faults:")]
    run = healthy(calm)
    run.drop(*run.of(Fault))
    assert set(steady(run)) == {
        f"{limit} at the end of the load"
        for limit in ("success_rate >= 99.9%", "latency_p50 < 200ms", "latency_p95 < 400ms", "latency_p99 < 800ms")
    }


@pytest.mark.parametrize("phases", [("injecting", "active", "met", "healing", "healed", "undo_verified"), ("healed",)])
def test_a_steady_state_that_cannot_come_back_is_invalid(phases: tuple[str, ...]) -> None:
    """Without an injection, or a healing, there is nothing to come back from."""
    run = healthy(HEAD)
    for phase in phases:
        run.drop(*run.of(Fault, phase=phase))
    checks = steady(run)
    after = [check for name, check in checks.items() if name.endswith("after the last fault")]
    assert [check.verdict for check in after] == [Verdict.INVALID] * 4
    before = [check for name, check in checks.items() if not name.endswith("after the last fault")]
    assert [check.verdict for check in before] == [Verdict.PASS] * 4


@pytest.mark.parametrize(("due_before_s", "verdict"), [(0.5, Verdict.PASS), (1.5, Verdict.FAIL)])
def test_what_was_in_hand_when_the_fault_came_belongs_to_the_fault(due_before_s: float, verdict: Verdict) -> None:
    """A request cut by the first fault is no sign of unrest before it, unless it had been waiting for long."""
    run = healthy(HEAD)
    (injected, *_) = run.of(Fault, phase="injecting")
    first_ns = run.time_of(injected)
    last = max(
        (r for r in run.of(RequestRecord) if r.intended_ns <= first_ns - round(due_before_s * 1e9)),
        key=lambda r: r.intended_ns,
    )
    last.outcome, last.end_ns = "cut", first_ns + 50_000_000
    assert steady(run)["success_rate >= 99.9% before the first fault"].verdict is verdict


# validity


def test_a_fault_that_came_twice_must_be_met_twice() -> None:
    """Each occurrence needs to have been in force and met."""
    run = healthy(NO_STEADY)
    inject(run, "throttle", 32, 33)
    checks = {check.name: check for check in judge(run.journal()).checks}
    check = checks["fault throttle was in force and met"]
    assert (check.verdict, check.figure) == (Verdict.INVALID, "1 of 2 times")


def test_a_toxic_is_met_by_an_attempt_that_no_provider_saw() -> None:
    """Where the connection is refused no call arrives: the attempt is the evidence."""
    run = healthy(NO_STEADY)
    run.drop(
        *[call for call in run.of(CallRecord, provider="gemini") if ns(8) < call.end_ns and call.arrival_ns < ns(17)]
    )
    checks = {check.name: check for check in judge(run.journal()).checks}
    assert checks["fault dark was in force and met"].verdict is Verdict.PASS


def test_where_neither_calls_nor_attempts_are_observed_the_harness_is_believed() -> None:
    """Nothing in the journal could contradict it."""
    run = healthy(NO_STEADY)
    run.journal()
    run.lines[0][2].observes[:] = ["request"]  # type: ignore[union-attr]
    assert judge(run.journal()).verdict is Verdict.PASS


def test_a_fault_that_never_healed_is_in_force_to_the_end() -> None:
    """What starts after its injection is during it."""
    run = healthy(expecting("sometimes", 'served_by: gemini, requests: ">= 390", during: dark'))
    run.drop(*run.of(Fault, id="dark", phase="healed"))
    assert judged(run, "sometimes").verdict is Verdict.PASS


def test_unknown_events_do_not_make_a_run_invalid_but_are_told() -> None:
    """A journal of a later minor version is judged by what is known of it."""
    journal = healthy().journal()
    journal.tally.unknown_kinds["pod"] = 3
    check = next(check for check in judge(journal).checks if check.name == "the journal is whole")
    assert (check.verdict, check.reason) == (Verdict.PASS, "3 events of unknown kinds were passed over.")


def test_without_an_end_nothing_is_known_of_the_plan() -> None:
    """A killed run is `invalid` for that alone: its missing requests are not counted as lost."""
    run = healthy()
    run.drop(*run.of(End), *run.of(RequestRecord)[700:])
    red = {check.name for check in judge(run.journal()).checks if check.verdict is not Verdict.PASS}
    assert red == {"the run came to its end"}


def test_skips_of_every_kind_are_known() -> None:
    """A provider passed over for want of a key is no wrong order."""
    run = healthy(NO_STEADY)
    answered_by(run, "000500", "claude")
    run.add(ns(25), WORKER, Skip(request_id="000500", provider="gemini", reason="no_key", worker=WORKER))
    assert judge(run.journal()).verdict is Verdict.PASS

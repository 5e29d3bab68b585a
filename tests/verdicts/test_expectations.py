"""The time words of the scenario language: always, sometimes, eventually, thresholds and the steady state."""

from __future__ import annotations

import msgspec
import pytest
from journal_builder import HARNESS, SCENARIO, WORKER, Recording, healthy, ns

from seawall.journal.events import (
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Fault,
    RequestRecord,
    Skip,
)
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, Verdict

HEAD = SCENARIO[: SCENARIO.index("expect:")]
NO_STEADY = HEAD[: HEAD.index("steady_state")] + HEAD[HEAD.index("faults:") :]


def expecting(group: str, line: str, more: str = "") -> str:
    return f"{NO_STEADY}expect:\n  {group}:\n    - {{{line}}}\n{more}"


def judged(run: Recording, group: str) -> Check:
    (check,) = [check for check in judge(run.journal()).checks if check.group == group]
    return check


def one(group: str, line: str, run: Recording | None = None, more: str = "") -> Check:
    """Return the check of a single expectation on the healthy run, or on `run` made with the same scenario."""
    return judged(run or healthy(expecting(group, line, more)), group)


def fault(fault_id: str, phase: str, at_s: float) -> Fault:
    return Fault(id=fault_id, phase=phase, target="gemini", description="d", planned_at_s=at_s, duration_s=1)  # type: ignore[arg-type]


def inject(run: Recording, fault_id: str, start_s: float, end_s: float) -> None:
    """Add an occurrence of a fault."""
    for phase, at_s in {"injecting": start_s, "active": start_s, "met": start_s, "healed": end_s}.items():
        run.add(ns(at_s), HARNESS, fault(fault_id, phase, start_s))
    run.add(ns(45), HARNESS, fault(fault_id, "undo_verified", start_s))


# always


def test_always_during_counts_calls_that_arrive_in_the_measured_time() -> None:
    """Calls to Gemini during the dark are the 22 before the opening and two probes; the limit is on their number."""
    at = one("always", "calls_to: gemini, during: dark, at_most: 24")
    assert (at.verdict, at.figure, at.margin, at.examined) == (Verdict.PASS, "at most 24", "0 inside", 1)
    over = one("always", "calls_to: gemini, during: dark, at_most: 23")
    assert (over.verdict, len(over.evidence)) == (Verdict.FAIL, 1)
    assert "gemini was called during dark" in over.reason


def test_always_holds_in_each_time_for_itself() -> None:
    """Of a fault that repeats the fullest occurrence counts, not the sum."""
    run = healthy(expecting("always", "calls_to: gemini, during: dark, at_most: 24"))
    inject(run, "dark", 32, 33)
    check = judged(run, "always")
    assert (check.verdict, check.figure, check.examined) == (Verdict.PASS, "at most 24", 2)


def test_always_while_closed_counts_from_a_breaker_that_never_reported() -> None:
    """A provider without breaker events was closed all the time."""
    check = one("always", "calls_to: claude, while: closed, at_most: 244")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "at most 245")


def test_always_while_half_open_does_not_count_the_probe() -> None:
    """The one call that half-open is there for is none too many."""
    check = one("always", "calls_to: gemini, while: half_open, at_most: 0")
    assert (check.verdict, check.examined) == (Verdict.PASS, 2)


def test_always_of_a_fault_that_was_never_in_force_is_invalid() -> None:
    """An `always` is checked at least once, or it proves nothing."""
    run = healthy(expecting("always", "calls_to: gemini, during: dark, at_most: 99"))
    run.drop(*run.of(Fault, id="dark", phase="active"))
    assert judged(run, "always").verdict is Verdict.INVALID


# sometimes


@pytest.mark.parametrize(
    ("line", "verdict", "figure"),
    [
        ('served_by: claude, requests: ">= 140", during: dark', "pass", "160 requests"),
        ('served_by: openai, requests: ">= 1"', "fail", "0 requests"),
        ('served_by: openai, requests: "== 0"', "pass", "0 requests"),
        ('refused: all_clouds_down, requests: ">= 1"', "fail", "0 requests"),
        ("breaker: gemini, reaches: half_open, during: dark", "pass", "1 times"),
        ("breaker: gemini, reaches: closed, during: dark", "fail", "0 times"),
        ("breaker: claude, reaches: open", "fail", "0 times"),
    ],
)
def test_sometimes_counts_what_happened_in_its_time(line: str, verdict: str, figure: str) -> None:
    """What is watched, when and how often: the figure is the count, a miss is a failure of the system."""
    check = one("sometimes", line)
    assert (check.verdict, check.figure) == (verdict, figure)
    assert figure in check.reason


def test_a_miss_during_a_fault_depends_on_that_fault_only() -> None:
    """That another fault was not met does not excuse it."""
    run = healthy(expecting("sometimes", "breaker: gemini, reaches: closed, during: dark"))
    run.drop(*run.of(Fault, id="throttle", phase="met"))
    assert judged(run, "sometimes").verdict is Verdict.FAIL
    run.drop(*run.of(Fault, id="dark", phase="met"))
    assert judged(run, "sometimes").verdict is Verdict.INVALID


# eventually

CLOSED = "breaker: gemini, state: closed, within: 5s, after: dark"
SHARE = 'served_by: gemini, share: ">= 95%", within: 8s, after: dark'


def test_eventually_is_true_from_the_last_moment_at_which_it_was_not() -> None:
    """The time is that of the last change, and the margin what is left of `within`."""
    check = one("eventually", CLOSED)
    assert (check.verdict, check.figure, check.margin) == (Verdict.PASS, "0.162 s", "4.838 s inside")


def test_eventually_must_hold_until_the_next_fault() -> None:
    """Closed in time, but open again before the next injection: not held."""
    run = healthy(expecting("eventually", CLOSED))
    for at_s, old, new, generation in (
        (20, "closed", "open", 5),
        (23, "open", "half_open", 6),
        (24, "half_open", "closed", 7),
    ):
        change = BreakerChange(
            worker=WORKER, provider="gemini", from_state=old, to=new, generation=generation, cause="x"
        )
        run.add(ns(at_s), WORKER, change)
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "7.900 s")
    assert "True for good only 7.900 s after dark had healed" in check.reason
    run.drop(*[change for change in run.of(BreakerChange) if change.generation > 5])
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "never held")
    assert "is still open (at 20.000 s)" in check.reason


def test_what_breaks_after_the_next_injection_is_not_held_against_it() -> None:
    """The next fault ends the time in which it must hold."""
    run = healthy(expecting("eventually", CLOSED))
    run.add(
        ns(27),
        WORKER,
        BreakerChange(worker=WORKER, provider="gemini", from_state="closed", to="open", generation=6, cause="x"),
    )
    assert judged(run, "eventually").verdict is Verdict.PASS


def test_a_breaker_of_a_worker_that_never_reported_is_closed() -> None:
    """A worker that only served, and whose breaker never moved, does not stand in the way."""
    run = healthy(expecting("eventually", CLOSED))
    run.of(Attempt, request_id="000010")[0].worker = "gateway-200"
    assert judged(run, "eventually").examined == 2
    assert judged(run, "eventually").verdict is Verdict.PASS


def test_the_slowest_worker_decides_when_all_are_closed() -> None:
    """Of two workers whose breakers close one after the other the later counts, whichever is looked at first."""
    for worker, took in (("gateway-000", "0.162 s"), ("gateway-999", "0.162 s")):
        run = healthy(expecting("eventually", CLOSED))
        run.of(Attempt, request_id="000010")[0].worker = worker
        for generation, (new, at_s) in enumerate((("open", 12.0), ("half_open", 16.11), ("closed", 16.12)), start=1):
            run.add(
                ns(at_s),
                worker,
                BreakerChange(
                    worker=worker, provider="gemini", from_state="x", to=new, generation=generation, cause="x"
                ),
            )
        assert judged(run, "eventually").figure == took


def test_eventually_that_could_not_be_decided_is_invalid() -> None:
    """When the next fault comes before the time is over and it is not yet true, nothing is proven."""
    run = healthy(expecting("eventually", CLOSED))
    run.drop(*run.of(BreakerChange, to="closed"))
    inject(run, "throttle", 18, 19)
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID
    assert check.reason == "the next fault came 1.900 s after dark had healed: too soon to decide."
    run = healthy(expecting("eventually", CLOSED.replace("dark", "throttle").replace("5s", "20s")))
    run.drop(*run.of(BreakerChange, to="closed"))
    assert judged(run, "eventually").reason.startswith("the end of the load came")


def test_eventually_after_each_occurrence() -> None:
    """Of a fault that repeats every healing must be followed by it; the first that is not is told."""
    run = healthy(expecting("eventually", SHARE))
    inject(run, "dark", 20.2, 21)
    assert judged(run, "eventually").verdict is Verdict.PASS
    for record in run.of(RequestRecord)[480:521]:
        record.providers_in_text = ["claude"]
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID  # the throttle comes 5 s after the second healing, and it is not yet true
    for record in run.of(RequestRecord)[521:600]:
        record.providers_in_text = ["claude"]
    run.drop(*run.of(Fault, id="throttle"))
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "10.150 s")


def test_eventually_of_a_fault_that_never_healed_is_invalid() -> None:
    """Without a healing its clock never starts."""
    run = healthy(expecting("eventually", SHARE))
    run.drop(*run.of(Fault, id="dark", phase="healed"))
    check = judged(run, "eventually")
    assert (check.verdict, check.reason) == (Verdict.INVALID, "Fault dark never healed.")


def test_a_share_needs_twenty_requests() -> None:
    """A healing too close to the next fault leaves too few requests for a share."""
    run = healthy(expecting("eventually", SHARE))
    inject(run, "throttle", 17, 18)
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID
    assert "18 requests after dark are too few" in check.reason


def test_a_share_reaches_back_twenty_requests_when_a_second_has_fewer() -> None:
    """At two requests a second the window is 20 requests: one foreign answer in 20 is 95 %, two are not."""
    sparse = expecting("eventually", SHARE).replace("rate: 20/s", "rate: 2/s")
    run = healthy(sparse)
    run.drop(*[r for r in run.of(RequestRecord) if int(r.request_id) % 10])
    for n, record in enumerate(run.of(RequestRecord)):
        record.request_id = f"{n:06d}"
        record.providers_in_text = ["claude"] if n == 44 else ["gemini"]
    run.drop(*run.of(Fault, id="throttle"))
    assert judged(run, "eventually").figure == "0.000 s"
    run.of(RequestRecord)[50].providers_in_text = ["claude"]
    check = judged(run, "eventually")
    # The 45th leaves the window with the 65th, at 32 s.
    assert (check.verdict, check.figure) == (Verdict.FAIL, "15.900 s")


# thresholds and metrics


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
    attempt = run.of(Attempt, request_id="000500")[0]
    call = run.of(CallRecord, request_id="000500")[0]
    attempt.provider = call.provider = "claude"
    run.add(attempt.start_ns, WORKER, Skip(request_id="000500", provider="gemini", reason="no_key", worker=WORKER))
    assert judge(run.journal()).verdict is Verdict.PASS


def test_the_moment_of_healing_is_no_longer_during() -> None:
    """A time word's stretch holds its first moment and not its last."""
    run = healthy(expecting("always", "calls_to: openai, during: dark, at_most: 0"))
    call = run.of(CallRecord)[0]
    for at_s, verdict in ((16.1, Verdict.PASS), (8.1, Verdict.FAIL)):
        run.add(ns(at_s), "emulators-3", msgspec.structs.replace(call, provider="openai", arrival_ns=ns(at_s)))
        assert judged(run, "always").verdict is verdict


def test_closing_after_the_next_injection_is_too_late() -> None:
    """What became true only when the next fault had come was not true in its time."""
    run = healthy(expecting("eventually", CLOSED))
    run.move(run.of(BreakerChange, to="closed")[0], ns(26.5))
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "never held")
    assert "is still half_open" in check.reason

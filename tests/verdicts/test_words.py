"""The newer words of the language: skipped, latency, spend_usd; and limits that a fault is to make felt."""

from __future__ import annotations

import pytest
from journal_builder import SCENARIO, WORKER, healthy, ns
from verdict_judging import expecting, judged
from verdict_mutations import answered_by

from seawall.journal.events import Attempt, Fault, Header, LatencyChange, RequestRecord, Skip, Spend
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Verdict


@pytest.mark.parametrize(
    ("line", "verdict", "figure"),
    [
        ('skipped: gemini, requests: ">= 100"', "pass", "219 requests"),
        ('skipped: gemini, reason: breaker_open, requests: ">= 100", during: dark', "pass", "136 requests"),
        ('skipped: gemini, reason: cooling_down, requests: ">= 1"', "pass", "80 requests"),
        ('skipped: gemini, reason: cooling_down, requests: ">= 1", during: dark', "fail", "0 requests"),
        ('skipped: gemini, reason: slow, requests: "== 0"', "pass", "0 requests"),
        ('skipped: claude, requests: ">= 1"', "fail", "0 requests"),
    ],
)
def test_skips_are_counted_by_request_reason_and_time(line: str, verdict: str, figure: str) -> None:
    """Each request counts once, whoever left the provider out how often, by the moment at which it was left out."""
    run = healthy(expecting("sometimes", line))
    first = run.of(Skip)[0]
    run.add(run.time_of(first), WORKER, Skip(**{f: getattr(first, f) for f in Skip.__struct_fields__}))
    check = judged(run, "sometimes")
    assert (check.verdict, check.figure) == (verdict, figure)


def test_a_skip_that_is_not_observed_is_not_applicable() -> None:
    """A system that tells nothing of its routes is not failed for it."""
    run = healthy(expecting("sometimes", 'skipped: gemini, requests: ">= 1"'))
    run.of(Header)[0].observes.remove("attempt")
    assert judged(run, "sometimes").figure == "n/a"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("latency: gemini, reaches: slow", "pass"),
        ("latency: gemini, reaches: slow, during: dark", "pass"),
        ("latency: gemini, reaches: fast, during: dark", "fail"),
        ("latency: gemini, reaches: fast", "pass"),
        ("latency: claude, reaches: slow", "fail"),
        ("breaker: gemini, reaches: closed", "pass"),
    ],
)
def test_latency_reaches_slow_and_fast_again(line: str, verdict: str) -> None:
    """The predictive breaker's own word, in its time; a breaker's state is another thing."""
    run = healthy(expecting("sometimes", line))
    for at_s, to in ((10.0, "slow"), (20.0, "fast")):
        change = LatencyChange(
            worker=WORKER,
            provider="gemini",
            to=to,
            average_ms=700,
            limit_ms=500,
            message="x",  # type: ignore[arg-type]
        )
        run.add(ns(at_s), WORKER, change)
    check = judged(run, "sometimes")
    assert check.verdict == verdict
    if line.endswith("slow") and verdict == "pass":
        assert "the latency of gemini became slow in gateway-100: 700 ms on average, limit 500 ms" in check.reason


def test_a_missed_latency_depends_on_the_faults_at_that_provider() -> None:
    """That the fault at the provider was not met makes it invalid, not failed."""
    run = healthy(expecting("sometimes", "latency: gemini, reaches: slow"))
    run.drop(*run.of(Fault, id="dark", phase="met"))
    assert judged(run, "sometimes").verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("limit", "verdict"), [("<= 0.12 USD", "pass"), ("< 0.12 USD", "fail"), (">= 0.10 USD", "pass")]
)
def test_the_spending_of_a_run_is_what_was_settled(limit: str, verdict: str) -> None:
    """800 answers at 150 micro-dollars, whatever was reserved for them."""
    check = judged(healthy(expecting("thresholds", f'metric: spend_usd, limit: "{limit}"')), "threshold")
    assert (check.verdict, check.figure) == (verdict, "0.120000 USD")


def test_spending_that_is_not_observed_is_not_zero() -> None:
    """It is not applicable; and without a step observed it is zero."""
    run = healthy(expecting("thresholds", 'metric: spend_usd, limit: "<= 0 USD"'))
    run.drop(*run.of(Spend))
    assert judged(run, "threshold").verdict is Verdict.PASS
    run.of(Header)[0].observes.remove("spend")
    assert judged(run, "threshold").figure == "n/a"


@pytest.mark.parametrize(("comparison", "verdict"), [(">=", "invalid"), ("<", "fail")])
def test_that_a_fault_is_felt_is_no_promise_of_the_system(comparison: str, verdict: str) -> None:
    """A latency that had to be long, and was not under a fault that nobody met, proves nothing; a promise is kept."""
    run = healthy(
        expecting("thresholds", f'metric: latency_p50, limit: "{comparison} {2000 if comparison == ">=" else 1}ms"')
    )
    assert judged(run, "threshold").verdict is Verdict.FAIL
    run.drop(*run.of(Fault, id="dark", phase="met"))
    check = judged(run, "threshold")
    assert check.verdict == verdict
    assert ("but nobody met dark" in check.reason) is (verdict == "invalid")


@pytest.mark.parametrize(("longest", "verdict"), [("3600", "fail"), ("1", "pass")])
def test_no_pause_is_longer_than_the_setting(longest: str, verdict: str) -> None:
    """A provider that asks for 2 s gets no more than RETRY_AFTER_MAX."""
    run = healthy()
    told = run.of(Attempt, status=429)[0]
    skip = next(s for s in run.of(Skip, reason="cooling_down") if run.time_of(s) > told.end_ns + 1_100_000_000)
    answered_by(run, skip.request_id, "gemini")
    run.of(Header)[0].settings["RETRY_AFTER_MAX"] = longest
    found = next(c for c in judge(run.journal()).checks if c.name == "retry-after is obeyed by not calling")
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("word", "code"), [("budget", "budget_exceeded"), ("airgap", "airgap"), ("all_down", "all_clouds_down")]
)
def test_each_kind_of_refusal_can_be_allowed(word: str, code: str) -> None:
    """The run is safe when its refusals are of a kind that the scenario allows, failed when they are of another."""
    for allowed, verdict in ((word, Verdict.SAFE), ({"budget": "airgap"}.get(word, "budget"), Verdict.FAIL)):
        run = healthy(SCENARIO + f"allow_refusal: [{allowed}]\n")
        for record in run.of(RequestRecord)[300:310]:
            record.outcome, record.status, record.code = "refused", 402, code
            for attempt in run.of(Attempt, request_id=record.request_id):
                attempt.outcome, attempt.error = "failed", "authentication_failed"  # which opens no breaker
        assert judge(run.journal()).verdict is verdict

"""Which calls start when: in flight at an opening, probes, several workers, dead processes; and the budget."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import EMULATORS, SCENARIO, WORKER, Recording, healthy, ns
from verdict_mutations import answered_by

from router.models import FAILOVER_CHAIN
from seawall.journal.events import (
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Header,
    LatencyChange,
    Process,
    RequestRecord,
    Skip,
    Spend,
)
from seawall.journal.view import index
from seawall.verdicts.breakers import Period, place
from seawall.verdicts.failover import wrong_order
from seawall.verdicts.joins import Joined, join
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, Verdict

copy = msgspec.structs.replace
MS = 1_000_000
WHILE_OPEN = "no call starts while its breaker is open"
HAS_ATTEMPT = "every call a provider saw is an attempt of the router"
CLOSED = "every reservation is settled or expired once"
SUM = "the total spent is the sum of the settlements"


def check(run: Recording, name: str) -> Check:
    return next(check for check in judge(run.journal()).checks if check.name == name)


def pair(start_ms: float | None, arrival_ms: float) -> Joined:
    """Return a call and its attempt, in milliseconds."""
    run = healthy(seconds=1)
    call = copy(run.of(CallRecord)[0], arrival_ns=round(arrival_ms * MS))
    attempt = None if start_ms is None else copy(run.of(Attempt)[0], start_ns=round(start_ms * MS))
    return Joined(call, attempt)


def period(state: str, start_ms: int = 1000, end_ms: int = 4000) -> Period:
    return Period(
        worker=WORKER, provider="gemini", state=state, generation=1, start_ns=start_ms * MS, end_ns=end_ms * MS
    )


@pytest.mark.parametrize(
    ("start_ms", "arrival_ms", "state", "delayed", "where"),
    [
        (900, 950, "open", False, "outside"),  # came before the opening
        (990, 1002, "open", False, "in_flight"),
        (1000, 1002, "open", False, "in_flight"),  # at the very moment of the opening, as virtual time has it
        (990, 1050, "open", False, "in_flight"),
        (990, 1051, "open", False, "starts"),  # nothing travels that long: the stamp is not believed
        (990, 1900, "open", True, "in_flight"),  # unless a toxic held it up
        (990, 4100, "open", True, "outside"),
        (1001, 1002, "open", False, "starts"),
        (3900, 4100, "open", False, "starts"),  # held up until after the open time, but started in it
        (3960, 4001, "open", False, "outside"),  # the probe, stamped a moment before the event
        (3960, 3999, "open", False, "starts"),  # no probe: it was there before the event
        (4000, 4002, "open", False, "outside"),
        (None, 2000, "open", False, "starts"),
        (None, 4000, "open", False, "outside"),
        (960, 1001, "half_open", False, "starts"),
        (949, 1001, "half_open", False, "outside"),
        (960, 999, "half_open", False, "outside"),
        (3990, 4001, "closed", False, "starts"),
    ],
)
def test_where_a_call_falls(start_ms: float | None, arrival_ms: float, state: str, delayed: bool, where: str) -> None:
    """A call starts in a period by its attempt's stamp, as far as the provider's view bears it out."""
    assert place(pair(start_ms, arrival_ms), period(state), delayed=delayed) == where


def late_arrival(run: Recording) -> CallRecord:
    """Let a call that was in flight at the opening (9.202 s) arrive 400 ms after it."""
    attempt = max(
        (a for a in run.of(Attempt, provider="gemini") if a.start_ns < ns(9.202)), key=lambda attempt: attempt.start_ns
    )
    call = run.of(CallRecord, request_id=attempt.request_id, provider="gemini")[0]
    call.arrival_ns = ns(9.6)
    return call


def test_a_toxic_on_the_way_up_explains_a_late_arrival() -> None:
    """The same call is a violation when nothing held it up, and in flight when a toxic towards the provider did."""
    run = healthy()
    late_arrival(run)
    assert check(run, WHILE_OPEN).verdict is Verdict.FAIL
    upstream = SCENARIO.replace("attributes: {timeout: 0}}", "attributes: {timeout: 0}, stream: upstream}")
    run = healthy(upstream)
    late_arrival(run)
    assert check(run, WHILE_OPEN).verdict is Verdict.PASS


def test_breakers_of_several_workers_are_apart() -> None:
    """A worker whose breaker is closed may call while another's is open."""
    run = healthy()
    skip = next(s for s in run.of(Skip, reason="breaker_open") if run.time_of(s) > ns(10.5))
    attempt = run.of(Attempt, request_id=skip.request_id)[0]
    call = run.of(CallRecord, request_id=skip.request_id)[0]
    attempt.provider = call.provider = "gemini"
    assert check(run, WHILE_OPEN).verdict is Verdict.FAIL
    attempt.worker = "gateway-200"
    assert check(run, WHILE_OPEN).verdict is Verdict.PASS


@pytest.mark.parametrize(("workers", "verdict"), [(1, "fail"), (2, "pass")])
def test_a_hidden_call_is_laid_to_the_only_worker(workers: int, verdict: str) -> None:
    """A call that no attempt accounts for, while open, is a violation where one worker alone can have made it."""
    run = healthy()
    if workers == 2:
        run.of(Attempt, request_id="000010")[0].worker = "gateway-200"
    call = copy(run.of(CallRecord, provider="gemini")[0], request_id="000201", arrival_ns=ns(10.5), end_ns=ns(10.6))
    run.add(ns(10.6), EMULATORS, call)
    assert check(run, WHILE_OPEN).verdict == verdict
    assert check(run, HAS_ATTEMPT).verdict is Verdict.FAIL


def test_calls_without_identity_are_not_counted_as_hidden() -> None:
    """A call that carries no mark is nobody's request: a look at the models, or a stranger."""
    run = healthy()
    call = copy(run.of(CallRecord, provider="local" if run.of(CallRecord, provider="local") else "gemini")[0])
    run.add(ns(5), EMULATORS, copy(call, request_id=None, provider="openai"))
    assert check(run, HAS_ATTEMPT).verdict is Verdict.PASS


def test_a_call_belongs_to_the_last_attempt_that_had_started() -> None:
    """An attempt that never arrived does not take the call of the next one."""
    run = healthy(seconds=1)
    call, attempt = run.of(CallRecord, request_id="000003")[0], run.of(Attempt, request_id="000003")[0]
    lost = copy(attempt, n=1, start_ns=attempt.start_ns - 20 * MS, end_ns=attempt.start_ns - MS)
    later = copy(attempt, n=3, start_ns=call.end_ns + MS)
    run.add(call.end_ns, WORKER, lost)
    run.add(call.end_ns, WORKER, later)
    journal = run.journal()
    (joined,) = [pair for pair in join(journal) if pair.call.request_id == "000003"]
    assert joined.attempt == attempt


def test_what_a_killed_gateway_could_not_write_is_not_held_against_it() -> None:
    """An attempt and a settlement may be missing when their process died in the middle; not when it died later."""
    for exit_s, verdict in ((15.05, Verdict.PASS), (14.0, Verdict.FAIL), (17.0, Verdict.FAIL)):
        run = healthy()
        run.drop(*run.of(Attempt, request_id="000300"))
        run.add(ns(exit_s), "harness-1", Process(name="gateway", action="exit", pid=100, code=-9))
        assert check(run, HAS_ATTEMPT).verdict is verdict
    run = healthy()
    run.drop(run.of(Spend, action="settle", request_id="000300")[0])
    assert check(run, CLOSED).verdict is Verdict.FAIL
    run.add(ns(15.05), "harness-1", Process(name="gateway", action="exit", pid=100, code=-9))
    assert check(run, CLOSED).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("stream", "writers", "verdict"),
    [
        (True, ["gemini"], "pass"),  # Claude had nothing to add, and said that it was whole
        (True, ["gemini", "claude"], "pass"),
        (True, [], "pass"),
        (True, ["claude", "gemini"], "fail"),
        (True, ["openai"], "fail"),
        (False, ["claude"], "pass"),
        (False, ["gemini"], "fail"),  # nobody goes on from half a JSON answer
    ],
)
def test_who_wrote_an_answer_was_asked_for_it_in_that_order(stream: bool, writers: list[str], verdict: str) -> None:
    """The writers that the text shows are those of the attempts, and the last one asked has written its end."""
    run = healthy()
    failed = run.of(Attempt, provider="gemini", outcome="failed")[0]
    (record,) = run.of(RequestRecord, request_id=failed.request_id)
    record.stream, record.providers_in_text = stream, writers
    assert check(run, "answers come from the attempt that the router names").verdict == verdict


def test_a_killed_run_may_leave_calls_and_reservations_open() -> None:
    """Without an `end` what is missing is no violation of the system's."""
    run = healthy()
    run.drop(*run.of(End), *run.of(Attempt)[-1:], *run.of(Spend)[-1:])
    assert check(run, HAS_ATTEMPT).verdict is Verdict.PASS
    assert check(run, CLOSED).verdict is Verdict.PASS


# the order of failover


CHAIN = [str(provider) for provider in FAILOVER_CHAIN]


@pytest.mark.parametrize(
    ("asked", "skipped", "slow", "preferred", "legal"),
    [
        (["gemini"], [], [], "gemini", True),
        (["gemini", "claude", "openai", "local"], [], [], "gemini", True),
        (["openai", "gemini", "claude"], [], [], "openai", True),
        (["openai", "claude"], [], [], "openai", False),
        (["openai", "claude"], ["gemini"], [], "openai", True),
        (["claude"], [], [], "gemini", False),
        (["claude"], ["gemini"], [], "gemini", True),
        (["gemini", "openai"], [], [], "gemini", False),
        (["gemini", "gemini"], [], [], "gemini", False),
        (["claude", "gemini"], [], [], "gemini", False),
        (["claude", "openai", "local", "gemini"], [], ["gemini"], "gemini", True),
        (["claude"], [], ["gemini"], "gemini", True),
        (["claude", "gemini"], [], ["gemini"], "gemini", False),
        (["gemini", "claude"], [], ["gemini"], "gemini", False),
        (["claude", "gemini"], ["openai", "local"], ["gemini"], "gemini", True),
        (["local"], CHAIN[:3], [], "local", True),
        (["nobody"], [], [], "gemini", False),
        (["openai", "gemini"], [], [], None, True),
        (["openai", "local"], [], [], None, False),
    ],
)
def test_the_legal_orders(
    asked: list[str], skipped: list[str], slow: list[str], preferred: str | None, legal: bool
) -> None:
    """Preferred first, the chain after it, nobody passed over without a skip, the slow ones last, nobody twice."""
    assert (wrong_order(asked, skipped=skipped, slow=slow, preferred=preferred) is None) is legal


@pytest.mark.parametrize(
    ("asked", "fast", "legal"),
    [
        (["claude", "gemini", "local", "openai"], "claude", True),
        (["gemini", "claude", "local", "openai"], "claude", True),
        (["claude", "gemini"], None, False),
        (["local", "gemini"], "claude", False),
    ],
)
def test_the_fast_model_may_lead_where_the_preferred_one_is_slow(
    asked: list[str], fast: str | None, legal: bool
) -> None:
    """The provider of the fast failover model goes first, the slow one last, the chain between them."""
    assert (wrong_order(asked, skipped=[], slow=["openai"], preferred="openai", fast=fast) is None) is legal


@pytest.mark.parametrize(("spikes", "verdict"), [(True, "pass"), (False, "fail")])
def test_a_slow_provider_that_is_skipped_for_another_reason_still_lets_the_fast_one_lead(
    spikes: bool, verdict: str
) -> None:
    """The journal's word that it was slow makes the order legal; without it the chain is what counts."""
    run = healthy(SCENARIO.replace("stream: 30%}", "stream: 30%, model: openai}"), seconds=1)
    for attempt in run.of(Attempt):
        attempt.provider = "claude"
        run.add(ns(0), WORKER, Skip(request_id=attempt.request_id, provider="openai", reason="no_key", worker=WORKER))
    for call in run.of(CallRecord):
        call.provider = "claude"
    if spikes:
        change = LatencyChange(
            worker=WORKER, provider="openai", to="slow", average_ms=900, limit_ms=500, message="latency spiking"
        )
        run.add(ns(0), WORKER, change)  # type: ignore[arg-type]
    assert check(run, "failover follows the chain").verdict == verdict


@given(
    preferred=st.sampled_from(CHAIN), skipped=st.sets(st.sampled_from(CHAIN)), slow=st.sets(st.sampled_from(CHAIN)),
    count=st.integers(1, 4),
)  # fmt: skip
def test_the_plan_itself_is_legal_and_no_other_order_of_it_is(
    preferred: str, skipped: set[str], slow: set[str], count: int
) -> None:
    """Any beginning of the planned order is legal; the same providers the other way round are not."""
    order = [preferred, *(p for p in CHAIN if p != preferred)]
    order = [p for p in order if p not in slow] + [p for p in order if p in slow]
    asked = [p for p in order if p not in skipped][:count]
    if asked:
        assert wrong_order(asked, skipped=skipped, slow=slow, preferred=preferred) is None
    if len(asked) > 1:
        assert wrong_order(asked[::-1], skipped=skipped, slow=slow, preferred=preferred) is not None


def test_a_model_that_stands_for_no_provider_leaves_the_first_open() -> None:
    """Where each prompt chooses, any provider may be first, and the chain follows it."""
    run = healthy(SCENARIO.replace("stream: 30%}", "stream: 30%, model: auto}"))
    assert judge(run.journal()).verdict is Verdict.PASS
    answered_by(run, "000500", "local")
    assert judge(run.journal()).verdict is Verdict.PASS


@pytest.mark.parametrize("value", ["True", "1", "false", ""])
def test_the_air_gap_is_a_setting(value: str) -> None:
    """Only when it is on are calls to clouds a violation."""
    run = healthy(seconds=2)
    run.of(Header)[0].settings["AIRGAP_MODE"] = value
    name = "no cloud call under the air gap"
    assert check(run, name).verdict == ("fail" if value in ("True", "1") else "pass")


# the budget


def test_workers_may_share_a_store_or_have_one_each() -> None:
    """Totals that add up together, or each for itself, are in order; totals that do neither are not."""
    for totals, verdict in (("shared", Verdict.PASS), ("apart", Verdict.PASS), ("lost", Verdict.FAIL)):
        run = healthy(seconds=2)
        own: dict[str, int] = {}
        for spend in run.of(Spend):
            spend.worker = f"gateway-{int(spend.request_id) % 2}"
            amount = spend.micro_usd - (0 if spend.action == "reserve" else 400)
            own[spend.worker] = own.get(spend.worker, 0) + amount
            if totals == "apart":
                spend.total_micro_usd = own[spend.worker]
        if totals == "lost":
            for spend in run.of(Spend)[-2:]:
                spend.total_micro_usd += 50
        assert check(run, SUM).verdict is verdict


def test_an_expired_reservation_is_charged_in_full() -> None:
    """An expiry closes its reservation, counts whole, and its own total is not asked for."""
    run = healthy(seconds=2)
    settled = run.of(Spend, action="settle")[-1]
    settled.action, settled.micro_usd, settled.total_micro_usd = "expire", 400, 0
    assert {check(run, name).verdict for name in (CLOSED, SUM)} == {Verdict.PASS}
    run = healthy(seconds=2)
    for spend in run.of(Spend):
        spend.action, spend.total_micro_usd = "expire", 0
    assert check(run, CLOSED).verdict is Verdict.FAIL
    assert "Reservations are missing" in check(run, SUM).reason


def test_spending_from_before_the_run_is_no_difference() -> None:
    """The day's total may have begun above zero."""
    run = healthy(seconds=2)
    for spend in run.of(Spend):
        spend.total_micro_usd += 7_000_000
    assert check(run, SUM).verdict is Verdict.PASS


def test_a_settlement_without_its_reservation_is_told_once() -> None:
    """A lost reservation is one violation; the sum, which cannot be made without it, is not a second."""
    run = healthy(seconds=2)
    run.drop(run.of(Spend)[0])
    assert (check(run, SUM).verdict, check(run, SUM).examined) == (Verdict.PASS, 0)
    assert check(run, CLOSED).verdict is Verdict.FAIL


def test_a_change_of_the_day_ends_the_sum() -> None:
    """The total begins anew at midnight UTC: across it there is nothing to compare, and that is said."""
    run = healthy(seconds=2)
    stamped = run.stamped()
    first = next(n for n, each in enumerate(stamped) if isinstance(each.event, Spend))
    stamped[first] = copy(stamped[first], wall=stamped[first].wall - 86_400)
    found = next(check for check in judge(index(stamped, Path("x"))).checks if check.name == SUM)
    assert (found.verdict, found.examined) == (Verdict.PASS, 0)
    assert "UTC day" in found.reason


def test_a_breaker_that_opens_outside_of_a_fault_is_no_figure_of_it() -> None:
    """The time to detect belongs to openings while the fault was in force."""
    run = healthy()
    change = BreakerChange(worker="w", provider="gemini", from_state="closed", to="open", generation=1, cause="x")
    run.add(ns(2), "w", change)
    assert judge(run.journal()).figures["time_to_detect_s:dark"] == 1.202


@pytest.mark.parametrize(("left_ms", "verdict"), [(60, "fail"), (40, "pass"), (-10, "pass")])
def test_a_pause_runs_from_the_end_of_the_attempt_that_was_told(left_ms: int, verdict: str) -> None:
    """A call may start when the pause is over, 50 ms sooner at most: the answer's head came before its end."""
    run = healthy()
    told = run.of(Attempt, status=429)[0]
    told.end_ns += 500 * MS
    skip = next(s for s in run.of(Skip, reason="cooling_down") if run.time_of(s) > told.end_ns)
    attempt = run.of(Attempt, request_id=skip.request_id)[0]
    call = run.of(CallRecord, request_id=skip.request_id)[0]
    attempt.provider = call.provider = "gemini"
    attempt.start_ns = told.end_ns + 2_000 * MS - left_ms * MS
    call.arrival_ns = attempt.start_ns + MS
    later = [a for a in run.of(Attempt, provider="gemini") if told.end_ns < a.start_ns < attempt.start_ns]
    for other in later:  # what the model router did after its own, shorter pause
        theirs = run.of(CallRecord, request_id=other.request_id)[0]
        other.provider, theirs.provider, theirs.behaviour = "claude", "claude", "healthy"
    assert check(run, "retry-after is obeyed by not calling").verdict == verdict

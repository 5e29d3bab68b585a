"""The budget with one store for all workers, with allowances while it is away, and with less left under a fault."""

from __future__ import annotations

import pytest
from journal_builder import SCENARIO, Recording, healthy, ns
from verdict_judging import check

from seawall.journal.events import Header, Spend
from seawall.verdicts.model import Verdict

LIMIT, CLOSED = "spend never passes the limit", "every reservation is settled or expired once"
SUM = "the total spent is the sum of the settlements"
ALL = (LIMIT, CLOSED, SUM)


def shared(seconds: float = 4) -> Recording:
    """Return a run of two workers with one store."""
    run = healthy(SCENARIO, seconds=seconds)
    run.of(Header)[0].settings["BUDGET_STORE"] = "redis"
    for spend in run.of(Spend):
        spend.worker = f"gateway-{int(spend.request_id) % 2}"
    return run


def step(action: str, number: str, amount: int, total: int, **changes: object) -> Spend:
    fields: dict[str, object] = {
        "action": action, "reservation_id": number, "request_id": "000001", "provider": "gemini",
        "micro_usd": amount, "total_micro_usd": total, "limit_micro_usd": 50_000_000, "estimated": False,
        "worker": "gateway-0",
    }  # fmt: skip
    return Spend(**(fields | changes))  # type: ignore[arg-type]


def test_steps_of_one_store_may_be_stamped_in_another_order() -> None:
    """Answers of the store that cross on their way change nothing; a total that fits none of them does."""
    run = shared()
    first, second = run.of(Spend)[:2]
    run.move(first, run.time_of(second) + 1)
    last, before = run.of(Spend)[-1], run.of(Spend)[-2]
    run.move(before, run.time_of(last) + 1)
    assert {check(run, name).verdict for name in ALL} == {Verdict.PASS}
    for spend in run.of(Spend)[-70:]:
        spend.total_micro_usd += 7
    assert check(run, SUM).verdict is Verdict.FAIL


def allowance(run: Recording, amount: int, used: int, limit: int = 1000) -> int:
    """Let a worker spend of its allowance while the store is away; return the store's total when it hears of it."""
    last = run.of(Spend)[-1].total_micro_usd
    told = {"source": "allowance", "worker": "gateway-0"}
    run.add(ns(41), "gateway-0", step("reserve", "own", amount, used, limit_micro_usd=limit, **told))
    run.add(ns(42), "gateway-0", step("settle", "own", amount, last + amount, **told))
    return last + amount


def test_an_allowance_is_booked_when_the_store_is_back() -> None:
    """It is no money of the store until it is settled there; the sum holds, and every reservation is closed."""
    run = shared()
    allowance(run, 300, 300)
    assert {check(run, name).verdict for name in ALL} == {Verdict.PASS}


def test_an_allowance_that_the_store_never_heard_of_is_none_of_its_money() -> None:
    """The reservation is told as open; the store's own sum holds without it."""
    run = shared()
    allowance(run, 300, 300)
    run.drop(run.of(Spend, action="settle", reservation_id="own")[0])
    assert check(run, CLOSED).verdict is Verdict.FAIL
    assert check(run, SUM).verdict is Verdict.PASS


def test_an_allowance_has_a_limit_of_its_own() -> None:
    """Used up is used up, however much the store may have left."""
    run = shared()
    allowance(run, 300, 1300)
    assert "over the limit of 0.001000 USD" in check(run, LIMIT).reason


@pytest.mark.parametrize(("over", "verdict"), [(900, "pass"), (1100, "fail")])
def test_the_stores_total_may_pass_its_limit_by_the_allowances_and_no_more(over: int, verdict: str) -> None:
    """What workers spent while the store was away is booked afterwards, whatever the limit."""
    run = shared()
    total = allowance(run, 300, 300)
    run.of(Spend, action="settle", reservation_id="own")[0].limit_micro_usd = total - over
    assert check(run, LIMIT).verdict == verdict


def test_a_reservation_whose_answer_was_lost_is_closed_at_no_cost() -> None:
    """No call was made for it: the store may or may not have had it, and the settlement of 0 ends it either way."""
    run = shared()
    last = run.of(Spend)[-1].total_micro_usd
    run.add(ns(41), "gateway-0", step("reserve", "lost", 400, last, source="unanswered"))
    assert check(run, CLOSED).verdict is Verdict.FAIL
    run.add(ns(42), "gateway-0", step("settle", "lost", 0, last, source="unanswered"))
    assert {check(run, name).verdict for name in ALL} == {Verdict.PASS}


def test_under_a_fault_the_limit_is_what_was_left_then() -> None:
    """The reservation's own limit counts: a store that gave more than was left has passed it."""
    run = shared()
    late = run.of(Spend, action="reserve")[-1]
    late.limit_micro_usd = late.total_micro_usd
    assert check(run, LIMIT).verdict is Verdict.PASS
    late.limit_micro_usd -= 1
    assert check(run, LIMIT).verdict is Verdict.FAIL

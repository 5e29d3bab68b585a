"""The ledger, and what the store in memory does beyond what every store promises (`test_budget_stores.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.budget import MemoryBudgetStore, Reservation, day_of, micro_usd
from router.events import Spend
from router.ledger import Ledger
from router.models import ModelType, Usage
from router.testing import CapturedEvents, FakeClock

_T = TypeVar("_T")
NOON_S = 1_700_049_600.0  # 2023-11-15 12:00 UTC
DAY_S = 86_400.0
LIMIT = 1000


def now(step: Coroutine[Any, Any, _T]) -> _T:
    """Run a step that must not wait for anything."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the memory store waited")


def claim(amount: int, wall_s: float = NOON_S, lease_s: float = 100.0, name: str = "r") -> Reservation:
    """Return a reservation made at `wall_s`."""
    return Reservation(id=name, day=day_of(wall_s), micro_usd=amount, expires_at_s=wall_s + lease_s)


@pytest.mark.parametrize(
    ("wall_s", "day"), [(NOON_S, "2023-11-15"), (0.0, "1970-01-01"), (DAY_S - 0.001, "1970-01-01")]
)
def test_day_is_the_one_of_utc(wall_s: float, day: str) -> None:
    """The key of a budget is the UTC date, wherever the process runs."""
    assert day_of(wall_s) == day


@given(st.integers(0, 10**12))
def test_dollars_and_micro_dollars_agree(amount: int) -> None:
    """Any amount that a report shows in dollars is the same in micro-dollars again."""
    assert micro_usd(amount / 1_000_000) == amount


@pytest.mark.parametrize("days", [-3, -1, 1, 2, 3])
def test_clock_that_is_set_never_breaks_the_books(days: int) -> None:
    """Whatever day a step comes from, also one that is forgotten, it is answered and bounded."""
    store = MemoryBudgetStore()
    old = claim(600, NOON_S, name="old")
    now(store.reserve(old, LIMIT, NOON_S))
    for n in range(1, 3):
        now(store.reserve(claim(0, NOON_S + n * DAY_S, name=f"n{n}"), LIMIT, NOON_S + n * DAY_S))
    now(store.settle(old, 100))
    there = NOON_S + days * DAY_S
    assert now(store.reserve(claim(600, there, name="first"), LIMIT, there)).accepted
    assert not now(store.reserve(claim(600, there, name="second"), LIMIT, there)).accepted
    assert now(store.settle(claim(600, there, name="first"), 1)).total_micro_usd == 1


def ledger_on(store: MemoryBudgetStore, wall: FakeClock, events: CapturedEvents, limit_usd: float = 1.0) -> Ledger:
    """Return a ledger with ids that count from 1."""
    ids = iter(range(1, 1000))
    return Ledger(
        store,
        limit_usd=limit_usd,
        lease_s=60.0,
        wall=wall,
        sink=events,
        new_id=lambda: f"id{next(ids)}",
        worker="w",
    )


async def test_ledger_books_every_step_once() -> None:
    """A lease settled twice is booked once; what nobody billed costs nothing; each step is reported."""
    events, wall = CapturedEvents(), FakeClock(NOON_S)
    ledger = ledger_on(MemoryBudgetStore(), wall, events)
    usage = Usage(prompt_tokens=1000, completion_tokens=100)
    first = await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1000, max_tokens=1000)
    second = await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1000, max_tokens=1000)
    assert first is not None
    assert second is not None
    assert ledger.settle(first, usage) == pytest.approx(0.0035)
    assert ledger.settle(first, usage) == 0.0
    assert ledger.settle(second, None) == 0.0
    await ledger.drain()
    assert await ledger.spent_usd() == pytest.approx(0.0035)
    steps = [(spend.action, spend.reservation_id, spend.micro_usd, spend.total_micro_usd) for spend in events]
    assert steps == [
        ("reserve", "id1", 12_500, 12_500),
        ("reserve", "id2", 12_500, 25_000),
        ("settle", "id1", 3_500, 16_000),
        ("settle", "id2", 0, 3_500),
    ]


async def test_local_calls_are_never_booked() -> None:
    """The local provider has a free pass, over the limit too."""
    events = CapturedEvents()
    ledger = ledger_on(MemoryBudgetStore(), FakeClock(NOON_S), events, limit_usd=0.0)
    lease = await ledger.reserve(ModelType.LOCAL, "llama3", request_id="q", prompt_tokens=10**9, max_tokens=10**6)
    assert lease is not None
    assert ledger.settle(lease, Usage(prompt_tokens=10**9, completion_tokens=10**6)) == 0.0
    assert await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1, max_tokens=1) is None
    await ledger.drain()
    assert not events


async def test_expiry_is_reported_and_a_late_settlement_is_not() -> None:
    """A lease that ran out is one `expire` of its whole amount; its call that ends later is no second booking."""
    events, wall = CapturedEvents(), FakeClock(NOON_S)
    ledger = ledger_on(MemoryBudgetStore(), wall, events)
    late = await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q1", prompt_tokens=1000, max_tokens=1000)
    assert late is not None
    wall.advance(60.0)
    await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q2", prompt_tokens=1000, max_tokens=1000)
    ledger.settle(late, Usage(prompt_tokens=1, completion_tokens=1))
    await ledger.drain()
    assert [(spend.action, spend.reservation_id) for spend in events.of(Spend)] == [
        ("reserve", "id1"),
        ("expire", "id1"),
        ("reserve", "id2"),
    ]
    assert await ledger.spent_usd() == pytest.approx(0.025)


async def test_usage_beyond_the_reservation_is_not_booked_beyond_it() -> None:
    """A provider that claims more tokens than it was allowed cannot push the total over the limit."""
    events = CapturedEvents()
    ledger = ledger_on(MemoryBudgetStore(), FakeClock(NOON_S), events, limit_usd=0.0125)
    lease = await ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1000, max_tokens=1000)
    assert lease is not None
    assert ledger.settle(lease, Usage(prompt_tokens=10**6, completion_tokens=10**6)) == pytest.approx(0.0125)
    await ledger.drain()
    assert max(spend.total_micro_usd for spend in events.of(Spend)) == 12_500


@given(clients=st.integers(1, 64), worth=st.integers(0, 40))
@hypothesis_settings(max_examples=30, deadline=None)
def test_as_many_are_admitted_as_the_limit_pays_for(clients: int, worth: int) -> None:
    """All at once, exactly as many calls get a lease as fit; the rest are refused."""

    async def check() -> None:
        ledger = ledger_on(MemoryBudgetStore(), FakeClock(NOON_S), CapturedEvents(), limit_usd=worth * 0.0125)
        ask = {"request_id": "q", "prompt_tokens": 1000, "max_tokens": 1000}
        leases = await asyncio.gather(*(ledger.reserve(ModelType.OPENAI, "gpt-4o", **ask) for _ in range(clients)))
        assert sum(lease is not None for lease in leases) == min(clients, worth)

    asyncio.run(check())

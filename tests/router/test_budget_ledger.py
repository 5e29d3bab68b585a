"""The ledger when the store is away: refusals or a bounded allowance, and settlements that find their way later."""

from __future__ import annotations

import asyncio
import time

import pytest

from router import ledger as ledger_module
from router.budget import Allowance, MemoryBudgetStore, Reservation, Standing
from router.errors import BudgetStoreDown
from router.events import Spend
from router.ledger import Lease, Ledger
from router.models import ModelType, Usage
from router.testing import CapturedEvents, FakeClock

NOON_S = 1_700_049_600.0  # 2023-11-15 12:00 UTC
TODAY = "2023-11-15"
DAY_S = 86_400.0
USAGE = Usage(prompt_tokens=1000, completion_tokens=100)
CALL, COST = 12_500, 3_500  # micro-dollars reserved for, and spent by, one call of `ask` with USAGE


class Store(MemoryBudgetStore):
    """A store whose way can be cut: before a step arrives, or with its answer on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.mute = False
        self.slow = False
        self.settled: list[str] = []

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        self._cut()
        standing = await super().reserve(reservation, limit_micro_usd, wall_s)
        return await self._answer(standing)

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""
        self._cut()
        self.settled.append(reservation.id)
        return await self._answer(await super().settle(reservation, micro_usd))

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        self._cut()
        return await super().spent(day)

    def _cut(self) -> None:
        if self.away:
            raise BudgetStoreDown("away")

    async def _answer(self, standing: Standing) -> Standing:
        if self.slow:
            await asyncio.sleep(60)
        if self.mute:
            raise BudgetStoreDown("mute", asked=True)
        return standing


class Books:
    """A ledger with what it needs, and its events."""

    def __init__(self, *, limit_usd: float = 1.0, allowance_usd: float | None = None) -> None:
        self.store, self.wall, self.events = Store(), FakeClock(NOON_S), CapturedEvents()
        ids = iter(range(1, 10**6))
        self.ledger = Ledger(
            self.store,
            limit_usd=limit_usd,
            lease_s=60.0,
            wall=self.wall,
            sink=self.events,
            new_id=lambda: f"id{next(ids)}",
            worker="w",
            store_down="closed" if allowance_usd is None else "allowance",
            allowance_usd=allowance_usd or 0.0,
        )

    async def ask(self) -> Lease | None:
        """Reserve for one call: CALL micro-dollars."""
        return await self.ledger.reserve(
            ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1000, max_tokens=1000
        )

    def steps(self) -> list[tuple[str, str, int, int, str]]:
        """Return what was reported."""
        return [
            (spend.action, spend.reservation_id, spend.micro_usd, spend.total_micro_usd, spend.source)
            for spend in self.events.of(Spend)
        ]


async def settled_in_time(books: Books) -> None:
    """Wait until nothing is left to settle."""
    async with asyncio.timeout(5):
        await books.ledger.drain()
        assert not books.ledger._late


async def test_closed_refuses_every_paid_call_while_the_store_is_away() -> None:
    """As over the limit: no lease, no event, nothing owed; a local call goes on; the store's return ends it."""
    books = Books()
    books.store.away = True
    assert await books.ask() is None
    local = await books.ledger.reserve(ModelType.LOCAL, "llama3", request_id="q", prompt_tokens=1, max_tokens=1)
    assert local is not None
    assert books.events == []
    books.store.away = False
    assert await books.ask() is not None


async def test_settlement_that_fails_is_booked_when_the_store_is_back() -> None:
    """A call that ends while the store is away costs what it did cost, once, and the caller never waits for it."""
    books = Books()
    lease = await books.ask()
    assert lease is not None
    books.store.away = True
    assert books.ledger.settle(lease, USAGE) == pytest.approx(COST / 1e6)
    await asyncio.sleep(0.02)
    assert books.ledger._late
    assert await books.ledger.spent_usd() == pytest.approx(CALL / 1e6)  # the last total known
    books.store.away = False
    await settled_in_time(books)
    assert books.steps() == [("reserve", "id1", CALL, CALL, "store"), ("settle", "id1", COST, COST, "store")]
    assert await books.ledger.spent_usd() == pytest.approx(COST / 1e6)


async def test_settlement_whose_answer_was_lost_is_booked_once() -> None:
    """The store took the step and its answer went astray: the repeated step changes nothing, and is told of once."""
    books = Books()
    lease = await books.ask()
    assert lease is not None
    books.store.mute = True
    books.ledger.settle(lease, USAGE)
    await asyncio.sleep(0.02)
    books.store.mute = False
    await settled_in_time(books)
    assert set(books.store.settled) == {"id1"}
    assert await books.store.spent(TODAY) == COST
    assert books.steps()[1:] == [("settle", "id1", COST, COST, "store")]


@pytest.mark.parametrize("how", ["lost", "cancelled"])
async def test_reservation_without_an_answer_is_taken_back(how: str) -> None:
    """No call is made on a reservation that nobody confirmed, so it is closed with nothing as soon as that can be."""
    books = Books()
    if how == "lost":
        books.store.mute = True
        assert await books.ask() is None
        await asyncio.sleep(0.02)
        books.store.mute = False
    else:
        books.store.slow = True
        asking = asyncio.create_task(books.ask())
        await asyncio.sleep(0.02)
        asking.cancel()
        books.store.slow = False
        await asyncio.wait([asking])
        assert asking.cancelled()
    await settled_in_time(books)
    assert books.steps()[0] == ("reserve", "id1", CALL, 0, "unanswered")
    assert (await books.store.spent(TODAY), books.store._day(TODAY).open) == (0, {})


async def test_allowance_is_a_bounded_share_that_is_booked_later() -> None:
    """A worker spends so much of its own and no more; when the store is back, every call is in the books."""
    books = Books(allowance_usd=2.5 * CALL / 1e6)
    books.store.away = True
    leases = [await books.ask() for _ in range(4)]
    taken = [lease for lease in leases if lease is not None]
    assert [lease is not None for lease in leases] == [True, True, False, False]
    assert books.steps() == [
        ("reserve", "id1", CALL, CALL, "allowance"),
        ("reserve", "id2", CALL, 2 * CALL, "allowance"),
    ]
    assert {spend.limit_micro_usd for spend in books.events.of(Spend)} == {round(2.5 * CALL)}
    for lease in taken:
        books.ledger.settle(lease, USAGE)
    assert await books.ask() is not None  # what the calls did not need of their reservations is there again
    assert await books.ask() is None
    books.store.away = False
    await settled_in_time(books)
    assert books.steps()[3:] == [
        ("settle", "id1", COST, COST, "allowance"),
        ("settle", "id2", COST, 2 * COST, "allowance"),
    ]
    assert await books.store.spent(TODAY) == 2 * COST


async def test_allowance_is_one_a_day_however_often_the_store_goes() -> None:
    """A store that comes and goes does not refill the allowance; midnight does."""
    books = Books(allowance_usd=COST / 1e6 + CALL / 1e6)
    for expected in (True, True, False):
        books.store.away = True
        lease = await books.ask()
        assert (lease is not None) is expected
        if lease is not None:
            books.ledger.settle(lease, USAGE)
        await asyncio.sleep(0.02)
        books.store.away = False
        await settled_in_time(books)
    books.wall.advance(DAY_S)
    books.store.away = True
    assert await books.ask() is not None


async def test_allowance_never_passes_the_last_total_known() -> None:
    """A worker that knows the day's money to be gone has none of its own."""
    books = Books(limit_usd=2 * CALL / 1e6, allowance_usd=1.0)
    assert await books.ask() is not None
    books.store.away = True
    assert await books.ask() is not None
    assert await books.ask() is None


async def test_lost_reservation_under_the_allowance_is_paid_once() -> None:
    """The store may have taken what the allowance pays for: it is one call, settled under one id."""
    books = Books(allowance_usd=1.0)
    books.store.mute = True
    lease = await books.ask()
    assert lease is not None
    assert lease.source == "allowance"
    books.store.mute = False
    books.ledger.settle(lease, USAGE)
    await settled_in_time(books)
    assert await books.store.spent(TODAY) == COST
    assert books.store._day(TODAY).open == {}


async def test_late_settlements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue holds so many and drops the rest, which the store charges in full; it grants no allowance then."""
    monkeypatch.setattr(ledger_module, "LATE_MAX", 3)
    books = Books(allowance_usd=1.0)
    leases = [await books.ask() for _ in range(5)]
    books.store.away = True
    for lease in leases:
        assert lease is not None
        books.ledger.settle(lease, USAGE)
    await asyncio.sleep(0.02)
    assert len(books.ledger._late) <= 3
    assert await books.ask() is None
    books.store.away = False
    await settled_in_time(books)
    assert await books.store.spent(TODAY) == 3 * COST + 2 * CALL


async def test_settlement_is_given_up_long_after_its_lease() -> None:
    """What the store has charged in full by then is not booked a second time."""
    books = Books()
    lease = await books.ask()
    assert lease is not None
    books.store.away = True
    books.ledger.settle(lease, USAGE)
    await asyncio.sleep(0.02)
    books.wall.advance(60.0 + ledger_module.LATE_AFTER_LEASE_S + 1)
    books.store.away = False
    await settled_in_time(books)
    assert books.store.settled == []


async def test_closing_waits_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that never comes back holds a closing router for the drain's time, not longer."""
    monkeypatch.setattr(ledger_module, "DRAIN_S", 0.3)
    books = Books()
    lease = await books.ask()
    assert lease is not None
    books.store.away = True
    books.ledger.settle(lease, USAGE)
    began = time.monotonic()
    await books.ledger.drain()
    assert 0.25 < time.monotonic() - began < 2
    assert books.ledger._retrying is None


async def test_limit_in_force_is_told_with_a_reservation() -> None:
    """What an adjustment takes away is missing from the limit that a reservation is reported with."""
    books = Books()
    await books.store.adjust(TODAY, 1_000_000 - CALL, "fault")
    assert await books.ask() is not None
    assert await books.ask() is None
    (spend,) = books.events.of(Spend)
    assert (spend.total_micro_usd, spend.limit_micro_usd) == (CALL, CALL)


def test_allowance_of_another_day_is_left_alone() -> None:
    """What comes back from yesterday's calls is no money of today."""
    allowance = Allowance(100)
    assert allowance.take("2023-11-15", 100)
    assert allowance.take("2023-11-16", 60)
    allowance.give_back("2023-11-15", 100)
    allowance.booked("2023-11-15", 100)
    assert (allowance.used("2023-11-16"), allowance.unbooked("2023-11-16"), allowance.used("2023-11-15")) == (60, 60, 0)
    assert not allowance.take("2023-11-16", 41)

"""What the ledger keeps of its own: the allowance against the books, the last total, what waits to be booked."""

from __future__ import annotations

import asyncio

import pytest

from router import ledger as ledger_module
from router.budget import Allowance, MemoryBudgetStore, Reservation, Standing
from router.errors import BudgetStoreDown
from router.events import Spend
from router.ledger import Lease, Ledger
from router.models import ModelType, Usage
from router.testing import CapturedEvents, FakeClock

NOON_S = 1_700_049_600.0  # 2023-11-15 12:00 UTC
TODAY, TOMORROW = "2023-11-15", "2023-11-16"
LEASE_S = 60.0
USAGE = Usage(prompt_tokens=1000, completion_tokens=100)
CALL, COST = 12_500, 3_500  # micro-dollars reserved for, and spent by, one call with USAGE


class Store(MemoryBudgetStore):
    """A store that is away while it is told to be, and keeps what it was asked to settle."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.mute = False
        self.booked: list[tuple[Reservation, int]] = []

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        if self.away:
            raise BudgetStoreDown("away")
        standing = await super().reserve(reservation, limit_micro_usd, wall_s)
        if self.mute:
            raise BudgetStoreDown("mute", asked=True)
        return standing

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""
        if self.away:
            raise BudgetStoreDown("away")
        self.booked.append((reservation, micro_usd))
        return await super().settle(reservation, micro_usd)

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        if self.away:
            raise BudgetStoreDown("away")
        return await super().spent(day)


class Books:
    """A ledger with what it needs."""

    def __init__(self, *, allowance_usd: float | None = None, limit_usd: float = 1.0) -> None:
        self.store, self.wall, self.events = Store(), FakeClock(NOON_S), CapturedEvents()
        ids = iter(range(1, 10**6))
        self.ledger = Ledger(
            self.store,
            limit_usd=limit_usd,
            lease_s=LEASE_S,
            wall=self.wall,
            sink=self.events,
            new_id=lambda: f"id{next(ids)}",
            worker="w7",
            store_down="closed" if allowance_usd is None else "allowance",
            allowance_usd=allowance_usd or 0.0,
        )

    async def ask(self) -> Lease:
        """Reserve for one call."""
        lease = await self.ledger.reserve(
            ModelType.OPENAI, "gpt-4o", request_id="q5", prompt_tokens=1000, max_tokens=1000
        )
        assert lease is not None
        return lease

    async def goes(self) -> None:
        """Take the store away, and let what is under way find that out."""
        self.store.away = True
        await asyncio.sleep(0.02)

    async def comes_back(self) -> None:
        """Bring the store back, and wait until nothing is left to book."""
        self.store.away = False
        async with asyncio.timeout(5):
            await self.ledger.drain()


def test_an_allowance_knows_what_the_store_does_not() -> None:
    """Of several calls the unbooked part is all that is reserved, less what came back and what the store took over."""
    allowance = Allowance(100)
    assert allowance.take(TODAY, 30)
    assert allowance.take(TODAY, 40)
    assert (allowance.used(TODAY), allowance.unbooked(TODAY)) == (70, 70)
    allowance.give_back(TODAY, 25)
    assert (allowance.used(TODAY), allowance.unbooked(TODAY)) == (45, 45)
    allowance.booked(TODAY, 15)
    assert (allowance.used(TODAY), allowance.unbooked(TODAY)) == (45, 30)
    assert (allowance.used(TOMORROW), allowance.unbooked(TOMORROW)) == (0, 0)
    assert allowance.take(TODAY, 55)
    assert not allowance.take(TODAY, 1)


async def test_the_total_while_the_store_is_away_is_exact() -> None:
    """The last one that the store told, with what this worker spends of its own meanwhile; both are of one day."""
    books = Books(allowance_usd=1.0, limit_usd=10_000.0)
    await books.store.adjust(TODAY, 0, "a")
    lease = await books.ask()
    await books.goes()
    own = await books.ask()
    assert await books.ledger.spent_usd() == 2 * CALL / 1_000_000
    books.ledger.settle(own, USAGE)
    assert await books.ledger.spent_usd() == (CALL + COST) / 1_000_000
    books.wall.advance(86_400.0)
    assert await books.ledger.spent_usd() == 0
    books.wall.advance(-86_400.0)
    books.ledger.settle(lease, None)
    await books.comes_back()
    books.store.away = True
    assert await books.ledger.spent_usd() == COST / 1_000_000


async def test_a_call_of_the_allowance_is_booked_with_a_lease_from_then_on() -> None:
    """However late it is, it is booked, and the store remembers its id as long as that of a call made then."""
    books = Books(allowance_usd=1.0)
    await books.goes()
    lease = await books.ask()
    books.ledger.settle(lease, USAGE)
    await asyncio.sleep(0.02)
    books.wall.advance(LEASE_S + ledger_module.LATE_AFTER_LEASE_S + 100.0)
    await books.comes_back()
    ((reservation, cost),) = books.store.booked
    assert (reservation.id, cost) == ("id1", COST)
    assert reservation.expires_at_s == books.wall() + LEASE_S
    assert await books.store.spent(TODAY) == COST


async def test_a_call_of_the_store_keeps_its_lease_when_it_is_booked_late() -> None:
    """It is booked up to half an hour after the lease, also when it stands behind one that is given up."""
    books = Books()
    first = await books.ask()
    books.wall.advance(10.0)
    second = await books.ask()
    await books.goes()
    books.ledger.settle(first, USAGE)
    books.ledger.settle(second, USAGE)
    await asyncio.sleep(0.02)
    # To the moment at which the second one's time is just not over, and the first one's is.
    books.wall.advance(LEASE_S + ledger_module.LATE_AFTER_LEASE_S)
    await books.comes_back()
    assert [reservation.id for reservation, _ in books.store.booked] == ["id2"]
    assert books.store.booked[0][0].expires_at_s == NOON_S + 10.0 + LEASE_S


async def test_money_of_the_allowance_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of late settlements is bounded for what the store holds; the allowance's money is nowhere else."""
    books = Books(allowance_usd=1.0)
    await books.goes()
    leases = [await books.ask() for _ in range(3)]
    monkeypatch.setattr(ledger_module, "LATE_MAX", 1)
    for lease in leases:
        books.ledger.settle(lease, USAGE)
    await asyncio.sleep(0.02)
    await books.comes_back()
    assert await books.store.spent(TODAY) == 3 * COST


async def test_a_reservation_without_an_answer_is_told_with_the_last_total() -> None:
    """Nothing of the lost one is in it, and all of the one before is."""
    books = Books()
    await books.ask()
    books.store.mute = True
    assert (
        await books.ledger.reserve(ModelType.OPENAI, "gpt-4o", request_id="q6", prompt_tokens=1000, max_tokens=1000)
        is None
    )
    spend = books.events.of(Spend)[-1]
    assert (spend.action, spend.source, spend.total_micro_usd) == ("reserve", "unanswered", CALL)
    assert (spend.request_id, spend.provider, spend.worker) == ("q6", "openai", "w7")
    books.store.mute = False
    await books.comes_back()

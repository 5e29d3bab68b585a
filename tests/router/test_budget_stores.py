"""What every `BudgetStore` promises, in memory, SQLite and Redis: never over the limit, and every step repeatable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, assume
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from router.budget import REMEMBERED_S, BudgetStore, MemoryBudgetStore, Reservation, Standing, day_before, day_of
from seawall.stores.redis_store import RedisBudgetStore
from seawall.stores.sqlite_store import SqliteBudgetStore

_T = TypeVar("_T")
MakeStore = Callable[[], BudgetStore]
NOON_S = 1_700_049_600.0  # 2023-11-15 12:00 UTC
DAY_S = 86_400.0
TODAY = "2023-11-15"
LIMIT = 1000


def claim(amount: int, wall_s: float = NOON_S, lease_s: float = 100.0, name: str = "r") -> Reservation:
    """Return a reservation made at `wall_s`."""
    return Reservation(id=name, day=day_of(wall_s), micro_usd=amount, expires_at_s=wall_s + lease_s)


@pytest.fixture(scope="module", params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.real)])
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeStore:
    """Return a function that makes an empty store of each kind."""
    if request.param == "memory":
        return MemoryBudgetStore
    if request.param == "sqlite":
        return lambda: SqliteBudgetStore(tmp_path_factory.mktemp("sqlite") / "budget.db", timeout_s=10)
    server = request.getfixturevalue("quick_redis")

    def make() -> BudgetStore:
        server.ask("FLUSHALL")
        return RedisBudgetStore(server.url, timeout_s=10, own_clock=False)

    return make


class _Account:
    """A plain account of one day."""

    def __init__(self) -> None:
        self.open: dict[str, Reservation] = {}
        self.closed: set[str] = set()
        self.expired: set[str] = set()
        self.settled = 0
        self.booked = 0
        """Booked without a reservation: the only money beyond the limit."""
        self.adjustments: dict[str, int] = {}

    @property
    def total(self) -> int:
        return self.settled + sum(r.micro_usd for r in self.open.values())

    def close(self, reservation: Reservation, paid: int) -> None:
        """Take what a reservation came to into the account."""
        self.open.pop(reservation.id, None)
        self.closed.add(reservation.id)
        self.settled += paid


class StoreMachine(RuleBasedStateMachine):
    """Any order of steps, repetitions, losses and days, against a plain account of them."""

    reservations: Bundle[Reservation] = Bundle("reservations")
    adjustments: Bundle[tuple[str, str, int]] = Bundle("adjustments")

    def __init__(self, make: MakeStore) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = make()
        self.wall_s = NOON_S
        self.made = 0
        self.accounts: dict[str, _Account] = {}

    def now(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Take a step."""
        return self.runner.run(step)

    def account(self, day: str) -> _Account:
        """Return the account of a day that the store still keeps; give up the example's step for an older one."""
        assume(day in (day_of(self.wall_s), day_of(self.wall_s - DAY_S)))
        return self.accounts.setdefault(day, _Account())

    def fresh(self) -> str:
        """Return an id that was never used."""
        self.made += 1
        return f"r{self.made}"

    def take(self, reservation: Reservation) -> Standing:
        """Reserve, and check the answer against the account."""
        mine = self.account(reservation.day)
        assume(reservation.expires_at_s + REMEMBERED_S > self.wall_s)  # else it may be forgotten
        standing = self.now(self.store.reserve(reservation, LIMIT, self.wall_s))
        expired: set[Reservation] = set()
        for day in (reservation.day, day_before(reservation.day)):
            account = self.accounts.get(day, _Account())
            for old in [r for r in account.open.values() if r.expires_at_s <= self.wall_s]:
                account.close(old, old.micro_usd)
                account.expired.add(old.id)
                expired.add(old)
        assert set(standing.expired) == expired
        adjusted = sum(mine.adjustments.values())
        fits = mine.total + max(0, adjusted) + reservation.micro_usd <= LIMIT
        is_new = reservation.id not in mine.closed and reservation.id not in mine.open
        assert standing.accepted is (reservation.id in mine.open or (is_new and fits))
        if is_new and fits:
            mine.open[reservation.id] = reservation
        assert (standing.total_micro_usd, standing.adjusted_micro_usd) == (mine.total, adjusted)
        return standing

    @rule(target=reservations, amount=st.integers(0, 600), lease_s=st.sampled_from([0.0, 10.0, DAY_S / 2]))
    def reserve(self, amount: int, lease_s: float) -> Reservation:
        """A call asks for its share."""
        reservation = claim(amount, self.wall_s, lease_s, self.fresh())
        self.take(reservation)
        return reservation

    @rule(reservation=reservations)
    def reserve_again(self, reservation: Reservation) -> None:
        """An answer of the store was lost and the step is repeated, or it arrives after its own settlement."""
        assume(reservation.day == day_of(self.wall_s))
        self.take(reservation)

    @rule(reservation=reservations, amount=st.integers(0, 900))
    def settle(self, reservation: Reservation, amount: int) -> None:
        """A call ends; settled twice, or after its expiry, it changes nothing; never reserved, it is booked as well."""
        mine = self.account(reservation.day)
        assume(reservation.expires_at_s + REMEMBERED_S > self.wall_s)
        held, closed = reservation.id in mine.open, reservation.id in mine.closed
        standing = self.now(self.store.settle(reservation, amount))
        assert standing.accepted is (reservation.id not in mine.expired)
        if not closed:
            paid = min(amount, reservation.micro_usd)
            mine.close(reservation, paid)
            mine.booked += 0 if held else paid
        assert standing.total_micro_usd == mine.total

    @rule(target=reservations, amount=st.integers(0, 300))
    def settle_unseen(self, amount: int) -> Reservation:
        """A settlement overtakes its reservation, or there was none: an allowance."""
        reservation = claim(amount, self.wall_s, 50.0, self.fresh())
        self.settle(reservation, amount // 2)
        return reservation

    @rule(reservation=consumes(reservations))
    def lose(self, reservation: Reservation) -> None:
        """A process dies with its call: nobody will ever settle it."""

    @rule(target=adjustments, delta=st.integers(-LIMIT, LIMIT))
    def adjust(self, delta: int) -> tuple[str, str, int]:
        """A fault takes a part of the limit away."""
        adjustment = (day_of(self.wall_s), self.fresh(), delta)
        self.adjust_again(adjustment)
        return adjustment

    @rule(adjustment=adjustments)
    def adjust_again(self, adjustment: tuple[str, str, int]) -> None:
        """Adjusting is idempotent by id, and no spending."""
        day, name, delta = adjustment
        mine = self.account(day)
        standing = self.now(self.store.adjust(day, delta, name))
        assert standing.accepted is (name not in mine.adjustments)
        mine.adjustments.setdefault(name, delta)
        assert standing.adjusted_micro_usd == sum(mine.adjustments.values())
        assert standing.total_micro_usd == mine.total

    @rule(adjustment=consumes(adjustments))
    def undo(self, adjustment: tuple[str, str, int]) -> None:
        """The fault heals: the opposite delta, however often the undo is played."""
        day, name, delta = adjustment
        for _ in range(2):
            self.adjust_again((day, f"{name}-undo", -delta))

    @rule(seconds=st.sampled_from([1.0, 10.0, 3600.0, DAY_S / 2, DAY_S]))
    def wait(self, seconds: float) -> None:
        """Time passes, over midnight too."""
        self.wall_s += seconds

    @invariant()
    def never_over_the_limit(self) -> None:
        """The total of a day is what the account says, and above the limit by nothing but what no reservation held."""
        for day in (day_of(self.wall_s), day_of(self.wall_s - DAY_S)):
            mine = self.accounts.get(day, _Account())
            assert self.now(self.store.spent(day)) == mine.total <= LIMIT + mine.booked

    def teardown(self) -> None:
        """Close the store in its own loop."""
        self.now(self.store.aclose())
        self.runner.close()


@pytest.mark.timeout(240)
def test_no_order_of_steps_breaks_the_books(make_store: MakeStore) -> None:
    """Whatever happens in whatever order, the store says what a plain account says, and stays within the limit."""
    run_state_machine_as_test(
        lambda: StoreMachine(make_store),
        settings=hypothesis_settings(
            max_examples=80 if make_store is MemoryBudgetStore else 25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        ),
    )


async def test_as_many_are_admitted_as_the_limit_pays_for(make_store: MakeStore) -> None:
    """A cap worth 20 admits 20 of 64 that come at once, and with the limit adjusted to 5 more no more than 5."""
    store = make_store()
    for limit, prefix, admitted in ((2000, "a", 20), (10_000, "b", 5)):
        if prefix == "b":
            assert (await store.adjust(TODAY, 10_000 - 2000 - 500, "fault")).adjusted_micro_usd == 7500
        steps = [store.reserve(claim(100, name=f"{prefix}{n}"), limit, NOON_S) for n in range(64)]
        assert sum(standing.accepted for standing in await asyncio.gather(*steps)) == admitted
    await store.aclose()


async def test_lost_reservations_are_charged_in_full_by_whoever_comes_next(make_store: MakeStore) -> None:
    """Nobody knows what a lost call did cost: all that was reserved. A late settlement gives nothing back."""
    store = make_store()
    lost = claim(700, lease_s=10.0, name="lost")
    await store.reserve(lost, LIMIT, NOON_S)
    standing = await store.reserve(claim(300, name="next"), LIMIT, NOON_S + 10.0)
    assert (standing.accepted, standing.expired, standing.total_micro_usd) == (True, (lost,), LIMIT)
    late = await store.settle(lost, 1)
    assert (late.accepted, late.total_micro_usd) == (False, LIMIT)
    await store.aclose()


async def test_each_day_has_its_own_budget(make_store: MakeStore) -> None:
    """A call over midnight is settled on the day it began; one lost over midnight, charged by the next day's first."""
    store = make_store()
    night_s = NOON_S + DAY_S / 2
    late, lost = claim(600, night_s - 1, 100.0, "late"), claim(400, night_s - 1, 100.0, "lost")
    for reservation in (late, lost):
        assert (await store.reserve(reservation, LIMIT, night_s - 1)).accepted
    assert not (await store.reserve(claim(1, night_s - 1, name="more"), LIMIT, night_s - 1)).accepted
    assert (await store.reserve(claim(LIMIT, night_s, name="first"), LIMIT, night_s)).accepted
    assert (await store.settle(late, 250)).total_micro_usd == 650
    standing = await store.reserve(claim(1, night_s + 99, name="denied"), LIMIT, night_s + 99)
    assert (standing.accepted, standing.expired) == (False, (lost,))
    assert [await store.spent(day) for day in (TODAY, "2023-11-16", "2023-11-17")] == [650, LIMIT, 0]
    await store.aclose()


async def test_a_reservation_that_was_taken_back_is_not_taken_when_it_arrives(make_store: MakeStore) -> None:
    """A step that was delayed on its way, beyond its caller's patience, holds no money once it is settled."""
    store = make_store()
    late = claim(LIMIT, name="late")
    assert (await store.settle(late, 0)).accepted
    standing = await store.reserve(late, LIMIT, NOON_S)
    assert (standing.accepted, standing.total_micro_usd) == (False, 0)
    await store.aclose()


async def test_undo_keeps_what_was_spent_meanwhile(make_store: MakeStore) -> None:
    """What a fault took away comes back; what was spent while it was in force stays spent; no sum raises the limit."""
    store = make_store()
    await store.adjust(TODAY, 900, "fault")
    assert not (await store.reserve(claim(101, name="a"), LIMIT, NOON_S)).accepted
    assert (await store.reserve(claim(100, name="b"), LIMIT, NOON_S)).accepted
    for _ in range(2):
        undone = await store.adjust(TODAY, -900, "fault-undo")
    assert (undone.accepted, undone.total_micro_usd, undone.adjusted_micro_usd) == (False, 100, 0)
    await store.adjust(TODAY, -5000, "gift")
    assert not (await store.reserve(claim(901, name="c"), LIMIT, NOON_S)).accepted
    assert (await store.reserve(claim(900, name="d"), LIMIT, NOON_S)).accepted
    await store.aclose()

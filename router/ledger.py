"""
The budget as the chain uses it: one reservation before a paid call, one settlement after it, each reported.

Settlements run beside the request, never on its way: a caller does not wait for the books. One that fails is tried
again in the background until the store takes it; each is idempotent by the reservation's id.

While the store is away, `store_down` decides: `closed` refuses every paid call, as over the limit; `allowance` lets
this worker spend up to `allowance_usd` a UTC day of its own, and never past the last total it knows of. What was spent
so is booked when the store is back, and the total may then end above the limit, by at most one allowance a worker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from router.budget import Allowance, BudgetStore, MemoryBudgetStore, Reservation, Standing, day_of, micro_usd
from router.errors import BudgetStoreDown
from router.events import EventSink, Spend
from router.models import ModelType, Usage
from router.pricing import Price, cost_micro_usd, price_of, reservation_micro_usd

__all__ = ["Lease", "Ledger"]

LATE_MAX = 10_000
"""Settlements that wait for the store. One more is dropped, and charged in full when its lease has run out."""
LATE_AFTER_LEASE_S = 1800.0
"""A settlement is given up so long after its lease: the reservation is charged in full by then."""
RETRY_EVERY_S = 0.1
DRAIN_S = 2.0
"""How long a closing router waits for its settlements."""

Source = Literal["store", "allowance", "unanswered"]


class Lease(msgspec.Struct):
    """A reservation for one call, or the free pass of a provider that costs nothing. Settled once."""

    provider: ModelType
    model: str
    request_id: str
    reservation: Reservation | None = None
    price: Price | None = None
    source: Source = "store"
    settled: bool = False
    micro_usd: int = 0
    """What the settled call did cost."""
    estimated: bool = False


class Ledger:
    """Reserve and settle against `store` with `limit_usd` a UTC day; leases last `lease_s` seconds."""

    def __init__(
        self,
        store: BudgetStore,
        *,
        limit_usd: float,
        lease_s: float,
        wall: Callable[[], float],
        sink: EventSink,
        new_id: Callable[[], str],
        worker: str,
        store_down: Literal["closed", "allowance"] = "closed",
        allowance_usd: float = 0.0,
    ) -> None:
        self._store = store
        self._memory = store if type(store) is MemoryBudgetStore else None
        self._limit = micro_usd(limit_usd)
        self._lease_s = lease_s
        self._wall = wall
        self._sink = sink
        self._new_id = new_id  # never the caller's request id: a client that repeats one must not spend for free
        self._worker = worker
        self._allowance = Allowance(micro_usd(allowance_usd) if store_down == "allowance" else 0)
        self._known = ("", 0)
        """The day and total that the store told last."""
        self._settling: set[asyncio.Task[None]] = set()
        self._late: deque[tuple[Lease, Reservation]] = deque()
        self._retrying: asyncio.Task[None] | None = None

    async def reserve(
        self, provider: ModelType, model: str, *, request_id: str, prompt_tokens: int, max_tokens: int
    ) -> Lease | None:
        """Return a lease for the most that the call can cost, or None when the limit forbids it."""
        if not provider.is_cloud:
            return Lease(provider, model, request_id)
        wall_s = self._wall()
        price = price_of(provider, model)
        reservation = Reservation(
            id=self._new_id(),
            day=day_of(wall_s),
            micro_usd=reservation_micro_usd(price, prompt_tokens, max_tokens),
            expires_at_s=wall_s + self._lease_s,
        )
        lease = Lease(provider, model, request_id, reservation, price)
        try:
            if self._memory is not None:
                standing = self._memory.reserve_now(reservation, self._limit, wall_s)
            else:
                standing = await self._store.reserve(reservation, self._limit, wall_s)
        except BudgetStoreDown as error:
            if self._allow(lease, reservation):
                return lease
            if error.asked:
                self._take_back(lease, reservation)
            return None
        except asyncio.CancelledError:  # the caller left, and the store may have taken the reservation
            self._take_back(lease, reservation)
            raise
        self._note(reservation.day, standing)
        if not standing.accepted:
            return None
        limit = self._limit - max(0, standing.adjusted_micro_usd)
        self._tell("reserve", lease, reservation, reservation.micro_usd, standing.total_micro_usd, limit=limit)
        return lease

    def settle(self, lease: Lease, usage: Usage | None) -> float:
        """Book what the call did cost, nothing for None, and return it in US dollars. A second call does nothing."""
        if lease.settled or lease.reservation is None:
            lease.settled = True
            return 0.0
        lease.settled = True
        reservation = lease.reservation
        if usage is not None:
            lease.micro_usd = min(cost_micro_usd(lease.price, usage), reservation.micro_usd)
            lease.estimated = usage.estimated
        if lease.source == "allowance":
            self._allowance.give_back(reservation.day, reservation.micro_usd - lease.micro_usd)
        self._begin(lease, reservation)
        return lease.micro_usd / 1_000_000

    async def spent_usd(self) -> float:
        """Return today's total, settled and reserved, in US dollars; the last one known while the store is away."""
        today = day_of(self._wall())
        try:
            total = await self._store.spent(today)
        except BudgetStoreDown:
            total = self._total(today)
        return total / 1_000_000

    async def drain(self) -> None:
        """Wait until every settlement is booked, for at most 2 s; what is left then is charged when its lease ends."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while tasks := self._under_way():
                    await asyncio.wait(tasks)
        except TimeoutError:
            left = self._under_way()
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _under_way(self) -> set[asyncio.Task[None]]:
        return self._settling | (set() if self._retrying is None else {self._retrying})

    def _allow(self, lease: Lease, reservation: Reservation) -> bool:
        """Take the reservation out of this worker's own allowance, if that and the last known total leave room."""
        day, amount = reservation.day, reservation.micro_usd
        fits = self._total(day) + amount <= self._limit and len(self._late) < LATE_MAX
        if not fits or not self._allowance.take(day, amount):
            return False
        lease.source = "allowance"
        used = self._allowance.used(day)
        self._tell("reserve", lease, reservation, amount, used, limit=self._allowance.limit)
        return True

    def _take_back(self, lease: Lease, reservation: Reservation) -> None:
        """Close a reservation for which no call is made, whether the store has it, will have it, or never had it."""
        lease.settled = True
        lease.source = "unanswered"
        self._tell("reserve", lease, reservation, reservation.micro_usd, self._total(reservation.day))
        self._begin(lease, reservation)

    def _begin(self, lease: Lease, reservation: Reservation) -> None:
        if self._memory is not None:  # never away, never slow: a task would cost more than the step
            self._booked(lease, reservation, self._memory.settle_now(reservation, lease.micro_usd))
            return
        task = asyncio.get_running_loop().create_task(self._try(lease, reservation))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _try(self, lease: Lease, reservation: Reservation) -> None:
        try:
            await self._book(lease, reservation)
        except BudgetStoreDown:
            # Money of the allowance is nowhere else; of a reservation that is dropped, the store charges the whole.
            if len(self._late) < LATE_MAX or lease.source == "allowance":
                self._late.append((lease, reservation))
            if self._retrying is None:
                self._retrying = asyncio.get_running_loop().create_task(self._retry())

    async def _retry(self) -> None:
        """Book what waits, oldest first, as soon as the store takes it."""
        try:
            while self._late:
                lease, reservation = self._late.popleft()
                if lease.source != "allowance" and self._wall() > reservation.expires_at_s + LATE_AFTER_LEASE_S:
                    continue
                try:
                    await self._book(lease, reservation)
                except BudgetStoreDown:
                    self._late.append((lease, reservation))
                    await asyncio.sleep(RETRY_EVERY_S)
        finally:
            self._retrying = None

    async def _book(self, lease: Lease, reservation: Reservation) -> None:
        if lease.source == "allowance":
            # Its lease may be long over: the store must remember its id from now on.
            reservation = msgspec.structs.replace(reservation, expires_at_s=self._wall() + self._lease_s)
        standing = await self._store.settle(reservation, lease.micro_usd)
        if lease.source == "allowance":
            self._allowance.booked(reservation.day, lease.micro_usd)
        self._booked(lease, reservation, standing)

    def _booked(self, lease: Lease, reservation: Reservation, standing: Standing) -> None:
        self._note(reservation.day, standing)
        if standing.accepted:
            total = standing.total_micro_usd
            self._tell("settle", lease, reservation, lease.micro_usd, total, estimated=lease.estimated)

    def _note(self, day: str, standing: Standing) -> None:
        """Remember the total, and report what this step has found expired."""
        if day >= self._known[0]:
            self._known = (day, standing.total_micro_usd)
        for expired in standing.expired:
            total = standing.total_micro_usd if expired.day == day else 0
            self._tell("expire", None, expired, expired.micro_usd, total)

    def _total(self, day: str) -> int:
        """Return the day's total as far as this worker knows it."""
        return (self._known[1] if day == self._known[0] else 0) + self._allowance.unbooked(day)

    def _tell(
        self,
        action: Literal["reserve", "settle", "expire"],
        lease: Lease | None,
        reservation: Reservation,
        amount: int,
        total: int,
        *,
        estimated: bool = True,
        limit: int | None = None,
    ) -> None:
        """Report one step; an expired reservation has no lease here: it may be another worker's."""
        self._sink(
            Spend(
                action=action,
                reservation_id=reservation.id,
                request_id=lease.request_id if lease else "",
                provider=lease.provider if lease else "",
                micro_usd=amount,
                total_micro_usd=total,
                limit_micro_usd=self._limit if limit is None else limit,
                estimated=estimated,
                worker=self._worker,
                source=lease.source if lease else "store",
            )
        )

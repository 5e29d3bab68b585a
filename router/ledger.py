"""
The budget as the chain uses it: one reservation before a paid call, one settlement after it, each reported.

Settlements run beside the request, never on its way: a caller does not wait for the books.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from router.budget import BudgetStore, Reservation, day_of, micro_usd
from router.events import EventSink, Spend
from router.models import ModelType, Usage
from router.pricing import cost_micro_usd, price_of, reservation_micro_usd

__all__ = ["Lease", "Ledger"]


class Lease:
    """A reservation for one call, or the free pass of a provider that costs nothing. Settled once."""

    __slots__ = ("model", "provider", "request_id", "reservation", "settled")

    def __init__(self, provider: ModelType, model: str, request_id: str, reservation: Reservation | None) -> None:
        self.provider = provider
        self.model = model
        self.request_id = request_id
        self.reservation = reservation
        self.settled = False


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
    ) -> None:
        self._store = store
        self._limit = micro_usd(limit_usd)
        self._lease_s = lease_s
        self._wall = wall
        self._sink = sink
        self._new_id = new_id  # never the caller's request id: a client that repeats one must not spend for free
        self._worker = worker
        self._settling: set[asyncio.Task[None]] = set()

    async def reserve(
        self, provider: ModelType, model: str, *, request_id: str, prompt_tokens: int, max_tokens: int
    ) -> Lease | None:
        """Return a lease for the most that the call can cost, or None when the limit forbids it."""
        if not provider.is_cloud:
            return Lease(provider, model, request_id, None)
        wall_s = self._wall()
        reservation = Reservation(
            id=self._new_id(),
            day=day_of(wall_s),
            micro_usd=reservation_micro_usd(price_of(provider, model), prompt_tokens, max_tokens),
            expires_at_s=wall_s + self._lease_s,
        )
        standing = await self._store.reserve(reservation, self._limit, wall_s)
        lease = Lease(provider, model, request_id, reservation)
        for expired in standing.expired:
            self._report("expire", expired, request_id="", provider="", amount=expired.micro_usd, total=0)
        if not standing.accepted:
            return None
        self._tell("reserve", lease, reservation.micro_usd, standing.total_micro_usd, estimated=True)
        return lease

    def settle(self, lease: Lease, usage: Usage | None) -> float:
        """Book what the call did cost, nothing for None, and return it in US dollars. A second call does nothing."""
        if lease.settled or lease.reservation is None:
            lease.settled = True
            return 0.0
        lease.settled = True
        amount = 0 if usage is None else cost_micro_usd(price_of(lease.provider, lease.model), usage)
        amount = min(amount, lease.reservation.micro_usd)
        task = asyncio.get_running_loop().create_task(
            self._settle(lease, lease.reservation, amount, estimated=usage is not None and usage.estimated)
        )
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return amount / 1_000_000

    async def spent_usd(self) -> float:
        """Return today's total, settled and reserved, in US dollars."""
        return await self._store.spent(day_of(self._wall())) / 1_000_000

    async def drain(self) -> None:
        """Wait until every settlement is booked."""
        while self._settling:
            await asyncio.gather(*self._settling)

    async def _settle(self, lease: Lease, reservation: Reservation, amount: int, *, estimated: bool) -> None:
        standing = await self._store.settle(reservation, amount)
        if standing.accepted:
            self._tell("settle", lease, amount, standing.total_micro_usd, estimated=estimated)

    def _tell(
        self, action: Literal["reserve", "settle"], lease: Lease, amount: int, total: int, *, estimated: bool
    ) -> None:
        assert lease.reservation is not None  # noqa: S101 - free passes are never booked
        self._report(
            action,
            lease.reservation,
            request_id=lease.request_id,
            provider=lease.provider,
            amount=amount,
            total=total,
            estimated=estimated,
        )

    def _report(
        self,
        action: Literal["reserve", "settle", "expire"],
        reservation: Reservation,
        *,
        request_id: str,
        provider: str,
        amount: int,
        total: int,
        estimated: bool = True,
    ) -> None:
        self._sink(
            Spend(
                action=action,
                reservation_id=reservation.id,
                request_id=request_id,
                provider=provider,
                micro_usd=amount,
                total_micro_usd=total,
                limit_micro_usd=self._limit,
                estimated=estimated,
                worker=self._worker,
            )
        )

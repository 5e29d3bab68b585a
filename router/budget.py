"""
The budget kill switch: reserve before a call, settle after it, in integer micro-dollars of a UTC day.

The total of a day is what is settled plus what is reserved. A reservation is taken only when the total stays within the
limit, so no interleaving of calls can pass it. Both steps are idempotent by the reservation's id. A reservation that
nobody settles within its lease is charged in full: a lost answer may have been billed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import msgspec

__all__ = ["BudgetStore", "MemoryBudgetStore", "Reservation", "Standing", "day_of", "micro_usd"]

_MICRO = 1_000_000


def micro_usd(usd: float) -> int:
    """Return dollars as micro-dollars, rounded to the nearest."""
    return round(usd * _MICRO)


def day_of(wall_s: float) -> str:
    """Return the UTC date of a wall-clock time in seconds since the epoch: the key of its budget."""
    return datetime.fromtimestamp(wall_s, UTC).date().isoformat()


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A claim on the budget of `day`: the most that one call can cost."""

    id: str
    day: str
    micro_usd: int
    expires_at_s: float
    """Seconds since the epoch."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The budget after a step. `expired` are reservations whose lease ran out at this step, now charged in full."""

    accepted: bool
    total_micro_usd: int
    expired: tuple[Reservation, ...] = ()


class BudgetStore(Protocol):
    """Where the totals live. Every step is atomic; implementations raise only on a broken store."""

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """Take the reservation if the day's total stays within the limit. Repeating an id changes nothing."""
        ...

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """Replace the reservation by what the call did cost, never more. Repeating an id changes nothing."""
        ...

    async def spent(self, day: str) -> int:
        """Return the day's total, settled and reserved, in micro-dollars."""
        ...


class _Day:
    __slots__ = ("closed", "open", "settled")

    def __init__(self) -> None:
        self.settled = 0
        self.open: dict[str, Reservation] = {}
        self.closed: set[str] = set()

    @property
    def total(self) -> int:
        return self.settled + sum(reservation.micro_usd for reservation in self.open.values())


class MemoryBudgetStore:
    """A `BudgetStore` of one process; gone with it. Keeps the current day and the one before."""

    def __init__(self) -> None:
        self._days: dict[str, _Day] = {}

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        day = self._day(reservation.day)
        expired = self._expire(day, wall_s)
        known = reservation.id in day.open or reservation.id in day.closed
        accepted = known or day.total + reservation.micro_usd <= limit_micro_usd
        if accepted and not known:
            day.open[reservation.id] = reservation
        return Standing(accepted=accepted, total_micro_usd=day.total, expired=expired)

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""
        day = self._days.get(reservation.day)
        if day is None:  # the books of that day are closed
            return Standing(accepted=False, total_micro_usd=0)
        accepted = day.open.pop(reservation.id, None) is not None
        if accepted:
            day.settled += min(micro_usd, reservation.micro_usd)
            day.closed.add(reservation.id)
        return Standing(accepted=accepted, total_micro_usd=day.total)

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        return self._days[day].total if day in self._days else 0

    def _day(self, name: str) -> _Day:
        if name not in self._days:
            self._days[name] = _Day()
            # A clock that was set back may ask for a day older than both that are kept.
            for old in sorted(self._days)[:-2]:
                if old != name:
                    del self._days[old]
        return self._days[name]

    @staticmethod
    def _expire(day: _Day, wall_s: float) -> tuple[Reservation, ...]:
        expired = tuple(r for r in day.open.values() if r.expires_at_s <= wall_s)
        for reservation in expired:
            del day.open[reservation.id]
            day.settled += reservation.micro_usd
            day.closed.add(reservation.id)
        return expired

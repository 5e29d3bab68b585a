"""
The budget kill switch: reserve before a call, settle after it, in integer micro-dollars of a UTC day.

The total of a day is what is settled plus what is reserved. A reservation is taken only when the total stays within the
limit, so no interleaving of calls can pass it. All steps are idempotent by an id. A reservation that nobody settles
within its lease is charged in full, by whoever comes next: a lost answer may have been billed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Protocol

import msgspec

__all__ = [
    "EXPIRED_PER_STEP_MAX",
    "REMEMBERED_S",
    "Allowance",
    "BudgetStore",
    "MemoryBudgetStore",
    "Reservation",
    "Standing",
    "day_before",
    "day_of",
    "micro_usd",
]

EXPIRED_PER_STEP_MAX = 500
"""A step of the store charges at most so many lost reservations; the next step goes on."""
REMEMBERED_S = 3600.0
"""A closed reservation's id is remembered for so long after its lease, so that a repeated step changes nothing."""

_MICRO = 1_000_000
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_SETTLED_MAX = 10_000


def micro_usd(usd: float) -> int:
    """Return dollars as micro-dollars, rounded to the nearest."""
    return round(usd * _MICRO)


def day_of(wall_s: float) -> str:
    """Return the UTC date of a wall-clock time in seconds since the epoch: the key of its budget."""
    return _date(int(wall_s // _DAY_S))


@lru_cache(maxsize=8)
def day_before(day: str) -> str:
    """Return the date before a date."""
    return date.fromordinal(date.fromisoformat(day).toordinal() - 1).isoformat()


@lru_cache(maxsize=8)
def _date(days: int) -> str:
    return date.fromordinal(_EPOCH + days).isoformat()


class Reservation(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """A claim on the budget of `day`: the most that one call can cost."""

    id: str
    day: str
    micro_usd: int
    expires_at_s: float
    """Seconds since the epoch."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of the step's day after the step."""

    accepted: bool
    """
    Whether a reservation is held; whether a settlement, now or before, took the place of its reservation (and not an
    expiry); whether an adjustment changed the books now.
    """
    total_micro_usd: int
    """Settled plus reserved; adjustments are no spending and not in it."""
    adjusted_micro_usd: int = 0
    """What adjustments take away from the limit."""
    expired: tuple[Reservation, ...] = ()
    """Reservations, of this day or the one before, whose lease ran out and which this step charged in full."""


class BudgetStore(Protocol):
    """
    Where the totals live, for one worker or for many. Every step is atomic.

    Implementations keep today and the day before: steps on older days may change nothing. They raise only
    BudgetStoreDown, within a bounded time.
    """

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """
        Take the reservation if total plus adjustments plus it stay within the limit.

        Repeating the id of an open reservation changes nothing and is accepted; that of a closed one is not accepted.
        """
        ...

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """
        Replace the reservation by what the call did cost, never more than it. Repeating an id changes nothing.

        An id that the store has never seen is booked all the same: the money is gone (under an allowance, or the store
        lost its memory), or, with 0, the reservation may still be under way and must not be taken when it arrives.
        """
        ...

    async def spent(self, day: str) -> int:
        """Return the day's total, settled and reserved, in micro-dollars."""
        ...

    async def adjust(self, day: str, delta_micro_usd: int, id: str) -> Standing:  # noqa: A002 - as in a reservation
        """
        Take `delta` away from the day's limit. Repeating an id changes nothing.

        Undone by the opposite delta under another id, so that what was spent meanwhile stays booked. The sum of all
        adjustments lowers a limit; below zero it counts as none: it never raises it.
        """
        ...

    async def aclose(self) -> None:
        """Free what the store holds open."""
        ...


class Allowance:
    """What one worker may spend of its own while the store is away: so much a UTC day, however often that happens."""

    def __init__(self, micro_usd: int) -> None:
        self.limit = micro_usd
        self._day = ""
        self._used = 0
        self._unbooked = 0

    def used(self, day: str) -> int:
        """Return what is reserved and spent of the day's allowance."""
        return self._used if day == self._day else 0

    def unbooked(self, day: str) -> int:
        """Return the part of `used` that the store does not know of yet."""
        return self._unbooked if day == self._day else 0

    def take(self, day: str, amount: int) -> bool:
        """Reserve an amount of the day's allowance, if it is there. A new day has a new allowance."""
        if self.used(day) + amount > self.limit:
            return False
        if day != self._day:
            self._day, self._used, self._unbooked = day, 0, 0
        self._used += amount
        self._unbooked += amount
        return True

    def give_back(self, day: str, amount: int) -> None:
        """Return what a call did not need of its reservation."""
        if day == self._day:
            self._used -= amount
            self._unbooked -= amount

    def booked(self, day: str, amount: int) -> None:
        """Note that the store has taken over an amount."""
        if day == self._day:
            self._unbooked -= amount


class _Day:
    __slots__ = ("adjusted", "adjustments", "closed", "fading", "leases", "open", "settled", "total")

    def __init__(self) -> None:
        self.total = 0
        self.open: dict[str, Reservation] = {}
        self.leases: list[tuple[float, str]] = []
        self.closed: dict[str, bool] = {}
        """Id → whether it was settled in time."""
        self.fading: deque[tuple[float, str]] = deque()
        """Until when the id of an expired reservation is remembered: its call may yet end."""
        self.settled: deque[str] = deque()
        self.adjustments: set[str] = set()
        self.adjusted = 0

    def take(self, reservation: Reservation) -> None:
        self.open[reservation.id] = reservation
        self.total += reservation.micro_usd
        heapq.heappush(self.leases, (reservation.expires_at_s, reservation.id))

    def close(self, reservation: Reservation, *, settled: bool) -> None:
        self.open.pop(reservation.id, None)
        self.closed[reservation.id] = settled
        if not settled:
            self.fading.append((reservation.expires_at_s + REMEMBERED_S, reservation.id))
        else:
            self.settled.append(reservation.id)
            if len(self.settled) > _SETTLED_MAX:
                self.closed.pop(self.settled.popleft(), None)
        if len(self.leases) > 64 + 2 * len(self.open):  # the leases of what is closed, which would stay to their ends
            self.leases = [(held.expires_at_s, held.id) for held in self.open.values()]
            heapq.heapify(self.leases)

    def expire(self, wall_s: float) -> Sequence[Reservation]:
        if not (self.leases and self.leases[0][0] <= wall_s) and not (self.fading and self.fading[0][0] <= wall_s):
            return ()
        expired: list[Reservation] = []
        while self.leases and self.leases[0][0] <= wall_s and len(expired) < EXPIRED_PER_STEP_MAX:
            _, name = heapq.heappop(self.leases)
            reservation = self.open.get(name)
            if reservation is not None:
                self.close(reservation, settled=False)
                expired.append(reservation)
        while self.fading and self.fading[0][0] <= wall_s:
            self.closed.pop(self.fading.popleft()[1], None)
        return expired


class MemoryBudgetStore:
    """
    A `BudgetStore` of one process; gone with it. Keeps the current day and the one before.

    Of settled reservations it remembers the last 10,000: no step is ever delayed on its way to it.
    """

    def __init__(self) -> None:
        self._days: dict[str, _Day] = {}

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        return self.reserve_now(reservation, limit_micro_usd, wall_s)

    def reserve_now(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """Reserve without an event loop; see BudgetStore."""
        day = self._day(reservation.day)
        expired = day.expire(wall_s)
        if len(self._days) > 1 and (before := self._days.get(day_before(reservation.day))) is not None:
            expired = (*expired, *before.expire(wall_s))
        accepted = reservation.id in day.open
        if not accepted and reservation.id not in day.closed:
            accepted = day.total + max(0, day.adjusted) + reservation.micro_usd <= limit_micro_usd
            if accepted:
                day.take(reservation)
        return Standing(
            accepted=accepted, total_micro_usd=day.total, adjusted_micro_usd=day.adjusted, expired=tuple(expired)
        )

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""
        return self.settle_now(reservation, micro_usd)

    def settle_now(self, reservation: Reservation, micro_usd: int) -> Standing:
        """Settle without an event loop; see BudgetStore."""
        if len(self._days) > 1 and reservation.day < min(self._days):  # the books of that day are closed
            return Standing(accepted=False, total_micro_usd=0)
        day = self._day(reservation.day)
        if reservation.id in day.closed:
            settled = day.closed[reservation.id]
            return Standing(accepted=settled, total_micro_usd=day.total, adjusted_micro_usd=day.adjusted)
        held = day.open.get(reservation.id)
        day.total += min(micro_usd, (held or reservation).micro_usd) - (held.micro_usd if held is not None else 0)
        day.close(held or reservation, settled=True)
        return Standing(accepted=True, total_micro_usd=day.total, adjusted_micro_usd=day.adjusted)

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        return self._days[day].total if day in self._days else 0

    async def adjust(self, day: str, delta_micro_usd: int, id: str) -> Standing:  # noqa: A002 - see BudgetStore
        """See BudgetStore."""
        books = self._day(day)
        accepted = id not in books.adjustments
        if accepted:
            books.adjustments.add(id)
            books.adjusted += delta_micro_usd
        return Standing(accepted=accepted, total_micro_usd=books.total, adjusted_micro_usd=books.adjusted)

    async def aclose(self) -> None:
        """See BudgetStore."""

    def _day(self, name: str) -> _Day:
        if name not in self._days:
            self._days[name] = _Day()
            # A clock that was set back may ask for a day older than both that are kept.
            for old in sorted(self._days)[:-2]:
                if old != name:
                    del self._days[old]
        return self._days[name]

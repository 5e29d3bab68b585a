"""The budget's books at the end of a soak: what Redis itself says, beside the sum of all that was journalled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import msgspec
from redis import Redis

from router.events import Spend
from seawall.arenas.wire import WireArena
from seawall.journal.view import Journal

__all__ = ["BookedArena", "Books", "Ledger", "books_of"]

_QUIET_S = 1.5
_LIMIT_S = 15.0
_POLL_S = 0.25


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds at a moment, all days together, in micro-dollars; `open` is of it, by reservation."""

    mono_ns: int
    total: int
    open: dict[str, int]


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The store beside the journal, in micro-dollars."""

    total: int
    open: int
    """Reserved and not settled: made by a worker that was killed; charged in full when its lease ends."""
    settled: int
    """The sum of all settlements and charges in the journal."""
    unheard: int
    """Reservations that a killed worker may have settled without living to say so, at most this much money."""

    @property
    def problem(self) -> str | None:
        """Why they are wrong, in a sentence; None when they are right."""
        rest = self.total - self.open - self.settled
        if 0 <= rest <= self.unheard:  # with nothing unheard: to the micro-dollar
            return None
        return (
            f"the store has {self.total} µUSD, {self.open} of it open, so {self.total - self.open} should be settled; "
            f"the journal's settlements add up to {self.settled} µUSD"
        )

    @property
    def sentence(self) -> str:
        """The books in words."""
        word = "" if not self.unheard else f", and up to {self.unheard} µUSD that killed workers did not live to tell"
        return (
            f"books: {self.total} µUSD in the store = {self.settled} µUSD of settled usage + {self.open} µUSD still "
            f"reserved{word}"
        )


class BookedArena(WireArena):
    """The wire arena, which reads the store before it ends it."""

    ledger: Ledger | None = None

    async def close(self) -> bool:
        """See WireArena. Waits until the books are quiet, while the gateway still settles what was under way."""
        if self._redis_url and self._is_up:
            self.ledger = await asyncio.to_thread(_quiet, self._redis_url)
        return await super().close()


def books_of(journal: Journal, ledger: Ledger) -> Books:
    """Return the store's ledger beside what was journalled until it was read."""
    steps = [timed.event for timed in journal.spends if timed.mono_ns <= ledger.mono_ns]
    known = {step.reservation_id for step in steps if step.action != "reserve"} | ledger.open.keys()
    return Books(
        total=ledger.total,
        open=sum(ledger.open.values()),
        settled=sum(step.micro_usd for step in steps if step.action != "reserve"),
        unheard=sum(step.micro_usd for step in _reserved(steps) if step.reservation_id not in known),
    )


def _reserved(steps: Iterable[Spend]) -> Iterable[Spend]:
    """Yield what the store has taken. An allowance is no money of its, and of what was never answered no call came."""
    return (step for step in steps if step.action == "reserve" and step.source == "store")


def _quiet(url: str) -> Ledger | None:
    """Return the ledger once nothing has changed in it for a while; None when it cannot be read."""
    due_s = time.monotonic() + _LIMIT_S
    with Redis.from_url(url, socket_timeout=2.0, decode_responses=True) as redis:
        found, since_s = _read(redis), time.monotonic()
        while time.monotonic() - since_s < _QUIET_S and time.monotonic() < due_s:
            time.sleep(_POLL_S)
            now = _read(redis)
            if (now.total, now.open) != (found.total, found.open):
                found, since_s = now, time.monotonic()
    return msgspec.structs.replace(found, mono_ns=time.monotonic_ns())


def _read(redis: Redis) -> Ledger:
    total, still_open = 0, dict[str, int]()
    for key in redis.scan_iter("daily_spend:*"):
        _, *rest = str(key).split(":")
        if len(rest) == 1:
            total += int(redis.get(key) or 0)
        elif rest[1] == "amounts":
            still_open |= {str(name): int(amount) for name, amount in redis.hgetall(key).items()}
    return Ledger(mono_ns=time.monotonic_ns(), total=total, open=still_open)

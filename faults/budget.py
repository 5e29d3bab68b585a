"""
The fault `budget`: for its duration only so much of the day's spend limit is left.

It is an adjustment in the shared store of the budget, made and undone by delta, so that what is spent meanwhile stays
booked. The store is asked directly, never through the proxy that other faults sit on. A fault that lasts over midnight
(UTC) is undone on the day it was made; the new day has its whole limit.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from faults.addresses import is_ambiguous, is_loopback
from faults.base import FaultError, Undo
from faults.pids import sighting
from faults.registry import DEADLINE_S, register
from router.budget import Standing, day_of
from router.errors import BudgetStoreDown
from seawall.stores.redis_store import RedisBudgetStore

__all__ = ["BudgetFault", "ReadBack", "read_back"]

_T = TypeVar("_T")
_READING = "seawall/reading"
"""An adjustment by nothing, which tells the sum of all others."""


class BudgetFault(msgspec.Struct, kw_only=True):
    """
    Leave `remaining_micro_usd` of the limit `limit_micro_usd` in the Redis at `url` (loopback).

    `prepare` fixes the day and the delta, from what is spent by then, for the `inject` that follows.
    """

    id: str
    run: str
    url: str
    limit_micro_usd: int
    remaining_micro_usd: int
    target: str = "budget"
    prepared: Undo | None = None

    def __post_init__(self) -> None:
        _require_loopback(self.url, f"fault {self.id}: ")

    def describe(self) -> str:
        """Return the fault in a few words, such as `remaining 0.10 USD (of 50.00 USD a day)`."""
        return f"remaining {_usd(self.remaining_micro_usd)} (of {_usd(self.limit_micro_usd)} a day)"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing that is spent. Raises FaultError when no more than that is left."""
        day = day_of(time.time())
        now = _steps(self.url, DEADLINE_S, lambda store: store.adjust(day, 0, _READING))
        left = _left(self.limit_micro_usd, now)
        if left <= self.remaining_micro_usd:
            problem = f"only {_usd(left)} of the day's limit are left already"
            raise FaultError(f"fault {self.id}: {problem}, so {_usd(self.remaining_micro_usd)} would change nothing")
        found = sighting(os.getpid())
        self.prepared = Undo(
            kind="budget",
            arguments={
                "url": self.url,
                "day": day,
                "delta": left - self.remaining_micro_usd,
                "adjustment": f"seawall/{self.run}/{self.id}/{secrets.token_hex(4)}",
                "harness": os.getpid(),
                "harness_started": found.started if found is not None else "",
            },
        )
        return self.prepared

    def inject(self) -> None:
        """Put it in force. Raises FaultError."""
        if self.prepared is None:
            raise FaultError(f"fault {self.id} was not prepared")
        arguments = self.prepared.arguments
        _steps(
            self.url,
            DEADLINE_S,
            lambda store: store.adjust(arguments["day"], arguments["delta"], arguments["adjustment"]),
        )


class ReadBack(msgspec.Struct, frozen=True, kw_only=True):
    """The budget's day as the store has it: what is spent or reserved, what adjustments take, what is left."""

    day: str
    limit_micro_usd: int
    spent_micro_usd: int
    adjusted_micro_usd: int
    left_micro_usd: int

    def data(self) -> dict[str, Any]:
        """Return it as plain data for the journal."""
        return {"criterion": "read_back", **msgspec.to_builtins(self)}


def read_back(fault: BudgetFault, *, deadline_s: float = DEADLINE_S) -> ReadBack:
    """Ask the store how the day of the fault stands: the evidence. Raises FaultError."""
    day = fault.prepared.arguments["day"] if fault.prepared is not None else day_of(time.time())
    now = _steps(fault.url, deadline_s, lambda store: store.adjust(day, 0, _READING))
    return ReadBack(
        day=day,
        limit_micro_usd=fault.limit_micro_usd,
        spent_micro_usd=now.total_micro_usd,
        adjusted_micro_usd=now.adjusted_micro_usd,
        left_micro_usd=_left(fault.limit_micro_usd, now),
    )


def _require_loopback(url: str, who: str = "") -> None:
    try:
        parts = urlsplit(url)
        here = parts.scheme in ("redis", "rediss") and is_loopback(parts.hostname or "")
    except ValueError:
        here = False
    if not here or is_ambiguous(url):  # the client takes hosts and paths from a query too
        raise FaultError(f"{who}the budget's Redis is not on this machine")


def _left(limit: int, standing: Standing) -> int:
    return limit - standing.total_micro_usd - max(0, standing.adjusted_micro_usd)


def _usd(micro_usd: int) -> str:
    whole, fraction = divmod(micro_usd, 1_000_000)
    return f"{whole}.{f'{fraction:06}'.rstrip('0'):0<2} USD"


def _undo(record: Undo, *, deadline_s: float) -> None:
    if not _is_gone(record, deadline_s):
        _settle(record, deadline_s)


def _verify(record: Undo, *, deadline_s: float) -> bool:
    """Both halves are known to the store, so that they are zero together and neither can be applied any more."""
    return _is_gone(record, deadline_s) or not any(_settle(record, deadline_s))


def _settle(record: Undo, deadline_s: float) -> tuple[bool, bool]:
    """
    Book the opposite of the adjustment, then the adjustment itself; return which of them was new to the store.

    Known ids change nothing. Where the fault was never injected both are new: they cancel, and an injection that is
    still under way finds its id taken.
    """
    arguments = record.arguments
    day, delta, name = arguments["day"], arguments["delta"], arguments["adjustment"]

    async def both(store: RedisBudgetStore) -> tuple[bool, bool]:
        back = await store.adjust(day, -delta, f"{name}/undo")
        there = await store.adjust(day, delta, name)
        return back.accepted, there.accepted

    return _steps(arguments["url"], deadline_s, both)


def _is_gone(record: Undo, deadline_s: float) -> bool:
    """Whether nobody listens any more, and never will: the Redis of a run ends with its harness and is not reused."""
    _require_loopback(record.arguments["url"])  # an undo file is no better than whoever wrote it
    parts = urlsplit(record.arguments["url"])
    harness = sighting(int(record.arguments["harness"]))
    if harness is not None and harness.started == record.arguments["harness_started"]:
        return False  # a Redis that a fault has killed comes back, with its data
    try:
        socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=deadline_s).close()
    except ConnectionRefusedError:
        return True
    except OSError as error:
        raise FaultError(f"the budget's Redis cannot be reached: {error}") from error
    return False


def _steps(url: str, deadline_s: float, work: Callable[[RedisBudgetStore], Coroutine[Any, Any, _T]]) -> _T:
    """Do some steps on a store of our own, in an event loop of our own. Raises FaultError."""
    _require_loopback(url)

    async def done() -> _T:
        store = RedisBudgetStore(url, timeout_s=deadline_s)
        try:
            return await work(store)
        finally:
            await store.aclose()

    try:
        return asyncio.run(done())
    except BudgetStoreDown as error:
        raise FaultError(f"the budget cannot be changed or read: {error}") from error


register("budget", undo=_undo, verify=_verify)

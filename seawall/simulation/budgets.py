"""The fault `remaining` in a simulation: an adjustment in the store's books, proven by what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from faults.base import FaultError
from faults.budget import BudgetFault, ReadBack
from router.budget import MemoryBudgetStore, Standing, day_of
from seawall.arenas.injector import PlannedFault
from seawall.scenario.model import FaultSpec
from seawall.simulation.faults import Deed, SimFault
from seawall.simulation.redis import at_once

__all__ = ["budget_fault"]

_READING = "seawall/reading"


class _Remaining:
    """One fault `remaining`, over all its occurrences."""

    by_behaviour = False
    unprovable: str | None = None

    def __init__(
        self, spec: FaultSpec, books: MemoryBudgetStore, limit_micro_usd: int, wall: Callable[[], float]
    ) -> None:
        self._spec = spec
        self._books = books
        self._limit = limit_micro_usd
        self._wall = wall
        self._day = ""
        self._delta = 0
        self._times = 0
        self._before = 0

    def check(self) -> None:
        """Work out how much is to be taken away. Raises FaultError when no more than that is left."""
        self._day = day_of(self._wall())
        now = self._adjust(0, _READING)
        left = self._left(now)
        if left <= self._spec.remaining_micro_usd:
            raise FaultError(f"fault {self._spec.id}: only {left / 1e6:g} USD of the day's limit are left already")
        self._delta, self._before = left - self._spec.remaining_micro_usd, now.adjusted_micro_usd
        self._times += 1

    def do(self) -> None:
        """Take it away."""
        self._adjust(self._delta, self._name)

    def undo(self) -> None:
        """Give it back, by delta: what is spent meanwhile stays booked."""
        self._adjust(-self._delta, f"{self._name}/undo")
        self._adjust(self._delta, self._name)

    def is_gone(self) -> bool:
        """Whether it was given back."""
        return self._adjust(0, _READING).adjusted_micro_usd <= self._before

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        found = self._read()
        return found.data() if found.adjusted_micro_usd - self._before >= self._delta else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return self._read().data() if self.is_gone() else None

    @property
    def _name(self) -> str:
        return f"seawall/{self._spec.id}/{self._times}"

    def _read(self) -> ReadBack:
        now = self._adjust(0, _READING)
        return ReadBack(
            day=self._day,
            limit_micro_usd=self._limit,
            spent_micro_usd=now.total_micro_usd,
            adjusted_micro_usd=now.adjusted_micro_usd,
            left_micro_usd=self._left(now),
        )

    def _left(self, now: Standing) -> int:
        return self._limit - now.total_micro_usd - max(0, now.adjusted_micro_usd)

    def _adjust(self, delta: int, name: str) -> Standing:
        return at_once(self._books.adjust(self._day, delta, name))


def budget_fault(
    spec: FaultSpec, start_s: float, books: MemoryBudgetStore, limit_usd: float, wall: Callable[[], float]
) -> PlannedFault:
    """Return the fault `remaining` of a scenario; `books` are those of all workers."""
    limit = round(limit_usd * 1_000_000)
    words = BudgetFault(
        id=spec.id,
        run="simulated",
        url="redis://127.0.0.1:1/0",
        limit_micro_usd=limit,
        remaining_micro_usd=spec.remaining_micro_usd,
    )
    remaining = _Remaining(spec, books, limit, wall)
    deed = Deed(do=remaining.do, undo=remaining.undo, is_gone=remaining.is_gone, check=remaining.check)
    fault = SimFault(id=spec.id, target=spec.target, described=words.describe(), deed=deed)
    return PlannedFault(fault=fault, prover=remaining, start_s=start_s, duration_s=spec.duration)

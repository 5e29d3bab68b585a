"""The fault `remaining` on the wire: bound to the run's Redis, and proven by what Redis says of the day."""

from __future__ import annotations

import asyncio
from typing import Any

from faults.budget import BudgetFault, read_back
from faults.probe import PERIOD_S
from seawall.arenas.injector import PlannedFault
from seawall.scenario.model import FaultSpec

__all__ = ["BudgetProver", "planned_budget_fault"]


class BudgetProver:
    """Reads the day's standing back from the store."""

    by_behaviour = False

    def __init__(self, fault: BudgetFault) -> None:
        self._fault = fault
        self._adjusted_before = 0

    async def prepare(self) -> None:
        """See Prover."""
        self._adjusted_before = (await asyncio.to_thread(read_back, self._fault)).adjusted_micro_usd

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """
        See Prover. The store takes the fault's whole amount off the day.

        What is left may be a little more than the scenario says: a call that was under way when the amount was worked
        out gives back what it had reserved and did not spend.
        """
        prepared = self._fault.prepared
        found = await asyncio.to_thread(read_back, self._fault)
        taken = found.adjusted_micro_usd - self._adjusted_before
        return found.data() if prepared is not None and taken >= prepared.arguments["delta"] else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover. Adjustments take no more than before the fault."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        while True:
            found = await asyncio.to_thread(read_back, self._fault)
            if found.adjusted_micro_usd <= self._adjusted_before:
                return found.data()
            if loop.time() >= due_s:
                return None
            await asyncio.sleep(PERIOD_S)


def planned_budget_fault(spec: FaultSpec, start_s: float, *, run: str, url: str, limit_usd: float) -> PlannedFault:
    """Return the fault `remaining` of the scenario, bound to the Redis at `url` with a limit of so much a day."""
    fault = BudgetFault(
        id=spec.id,
        run=run,
        url=url,
        limit_micro_usd=round(limit_usd * 1_000_000),
        remaining_micro_usd=spec.remaining_micro_usd,
    )
    return PlannedFault(fault=fault, prover=BudgetProver(fault), start_s=start_s, duration_s=spec.duration)

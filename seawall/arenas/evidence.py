"""
How the wire arena knows that a fault is in force, and that it has gone.

A toxic is proven by probes through the same proxy; a behaviour of a provider, which the ping route does not have, by
reading it back from the emulator. Both have the same three steps.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from faults.probe import PERIOD_S, Address, Baseline, ProbePlan, baseline, wait_active, wait_healed
from faults.respond import RespondFault, read_back

__all__ = ["ProbeProver", "Prover", "ReadBackProver"]


class Prover(Protocol):
    """Shows one fault. Raises FaultError when it cannot look at all."""

    by_behaviour: bool
    """Whether a call meets the fault only when its provider says that it applied it."""

    async def prepare(self) -> None:
        """Learn what is normal, before any fault."""
        ...

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """Return what shows that the fault is in force, as plain data; None when nothing did in time."""
        ...

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """Return what shows that it has gone, as plain data; None when nothing did in time."""
        ...


class ProbeProver:
    """Probes `address` as `plan` says."""

    by_behaviour = False

    def __init__(self, address: Address, plan: ProbePlan) -> None:
        self._address = address
        self._plan = plan
        self._baseline: Baseline | None = None

    async def prepare(self) -> None:
        """See Prover."""
        self._baseline = await baseline(self._address, self._plan)

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        assert self._baseline is not None  # noqa: S101 - prepare comes first
        found = await wait_active(self._address, self._plan, self._baseline, deadline_s, stop)
        return None if found is None else found.data()

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        assert self._baseline is not None  # noqa: S101 - prepare comes first
        never = asyncio.Event()  # the end of a run does not end the search for proof that all is undone
        found = await wait_healed(self._address, self._plan, self._baseline, deadline_s, never)
        return None if found is None else found.data()


class ReadBackProver:
    """Asks the emulator what is in force."""

    by_behaviour = True

    def __init__(self, fault: RespondFault) -> None:
        self._fault = fault

    async def prepare(self) -> None:
        """See Prover. There is nothing to learn."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        return await self._until(deadline_s, in_force=True)

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return await self._until(deadline_s, in_force=False)

    async def _until(self, deadline_s: float, *, in_force: bool) -> dict[str, Any] | None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        while True:
            found = await asyncio.to_thread(read_back, self._fault)
            if found.in_force is in_force:
                return found.data()
            if loop.time() >= due_s:
                return None
            await asyncio.sleep(PERIOD_S)

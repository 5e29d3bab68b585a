"""
How the wire arena knows that a fault is in force, and that it has gone.

A toxic is proven by probes through the same proxy; a behaviour of a provider, which the ping route does not have, by
reading it back from the emulator. Both have the same three steps. Where other faults at the same proxy hide a toxic
from every probe, Toxiproxy's own list is read back instead, and the evidence names what hides it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec

from faults.base import FaultError
from faults.down import DownFault
from faults.overlap import Around, among, look, plan_among
from faults.overlap import read_back as read_back_proxy
from faults.probe import (
    PERIOD_S,
    Address,
    Baseline,
    Evidence,
    ProbePlan,
    Shape,
    Witness,
    baseline,
    probe,
    wait_active,
    wait_healed,
)
from faults.respond import RespondFault, read_back
from faults.toxic import ToxicFault

__all__ = ["ProbeProver", "Prover", "ReadBackProver"]

_HIDDEN_S = 0.6
_UPSTREAM_S = 1.0


class Prover(Protocol):
    """Shows one fault. Raises FaultError when it cannot look at all."""

    by_behaviour: bool
    """Whether a call meets the fault only when its provider says that it applied it."""
    unprovable: str | None
    """Why nothing can ever show it, None when something can."""

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
    """
    Probes `address`, the proxy at which `fault` acts, as `plan` says.

    `upstream` is where the proxy leads to: what does not answer by itself proves nothing of the proxy. `witness` is
    for plans whose evidence only the provider has.
    """

    by_behaviour = False

    def __init__(
        self,
        fault: ToxicFault | DownFault,
        address: Address,
        upstream: Address,
        plan: ProbePlan,
        witness: Witness | None = None,
    ) -> None:
        self._fault = fault
        self.at_once = isinstance(fault, DownFault)
        """Whether what is under way breaks when it is injected, before any probe can show it."""
        self._address = address
        self._upstream = upstream
        self._plan = plan
        self._witness = witness
        self._baseline = Baseline(median_s=0.0, spread_s=0.0, probes=0)
        self.unprovable = None if plan.provable else plan.why

    async def prepare(self) -> None:
        """See Prover."""
        self._baseline = await baseline(self._address, self._plan, witness=self._witness)

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        hidden_since_s: float | None = None
        while self._plan.provable and not stop.is_set() and (left_s := due_s - loop.time()) > 0:
            around = await self._around()
            plan = None if around is None else plan_among(self._plan, around)
            if around is not None and plan is not None:
                hidden_since_s = None
                found = await self._probed(wait_active, plan, left_s, stop, around)
                if found is not None:
                    return found
            elif around is not None and around.mine:
                # A fault that this one follows may only just be going.
                hidden_since_s = loop.time() if hidden_since_s is None else hidden_since_s
                if loop.time() - hidden_since_s >= _HIDDEN_S:
                    return read_back_proxy(around, phase="active")
            await _set_within(stop, PERIOD_S)
        return None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        never = asyncio.Event()  # the end of a run does not end the search for proof that all is undone
        while True:
            around = await self._around()
            left_s = due_s - loop.time()
            if around is not None and not around.mine:
                plan = plan_among(self._plan, around, healing=True)
                # Probes that may be held up for longer than there is time are as good as none.
                if plan is None or (around.others and plan.expected_s > left_s / 2):
                    return read_back_proxy(around, phase="healed")
                found = await self._probed(wait_healed, plan, left_s, never, around)
                if found is not None:
                    return found
            if loop.time() >= due_s:
                return None
            await asyncio.sleep(PERIOD_S)

    async def _around(self) -> Around | None:
        """Return what else is in force; None when that cannot be told now."""
        around, answers = await asyncio.gather(asyncio.to_thread(look, self._fault), self._upstream_answers())
        if around is None or answers:
            return around
        return msgspec.structs.replace(around, blocked=(*around.blocked, "an upstream that does not answer"))

    async def _upstream_answers(self) -> bool:
        shape = Shape(protocol=self._plan.shape.protocol, deadline_s=_UPSTREAM_S)
        try:
            return (await probe(self._upstream, shape)).ended == "whole"
        except FaultError:
            return False

    async def _probed(
        self, wait: _Wait, plan: ProbePlan, limit_s: float, stop: asyncio.Event, around: Around
    ) -> dict[str, Any] | None:
        """Return what probes show as long as nothing but `around` is in force; None when that changes."""
        changed = asyncio.Event()
        watcher = asyncio.create_task(self._watch(around, stop, changed))
        try:
            found = await wait(self._address, plan, self._baseline, limit_s, changed, witness=self._witness)
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        # What came in between may have been what the probe met.
        if found is None or await self._differs(around):
            return None
        return {**found.data(), "criterion": f"{found.criterion}{among(around)}"}

    async def _watch(self, around: Around, stop: asyncio.Event, changed: asyncio.Event) -> None:
        while not await _set_within(stop, PERIOD_S) and not await self._differs(around):
            pass
        changed.set()

    async def _differs(self, around: Around) -> bool:
        now = await asyncio.to_thread(look, self._fault)
        return now is not None and now.others != around.others


class _Wait(Protocol):
    """`wait_active` or `wait_healed`."""

    def __call__(
        self,
        address: Address,
        plan: ProbePlan,
        baseline: Baseline,
        deadline_s: float,
        stop: asyncio.Event,
        *,
        witness: Witness | None = None,
    ) -> Awaitable[Evidence | None]: ...


class ReadBackProver:
    """Asks the emulator what is in force."""

    by_behaviour = True
    unprovable = None

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


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for `event`, but no longer than `seconds`; return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()

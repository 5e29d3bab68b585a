"""
The life of one fault: planned → injecting → active → met → healing → healed → undo verified.

What takes it back is on disk before it is injected. However a run ends (at its planned end, by a failure, by a signal)
the way back is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from faults import registry
from faults.base import Fault, FaultError
from faults.undo import UndoFile
from seawall.arenas.evidence import Prover
from seawall.journal.events import Fault as FaultEvent
from seawall.journal.events import FaultPhase
from seawall.live import FaultWatch, LiveView

__all__ = ["PlannedFault", "inject_and_heal"]

_HEALED_DEADLINE_S = 5.0
_UNDO_DEADLINE_S = 3.0


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault bound to its target, with its place in time (seconds after the start of the load)."""

    fault: Any
    """A `faults.base.Fault`."""
    prover: Any
    """A `seawall.arenas.evidence.Prover`."""
    start_s: float
    duration_s: float

    def event(self, phase: FaultPhase, evidence: dict[str, Any] | None = None, error: str | None = None) -> FaultEvent:
        """Return the journal's event of this fault entering `phase`."""
        fault: Fault = self.fault
        return FaultEvent(
            id=fault.id,
            phase=phase,
            target=fault.target,
            description=fault.describe(),
            planned_at_s=self.start_s,
            duration_s=self.duration_s,
            evidence=evidence or {},
            error=error,
        )


async def inject_and_heal(
    planned: PlannedFault,
    *,
    t0_s: float,
    clock: Callable[[], float],
    stop: asyncio.Event,
    undo: UndoFile,
    live: LiveView,
    emit: Callable[[FaultEvent], None],
) -> bool:
    """
    Carry one fault through its life and return whether its undo was verified.

    `t0_s` is the start of the load on `clock` (monotonic seconds). `stop` cuts it short: a fault that has not begun is
    not injected, one that is in force is healed at once. Problems are told by the events' `error`, never raised.
    """
    fault: Fault = planned.fault
    prover: Prover = planned.prover
    await _until(t0_s + planned.start_s, clock, stop)
    if stop.is_set():
        return True
    record = fault.prepare()
    number = await asyncio.to_thread(undo.append, record)
    heal_at_s = t0_s + planned.start_s + planned.duration_s
    watch = FaultWatch(fault.id, fault.target, by_behaviour=prover.by_behaviour)
    live.watches.append(watch)
    emit(planned.event("injecting"))
    try:
        await asyncio.to_thread(fault.inject)
        evidence = await prover.active(max(0.0, heal_at_s - clock()), stop)
        if evidence is not None:
            watch.active_ns = round(clock() * 1e9)
            emit(planned.event("active", evidence))
        await _until(heal_at_s, clock, stop)
    except FaultError as error:
        emit(planned.event("injecting", error=str(error)))
    emit(planned.event("healing"))
    problem: str | None = None
    try:
        await asyncio.to_thread(registry.undo, record, deadline_s=_UNDO_DEADLINE_S)
        gone = await prover.healed(_HEALED_DEADLINE_S)
        watch.healed_ns = round(clock() * 1e9)
        if gone is not None:
            emit(planned.event("healed", gone))
        verified = await asyncio.to_thread(registry.verify, record, deadline_s=_UNDO_DEADLINE_S)
        if verified:
            await asyncio.to_thread(undo.mark_done, number)
        else:
            problem = "it is still there after the undo"
    except FaultError as error:
        verified, problem = False, str(error)
    emit(planned.event("undo_verified", error=problem))
    return verified


async def _until(due_s: float, clock: Callable[[], float], stop: asyncio.Event) -> None:
    """Wait until `due_s` on `clock`, or until `stop`."""
    while not stop.is_set() and (left_s := due_s - clock()) > 0:
        try:
            async with asyncio.timeout(left_s):
                await stop.wait()
        except TimeoutError:
            pass

"""
The life of one fault: planned → injecting → active → met → healing → healed → undo verified, once for each occurrence.

What takes it back is on disk before it is injected. However a run ends (at its planned end, by a failure, by a signal)
the way back is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from faults import registry
from faults.base import Fault, FaultError, Undo
from faults.probe import PERIOD_S
from faults.undo import UndoFile
from seawall.arenas.evidence import Prover
from seawall.journal.events import Fault as FaultEvent
from seawall.journal.events import FaultPhase
from seawall.live import FaultWatch, LiveView

__all__ = ["PlannedFault", "inject_and_heal", "tell_met"]

_HEALED_DEADLINE_S = 5.0
_UNDO_DEADLINE_S = 3.0
_UNDO_LIMIT_S = 10.0


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault bound to its target, with its place in time (seconds after the start of the load)."""

    fault: Any
    """A `faults.base.Fault`."""
    prover: Any
    """A `seawall.arenas.evidence.Prover`."""
    start_s: float
    duration_s: float
    repeats_s: tuple[float, ...] = ()
    """The later starts of a fault that repeats."""

    def event(
        self,
        phase: FaultPhase,
        evidence: dict[str, Any] | None = None,
        error: str | None = None,
        *,
        start_s: float | None = None,
    ) -> FaultEvent:
        """Return the journal's event of this fault's occurrence planned for `start_s` (the first) entering `phase`."""
        fault: Fault = self.fault
        return FaultEvent(
            id=fault.id,
            phase=phase,
            target=fault.target,
            description=fault.describe(),
            planned_at_s=self.start_s if start_s is None else start_s,
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
    Carry one fault through its life, or its lives, and return whether every undo was verified.

    `t0_s` is the start of the load on `clock` (monotonic seconds). `stop` cuts it short: an occurrence that has not
    begun is not injected, one that is in force is healed at once. Problems are told by the events' `error`, never
    raised.
    """
    verified = True
    for start_s in (planned.start_s, *planned.repeats_s):
        await _until(t0_s + start_s, clock, stop)
        if stop.is_set():
            break
        # One after the other, so that an undo that took long is never overtaken by the next injection.
        life = _Occurrence(planned, start_s, t0_s + start_s + planned.duration_s, clock, emit)
        verified = await life.live_through(stop, undo, live) and verified
    return verified


def tell_met(planned: PlannedFault, watch: FaultWatch, emit: Callable[[FaultEvent], None]) -> None:
    """Emit that an occurrence was met, once, if it was."""
    if watch.is_met and not watch.told:
        watch.told = True
        emit(planned.event("met", watch.evidence(), start_s=watch.planned_at_s))


class _Occurrence:
    """One time that a fault is in force. `heal_at_s` is on `clock`."""

    def __init__(
        self,
        planned: PlannedFault,
        start_s: float,
        heal_at_s: float,
        clock: Callable[[], float],
        emit: Callable[[FaultEvent], None],
    ) -> None:
        fault: Fault = planned.fault
        self._planned = planned
        self._fault = fault
        self._prover: Prover = planned.prover
        self._start_s = start_s
        self._heal_at_s = heal_at_s
        self._clock = clock
        self._emit = emit
        self._watch = FaultWatch(
            fault.id,
            fault.target,
            by_behaviour=self._prover.by_behaviour,
            at_once=getattr(self._prover, "at_once", False),
            planned_at_s=start_s,
        )

    async def live_through(self, stop: asyncio.Event, undo: UndoFile, live: LiveView) -> bool:
        """Inject it, prove it, heal it; return whether the undo was verified."""
        try:
            record = await asyncio.to_thread(self._fault.prepare)
            number = await asyncio.to_thread(undo.append, record)
        except FaultError as error:
            # Nothing was changed, so there is nothing to undo.
            self._tell("injecting", error=str(error))
            self._tell("undo_verified")
            return True
        self._tell_met_before(live)
        self._watch.injected_ns = self._now_ns()
        live.watches.append(self._watch)
        self._tell("injecting")
        try:
            await self._bite(stop)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what may be in force is taken back
            self._tell("injecting", error=_told(error))
        return await self._heal(record, number, undo)

    async def _bite(self, stop: asyncio.Event) -> None:
        """Put it in force, prove it, and wait for its end."""
        await asyncio.to_thread(self._fault.inject)
        unprovable: str | None = getattr(self._prover, "unprovable", None)
        if unprovable is not None:
            self._tell("injecting", error=f"nothing can show that it is in force: {unprovable}")
        evidence = await self._prover.active(max(0.0, self._heal_at_s - self._clock()), stop)
        if evidence is not None:
            self._watch.active_ns = self._now_ns()
            self._tell("active", evidence)
        await _until(self._heal_at_s, self._clock, stop)

    async def _heal(self, record: Undo, number: int, undo: UndoFile) -> bool:
        """Take it back, see that it has gone, read it back."""
        self._tell("healing")
        problem: str | None = None
        besides: str | None = None
        verified = False
        try:
            besides = await _take_back(record, self._clock)
            gone = await self._prover.healed(_HEALED_DEADLINE_S)
            self._watch.healed_ns = self._now_ns()
            if gone is not None:
                self._tell("healed", gone)
            verified = await asyncio.to_thread(registry.verify, record, deadline_s=_UNDO_DEADLINE_S)
            if verified:
                await asyncio.to_thread(undo.mark_done, number)
            else:
                problem = "it is still there after the undo"
        except Exception as error:  # noqa: BLE001 - told, and left to the undo file
            verified, problem = False, _told(error)
        self._tell("undo_verified", {} if besides is None else {"besides": besides}, error=problem)
        return verified

    def _tell_met_before(self, live: LiveView) -> None:
        """Say of the occurrence before this one that it was met: what is journalled later looks like this one's."""
        before = next((watch for watch in reversed(live.watches) if watch.fault_id == self._fault.id), None)
        if before is not None:
            live.poll()
            tell_met(self._planned, before, self._emit)

    def _tell(self, phase: FaultPhase, evidence: dict[str, Any] | None = None, error: str | None = None) -> None:
        self._emit(self._planned.event(phase, evidence, error, start_s=self._start_s))

    def _now_ns(self) -> int:
        return round(self._clock() * 1e9)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, FaultError) else f"{type(error).__name__}: {error}"


async def _take_back(record: Undo, clock: Callable[[], float]) -> str | None:
    """
    Undo, again and again for a while: the part that must be asked may itself be down by another fault.

    Returns what had to be done besides.
    """
    due_s = clock() + _UNDO_LIMIT_S
    while True:
        try:
            return await asyncio.to_thread(registry.undo, record, deadline_s=_UNDO_DEADLINE_S)
        except FaultError:
            if clock() >= due_s:
                raise
            await asyncio.sleep(PERIOD_S)


async def _until(due_s: float, clock: Callable[[], float], stop: asyncio.Event) -> None:
    """Wait until `due_s` on `clock`, or until `stop`."""
    while not stop.is_set() and (left_s := due_s - clock()) > 0:
        try:
            async with asyncio.timeout(left_s):
                await stop.wait()
        except TimeoutError:
            pass

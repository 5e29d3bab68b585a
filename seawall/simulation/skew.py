"""
The fault `clock_skew`: the clock on the wall of one worker is fast or slow, and only this arena can make it so.

What runs on it is the day of the budget, the leases of reservations, and dates in `Retry-After`. Intervals are measured
by another clock, which no fault touches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from seawall.arenas.injector import PlannedFault
from seawall.scenario.model import FaultSpec
from seawall.simulation.faults import Deed, SimFault
from seawall.simulation.workers import SimWorker

__all__ = ["skew_fault"]


def skew_fault(spec: FaultSpec, start_s: float, worker: SimWorker, wall: Callable[[], float]) -> PlannedFault:
    """Return the fault `clock_skew` of a scenario at `worker`; `wall` is the true time of day."""
    skew_s = spec.clock_skew
    assert skew_s is not None  # noqa: S101 - what the caller has seen

    def do() -> None:
        worker.skew_s = skew_s

    def undo() -> None:
        worker.skew_s = 0.0

    words = f"clock {abs(skew_s):g} s {'fast' if skew_s > 0 else 'slow'}"
    deed = Deed(do=do, undo=undo, is_gone=lambda: worker.skew_s == 0.0)
    return PlannedFault(
        fault=SimFault(id=spec.id, target=spec.target, described=words, deed=deed),
        prover=_ClockProver(worker, wall),
        start_s=start_s,
        duration_s=spec.duration,
    )


class _ClockProver:
    """Reads the worker's clock beside the true one."""

    by_behaviour = False
    unprovable: str | None = None

    def __init__(self, worker: SimWorker, wall: Callable[[], float]) -> None:
        self._worker = worker
        self._wall = wall

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        return self._read() if self._off_s() else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return None if self._off_s() else self._read()

    def _off_s(self) -> float:
        return round(self._worker.wall_s() - self._wall(), 3)

    def _read(self) -> dict[str, Any]:
        return {"criterion": "clock", "pid": self._worker.pid, "off_s": self._off_s()}

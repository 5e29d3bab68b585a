"""
One run in the hands of somebody: what the control API asks of it, and what it tells.

    begin ─▶ (parts start) ─▶ ready ─▶ loading ─▶ ending ─▶ judging ─▶ ended
                                         └ inject, heal         at every moment: abort

Every run has one; `seawall run` alone leaves it untouched. With `outside_load` the load is somebody else's, such as
Locust's web UI: the run waits for it to begin, and ends with it. All of it lives in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from faults.base import FaultError
from faults.toxic import give_up_proxies
from router.errors import SeawallError
from seawall.arenas.injector import PlannedFault
from seawall.control.byhand import Unfit, fault_by_hand
from seawall.control.timeline import Timeline
from seawall.journal.events import Fault, FaultPhase, JournalEvent
from seawall.live import LiveView
from seawall.outcome import Outcome
from seawall.plan import duration_of
from seawall.scenario.harm import FaultSpec
from seawall.scenario.loader import Loaded
from seawall.scenario.model import PROVIDERS, Scenario

__all__ = ["Arena", "Carry", "Phase", "Run", "Steering"]

Phase = Literal["starting", "ready", "loading", "ending", "judging", "ended"]
Carry = Callable[[PlannedFault, asyncio.Event], Coroutine[Any, Any, bool]]
"""Carries a fault through its life, cut short by the event; returns whether the undo was verified."""
_LEAD_S = 0.05
_RATE_WINDOW_S = 10.0


class Run(Protocol):
    """What is asked of the run itself."""

    name: str
    folder: Path
    scenario: Scenario
    loaded: Loaded
    live: LiveView
    scenario_name: str

    def end(self, reason: Literal["interrupted", "stopped", "error"], detail: str) -> None:
        """Break the run off."""
        ...

    def emit(self, event: JournalEvent) -> None:
        """Write to the journal."""
        ...


class Load(Protocol):
    """A load generator: a process, or one that is somebody else's."""

    @property
    def log(self) -> Path:
        """Where it says what it does."""
        ...

    async def wait(self) -> int:
        """Wait for its end; return the exit code."""
        ...

    async def stop(self, grace_s: float = 5.0) -> int:
        """End it."""
        ...


class Arena(Protocol):
    """What is asked of the wire arena."""

    base_url: str

    async def start_load(self) -> tuple[Load, int]:
        """Start the load generator; return it and the start of the load."""
        ...

    def planned(self, spec: FaultSpec, start_s: float) -> PlannedFault:
        """Return the fault bound to its part."""
        ...


class _Hand(msgspec.Struct):
    """A fault of the run, by hand or planned, with what heals it early."""

    planned: PlannedFault
    spec: FaultSpec | None
    heal: asyncio.Event
    task: asyncio.Task[bool]
    phase: FaultPhase = "planned"
    error: str | None = None
    until_s: float = 0.0


class _OutsideLoad:
    """Somebody else's load: it begins and ends when they say so."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.ended = asyncio.Event()
        self.code = 0

    async def wait(self) -> int:
        """See Load."""
        await self.ended.wait()
        return self.code

    async def stop(self, grace_s: float = 5.0) -> int:
        """See Load."""
        self.ended.set()
        return await self.wait()


class Steering:
    """
    Follow and steer one run.

    `inject` and `heal` raise Unfit when the run cannot do it now, `inject` also `byhand.Refused` for a bad fault.
    """

    def __init__(self, *, outside_load: bool = False) -> None:
        self.phase: Phase = "starting"
        self.timeline = Timeline(PROVIDERS)
        self.base_url = ""
        self.exit_code: int | None = None
        self.verdict: str | None = None
        self.why: str | None = None
        self.detail: str | None = None
        self.changed = asyncio.Event()
        """Set whenever `phase` moves on."""
        self._run: Run | None = None
        self._arena: Arena | None = None
        self._carry: Carry | None = None
        self._hands: dict[str, _Hand] = {}
        self._outside: _OutsideLoad | None = None
        self._is_outside = outside_load
        self._begun: asyncio.Future[int] | None = None
        self._is_broken_off = False

    @property
    def run(self) -> Run:
        """The run. Raises Unfit before it has begun."""
        if self._run is None:
            raise Unfit("no run has begun yet; wait a moment")
        return self._run

    @property
    def tasks(self) -> list[asyncio.Task[bool]]:
        """The lives of all faults, one a fault."""
        return [hand.task for hand in self._hands.values()]

    @property
    def planned(self) -> list[PlannedFault]:
        """All faults, by hand or by plan."""
        return [hand.planned for hand in self._hands.values()]

    def begin(self, run: Run) -> None:
        """Follow `run` from here on."""
        self._run = run
        run.live.listeners.append(self.timeline.take)

    def move(self, phase: Phase) -> None:
        """Say how far the run is."""
        self.phase = phase
        self.changed.set()
        self.changed = asyncio.Event()

    async def start_load(self, arena: Arena) -> tuple[Load, int]:
        """Start the load, or wait until somebody has begun theirs; return it and its start."""
        self._arena, self.base_url = arena, arena.base_url
        if not self._is_outside:
            load, t0_ns = await arena.start_load()
        else:
            self._begun = asyncio.get_running_loop().create_future()
            load = self._outside = _OutsideLoad(self.run.folder)
            self.move("ready")
            t0_ns = await self._begun
        self.timeline.t0_ns = t0_ns
        return load, t0_ns

    def begin_load(self, t0_ns: int) -> None:
        """Say that the outside load starts at `t0_ns`. Raises Unfit when the run does not wait for it."""
        if self._begun is None or self._begun.done():
            raise Unfit(f"the run does not wait for a load; it is {self.phase}")
        self._begun.set_result(t0_ns)

    def end_load(self, code: int = 0) -> None:
        """Say that the outside load has ended, with 0 or the exit code of one that broke. Raises Unfit."""
        if self._outside is None:
            raise Unfit("this run has a load of its own, which ends as planned; abort it, or wait")
        self._outside.code = code
        self._outside.ended.set()

    def open(self, faults: list[PlannedFault], carry: Carry) -> None:
        """The load is on: carry the planned faults, and take others by hand."""
        self._carry = carry
        for fault in faults:
            self._take(fault, None)
        self.move("loading")
        if self._is_broken_off:
            self.heal_all()

    def shut(self) -> None:
        """The load is over: nothing is injected any more, and what was injected by hand is healed."""
        self._carry = None
        if self.phase == "loading":
            self.move("ending")
        for hand in self._hands.values():
            if hand.spec is not None:
                hand.heal.set()

    def heal_all(self) -> None:
        """The run is broken off: heal everything, and wait for the sake of no proxy."""
        give_up_proxies()
        self._is_broken_off = True
        self._carry = None
        for hand in self._hands.values():
            hand.heal.set()
        if self._begun is not None and not self._begun.done():
            self._begun.cancel()

    async def inject(self, body: object) -> dict[str, Any]:
        """Put a fault in force at once, for its duration; return it as `state` tells it."""
        run, arena = self.run, self._arena
        if self._carry is None or arena is None:
            raise Unfit(f"a fault needs load to meet it, and the run is {self.phase}; wait for the load")
        spec = fault_by_hand(body, run.loaded, now_s=self.now_s() + _LEAD_S, taken=self._hands)
        try:
            fault = arena.planned(spec, spec.at or 0.0)
            await fault.prover.prepare()
        except (FaultError, SeawallError, OSError, ValueError) as error:
            raise Unfit(f"fault {spec.id} cannot be made now: {error}") from error
        if self._carry is None:
            raise Unfit(f"the run is {self.phase}; fault {spec.id} came too late")
        if spec.id in self._hands:  # another one of the same name came while this one was prepared
            raise Unfit(f"this run has had a fault {spec.id}; give it another id")
        fault = msgspec.structs.replace(fault, start_s=max(spec.at or 0.0, round(self.now_s(), 3)))
        run.emit(fault.event("planned"))
        self._take(fault, spec)
        return self._told(spec.id)

    async def heal(self, fault_id: str) -> dict[str, Any]:
        """Take a fault back before its time. What would have repeated is not injected again."""
        hand = self._hands.get(fault_id)
        if hand is None:
            known = ", ".join(self._hands) or "none"
            raise Unfit(f"this run has no fault {fault_id}; it has {known}")
        hand.heal.set()
        return self._told(fault_id)

    def finish(self, outcome: Outcome) -> None:
        """Say what the run came to."""
        self.exit_code, self.detail = int(outcome.exit_code), outcome.detail
        if outcome.verdict is not None:
            self.verdict, self.why = str(outcome.verdict.verdict), outcome.verdict.why
        self.move("ended")

    def abort(self) -> None:
        """End the run as a signal would: everything is undone and the report is written."""
        self.run.end("interrupted", "aborted by hand")

    def see(self, event: JournalEvent) -> None:
        """Take note of a step in the life of a fault."""
        hand = self._hands.get(event.id) if isinstance(event, Fault) else None
        if isinstance(event, Fault) and hand is not None:
            hand.error = event.error or hand.error
            if event.phase != "met":
                hand.phase = event.phase

    def now_s(self) -> float:
        """Return seconds since the start of the load, 0 before it."""
        t0_ns = self.timeline.t0_ns
        return 0.0 if t0_ns is None else max(0.0, (time.monotonic_ns() - t0_ns) / 1e9)

    def since(self, number: int) -> dict[str, Any]:
        """Return what is new on the timeline."""
        self._poll()
        return self.timeline.since(number)

    def state(self) -> dict[str, Any]:
        """Return how the run stands, as plain data."""
        run = self.run
        self._poll()
        live = run.live
        plan = run.scenario.load.plan(run.scenario.seed)
        return {
            "run": run.name,
            "scenario": run.scenario_name,
            "title": run.scenario.title,
            "phase": self.phase,
            "now_s": round(self.now_s(), 3),
            "load_s": None if self._is_outside else duration_of(plan),
            "base_url": self.base_url,
            "folder": str(run.folder),
            "requests": live.requests,
            "outcomes": dict(live.outcomes),
            "success_rate": live.success_rate(time.monotonic_ns(), _RATE_WINDOW_S),
            "tokens": self.timeline.tokens,
            "cut": self.timeline.cut,
            "faults": [self._told(fault_id) for fault_id in self._hands],
            "providers": self.timeline.rows(),
            "breakers": dict(live.breakers),
            "spend_usd": self.timeline.spend_usd,
            "limit_usd": self.timeline.limit_usd,
            "events": len(self.timeline.entries),
            "verdict": self.verdict,
            "why": self.why,
            "detail": self.detail,
            "exit_code": self.exit_code,
        }

    @property
    def is_outside(self) -> bool:
        """Whether the load is somebody else's."""
        return self._is_outside

    def specs(self) -> list[tuple[FaultSpec, float]]:
        """Return the faults by hand, each with the time for which it was in force."""
        found: list[tuple[FaultSpec, float]] = []
        for hand in self._hands.values():
            if hand.spec is not None:
                healing_s = self.timeline.healing_s.get(hand.spec.id, self.now_s())
                lasted_s = max(healing_s - hand.planned.start_s, 0.001)
                found.append((hand.spec, min(hand.spec.duration, lasted_s)))
        return found

    def _poll(self) -> None:
        if self.phase not in ("judging", "ended"):
            with contextlib.suppress(OSError):
                self.run.live.poll()
            self.timeline.settle(time.monotonic_ns())

    def _take(self, fault: PlannedFault, spec: FaultSpec | None) -> None:
        assert self._carry is not None  # noqa: S101 - asked by the callers
        heal = asyncio.Event()
        task = asyncio.create_task(self._carry(fault, heal))
        self._hands[fault.fault.id] = _Hand(planned=fault, spec=spec, heal=heal, task=task)

    def _told(self, fault_id: str) -> dict[str, Any]:
        hand = self._hands[fault_id]
        return {
            "id": fault_id,
            "target": hand.planned.fault.target,
            "description": hand.planned.fault.describe(),
            "phase": hand.phase,
            "by_hand": hand.spec is not None,
            "planned_at_s": hand.planned.start_s,
            "duration_s": hand.planned.duration_s,
            "error": hand.error,
        }

"""
A simulation for code that drives the router itself: no scenario and no load, only the parts, and faults at will.

    async def main() -> None:
        async with Simulation(settings={"CIRCUIT_BREAKER_FAILURE_THRESHOLD": 1}) as simulation:
            with outage("gemini") as block:
                reply = await simulation.router.complete(request)
            await asyncio.sleep(60)  # takes no time

    run_virtual(main())

The faults are those of `seawall.builders`. What the router and its providers report is in `events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from router.budget import MemoryBudgetStore
from router.hybrid import HybridRouter
from seawall.journal.events import Attempt, CallRecord, JournalEvent, Skip, Spend, Stamped
from seawall.simulation.arena import Arena
from seawall.simulation.faults import SimFault
from seawall.simulation.loop import VirtualLoop
from seawall.simulation.workers import MakeRouter

if TYPE_CHECKING:
    from seawall.builders import Harm

__all__ = ["Block", "Simulation", "current"]

_CURRENT: ContextVar[Simulation | None] = ContextVar("seawall_simulation", default=None)
_AT_ONCE = {"at": "0s", "duration": "1s"}
_E = TypeVar("_E", bound=JournalEvent)


def current() -> Simulation:
    """Return the simulation that this code runs in. Raises RuntimeError outside of one."""
    found = _CURRENT.get()
    if found is None:
        raise RuntimeError(
            "no simulation is under way here; begin one with `async with Simulation() as simulation:` on the loop of "
            "run_virtual, or mark an async test with @pytest.mark.seawall"
        )
    return found


class Simulation:
    """
    The parts of a simulation, with one `router` in it. An async context manager, on the loop of `run_virtual`.

    `settings` are the router's by their names; `router` makes it, from the arguments of `HybridRouter`; `seed` decides
    everything that is drawn; `providers` are their healthy behaviour, as in a scenario.
    Entering raises RuntimeError on another loop, and ScenarioError for settings that are refused.
    """

    router: HybridRouter

    def __init__(
        self,
        *,
        seed: int = 1,
        settings: Mapping[str, Any] | None = None,
        router: MakeRouter = HybridRouter,
        providers: Mapping[str, Any] | None = None,
    ) -> None:
        self._seed = seed
        self._settings = dict(settings or {})
        self._make_router = router
        self._providers = dict(providers or {})
        self._books = MemoryBudgetStore()
        self._faults = 0
        self._token: Token[Simulation | None] | None = None

    async def __aenter__(self) -> Self:
        from seawall.builders import Schedule  # noqa: PLC0415 - it is a user of this module too

        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise RuntimeError(  # noqa: TRY004 - what is wrong is where it is called, not with what
                "a simulation needs the loop of `seawall.simulation.run_virtual`"
            )
        words = {"providers": self._providers} if self._providers else {}
        schedule = Schedule(seed=self._seed).settings(**self._settings).words(**words)
        self._arena = Arena(schedule.scenario(), loop, make_router=self._made)
        self._worker = self._arena.workers[0]
        self._worker.start()
        self.router = cast("HybridRouter", self._worker.router)
        self._token = _CURRENT.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
        await self._worker.close()

    @property
    def events(self) -> list[JournalEvent]:
        """Everything that the router, the providers and the harness have recorded so far, in order."""
        return [stamped.event for stamped in self.stamped()]

    def stamped(self) -> list[Stamped]:
        """Return `events` with their times and sources."""
        return self._arena.recorder.events

    def of(self, kind: type[_E]) -> list[_E]:
        """Return the events of one kind (`seawall.journal.events`), in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def calls(self, provider: str | None = None) -> list[CallRecord]:
        """Return the calls that providers, or one of them, have answered or seen break."""
        return [call for call in self.of(CallRecord) if provider in (None, call.provider)]

    def now_ns(self) -> int:
        """Return the virtual time of the events, in nanoseconds."""
        return self._arena.network.loop.time_ns()

    def inject(self, harm: Harm) -> Block:
        """Put a fault in force until its block is healed. Raises ValueError for one that needs more than a router."""
        if harm.target == "gateway" and "process" in harm.words:
            raise ValueError("the router that you hold is the gateway here; kill or stop it in a scenario")
        self._faults += 1
        spec = harm.spec(f"block{self._faults}", _AT_ONCE)
        if spec.target in ("redis", "budget") and self._arena.settings.budget_store != "redis":
            if spec.target == "redis":
                raise ValueError('the router does not use Redis here; give the simulation BUDGET_STORE="redis"')
            from seawall.simulation.budgets import budget_fault  # noqa: PLC0415 - most do without

            limit_usd = self._arena.settings.daily_spend_limit_usd
            planned = budget_fault(spec, 0.0, self._books, limit_usd, self._arena.recorder.wall_s)
        else:
            planned = self._arena.bound(spec, 0.0)
        return Block(self, cast("SimFault", planned.fault), spec.target)

    def _made(self, *arguments: Any, **parts: Any) -> Any:
        """Make the router on books that a fault can reach, where it would have its own."""
        return self._make_router(*arguments, **{**parts, "budget_store": parts.get("budget_store") or self._books})


class Block:
    """A fault that is in force. `met` tells whether anybody noticed it so far."""

    def __init__(self, simulation: Simulation, fault: SimFault, target: str) -> None:
        self.target = target
        self._simulation = simulation
        self._fault = fault
        self._healed_ns: int | None = None
        fault.deed.check()
        self._began_ns = simulation.now_ns()
        fault.deed.do()

    @property
    def met(self) -> int:
        """How many calls and attempts at the target overlapped it; of the budget and Redis, how many of their steps."""
        end_ns = self._healed_ns if self._healed_ns is not None else self._simulation.now_ns()
        return sum(self._meets(stamped, end_ns) for stamped in self._simulation.stamped())

    def heal(self) -> None:
        """Take it back. A second time does nothing."""
        if self._healed_ns is None:
            self._fault.deed.undo()
            self._healed_ns = self._simulation.now_ns()

    def _meets(self, stamped: Stamped, end_ns: int) -> bool:
        event, start_ns = stamped.event, stamped.mono_ns
        stop_ns = start_ns
        if self.target in ("budget", "redis"):
            if not (isinstance(event, Spend) or (isinstance(event, Skip) and event.reason == "budget")):
                return False
        elif isinstance(event, Attempt | CallRecord) and self.target in (event.provider, "gateway", "toxiproxy"):
            start_ns = event.start_ns if isinstance(event, Attempt) else event.arrival_ns
            stop_ns = event.end_ns
        else:
            return False
        return start_ns <= end_ns and (start_ns >= self._began_ns or stop_ns > self._began_ns)

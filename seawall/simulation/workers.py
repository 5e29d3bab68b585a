"""
The gateway's processes in a simulation: routers with clocks, keys and draws of their own, that die and come back.

A killed worker vanishes: what it had in hand ends for its clients at once, and nothing that its code still does while
it is taken down reaches the journal, the network or the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Literal

from loadtests.outcome import Ending
from router.budget import BudgetStore
from router.events import Event
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.draws import unit
from seawall.journal.events import JournalEvent, Process
from seawall.simulation.client import Answerer, SimClient
from seawall.simulation.loop import OWNER
from seawall.simulation.network import Network
from seawall.simulation.provider import SimulatedProvider
from seawall.simulation.recorder import Recorder
from seawall.simulation.transport import SimTransport

__all__ = ["BOOT_S", "FIRST_PID", "MakeRouter", "SimWorker"]

BOOT_S = 1.0
"""From the start of a gateway's process until it serves."""
FIRST_PID = 10
_TAKEN_DOWN_S = 0.001
_GONE = Ending("failed", "the connection was closed")

MakeStore = Callable[["SimWorker"], BudgetStore | None]
MakeRouter = Callable[..., Answerer]
"""Makes the router of a process, from the arguments of `HybridRouter`."""


class SimWorker:
    """
    One place for a gateway process. `pids` gives the next process id, `tell` takes the harness's own events.

    `skew_s` is how far its clock on the wall is off.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        network: Network,
        providers: Mapping[str, SimulatedProvider],
        recorder: Recorder,
        *,
        make_store: MakeStore,
        pids: Callable[[], int],
        tell: Callable[[JournalEvent], None],
        make_router: MakeRouter = HybridRouter,
    ) -> None:
        self.name = name
        self.network = network
        self.pid = 0
        self.skew_s = 0.0
        self.is_dead = True
        self.accepts = False
        self.is_stopped = False
        self.exit_code: int | None = None
        self.router: Answerer | None = None
        self.life = Life(0)
        self._settings = settings
        self._providers = providers
        self._recorder = recorder
        self._make_store = make_store
        self._make_router = make_router
        self._pids = pids
        self._tell = tell
        self._clients: dict[SimClient, None] = {}
        self._context = copy_context()
        self._draining: Callable[[], None] | None = None
        self._exiting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin a new process that serves at once."""
        self.pid = pid = self._pids()
        self.is_dead, self.is_stopped, self.exit_code = False, False, None
        self.life = life = Life(pid)
        self._context = copy_context()
        self._context.run(OWNER.set, pid)
        self._process("start")
        write = self._recorder.source(f"gateway-{pid}")
        numbers = iter(range(1, 2**62))
        seed, draws = self.network.seed, iter(range(2**62))

        def sink(event: Event) -> None:
            if not life.is_dead:
                write(event)

        transport = SimTransport(self.network, self._providers, life)
        life.at_death.append(transport.sever)
        self.router = self._make_router(
            self._settings,
            transport=transport,
            budget_store=self._make_store(self),
            sink=sink,
            clock=self.network.loop.time,
            wall=self.wall_s,
            draw=lambda: unit(seed, "gateway", pid, "draw", next(draws)),
            new_id=lambda: f"gateway-{pid}-{next(numbers)}",
            worker=f"gateway-{pid}",
        )
        self.accepts = True
        self._process("ready")

    def wall_s(self) -> float:
        """Return what the clock on the wall shows here, in seconds since the epoch."""
        return self._recorder.wall_s() + self.skew_s

    def serve(self, client: SimClient) -> asyncio.Task[None]:
        """Have a request answered."""
        assert self.router is not None  # noqa: S101 - whoever accepts has one
        self._clients[client] = None
        return self.network.loop.create_task(client.serve(self.router), context=self._context)

    def served(self, client: SimClient) -> None:
        """Forget a request that is over."""
        self._clients.pop(client, None)
        if self._draining is not None and not self._clients:
            self.network.soon(self._draining)

    def kill(self) -> None:
        """End the process as SIGKILL does."""
        self._end(-9)
        for client in [*self._clients]:
            client.leave(_GONE)
        self._clients.clear()
        # One that stood still is taken down like any other: nothing that it still does is seen by anybody.
        self.network.loop.continue_process(self.pid)

    def terminate(self, then: Callable[[], None]) -> None:
        """End the process as SIGTERM does: it takes no more, ends and books what it has in hand, exits; then `then`."""
        self.accepts = False

        async def exit_in_order() -> None:
            assert self.router is not None  # noqa: S101 - it is not dead
            await self.router.aclose()
            if not self.is_dead:
                self._end(0)
                self.network.soon(then)

        def drained() -> None:
            self._draining = None
            if not self.is_dead:
                self._exiting = self.network.loop.create_task(exit_in_order(), context=self._context)

        self._draining = drained
        if not self._clients:
            self.network.soon(drained)

    def stop(self) -> None:
        """Hold the process as SIGSTOP does."""
        self.is_stopped = True
        self.network.loop.stop_process(self.pid)

    def go_on(self) -> None:
        """Let it run again, as SIGCONT does."""
        self.is_stopped = False
        self.network.loop.continue_process(self.pid)

    async def close(self) -> None:
        """End the process in order, at the end of a run."""
        if not self.is_dead and self.router is not None:
            self.go_on()
            await self.router.aclose()
            self.accepts = False
            self._process("stop")
            self._end(0)

    def _end(self, code: int) -> None:
        pid, router, life = self.pid, self.router, self.life
        self.is_dead, self.accepts, self.exit_code, self.router = True, False, code, None
        life.is_dead = True
        for hook in life.at_death:
            hook()
        self._process("exit", code)
        if router is not None and code != 0:
            # Its tasks are taken down in a moment; what is left of it never runs again.
            self.network.loop.call_later(
                _TAKEN_DOWN_S, self.network.loop.stop_process, pid, context=self.network.context
            )

    def _process(self, action: Literal["start", "ready", "stop", "exit"], code: int | None = None) -> None:
        self._tell(Process(name=self.name, action=action, pid=self.pid, code=code))


class Life:
    """The life of one process. `at_death` are called at its end: the system closes what it had open."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.is_dead = False
        self.at_death: list[Callable[[], None]] = []

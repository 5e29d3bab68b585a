"""
The simulation arena: a scenario executed in virtual time, in one thread, from one seed.

    arrivals ─▶ SimClient ─▶ SimWorker (the real router) ─▶ Network (proxies, toxics) ─▶ SimulatedProvider
                                  └─▶ SimRedisStore (the real store) ─▶ Network ─▶ SimRedis

The planner's arrivals, the life of faults, the journal and its judgement are those of the wire.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from faults.undo import UndoFile
from loadtests.outcome import Ending
from router.budget import BudgetStore, MemoryBudgetStore
from router.errors import ConfigurationError
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.arenas.injector import PlannedFault, inject_and_heal, tell_met
from seawall.draws import unit
from seawall.emulators.behaviour import VENDORS
from seawall.emulators.steps import Healthy
from seawall.journal.events import End, Header, JournalEvent, RequestRecord
from seawall.journal.view import Journal
from seawall.plan import Arrival, arrivals, duration_of
from seawall.scenario.model import ClusterSpec, FaultSpec, Provider, Scenario
from seawall.simulation.client import SimClient
from seawall.simulation.faults import process_fault, respond_fault, toxic_fault
from seawall.simulation.in_memory import InMemoryUndo, header_in_memory
from seawall.simulation.loop import VirtualLoop, run_virtual
from seawall.simulation.network import Network
from seawall.simulation.processes import GatewayProcess, SimProcess, ToxiproxyProcess
from seawall.simulation.provider import PROVIDER_SOURCE, SimulatedProvider
from seawall.simulation.recorder import MemoryView, Recorder
from seawall.simulation.skew import skew_fault
from seawall.simulation.transport import address_of
from seawall.simulation.workers import FIRST_PID, MakeRouter, SimWorker
from seawall.systems import SeawallSystem

if TYPE_CHECKING:
    from seawall.simulation.pods import Pods

__all__ = ["Arena", "calm_collector", "run_scenario_virtually", "simulate"]

HARNESS_SOURCE, LOAD_SOURCE = "harness-1", "load-3"
IN_MEMORY = Path("in memory")
_TICK_S = 0.25
_PIDS_FROM = 4
_REFUSED = Ending("failed", "the connection was refused")

Reason = Literal["finished", "interrupted", "stopped", "error"]


def simulate(scenario: Scenario, *, seed: int | None = None, make_router: MakeRouter = HybridRouter) -> Journal:
    """
    Run `scenario` and return its journal, all in memory; `judge_scenario` tells the verdict.

    `make_router` makes the router of each process, another than ours where it is given; what that one reports is told
    by its attribute `observes` (default: as ours). The same scenario and seed (default: its own) give the same journal.
    Raises ConfigurationError for settings that cannot be used, and Stalled when the system under test waits for ever.
    """
    scenario = scenario if seed is None else scenario.model_copy(update={"seed": seed})
    header = header_in_memory(scenario)
    header.observes = list(getattr(make_router, "observes", header.observes))
    return run_scenario_virtually(scenario, header, make_router=make_router).journal(IN_MEMORY)


def run_scenario_virtually(
    scenario: Scenario,
    header: Header,
    *,
    told: Callable[[float, JournalEvent], None] | None = None,
    make_router: MakeRouter = HybridRouter,
    is_halted: Callable[[], bool] = lambda: False,
) -> Recorder:
    """
    Run `scenario` and return what was recorded; `told` hears of the harness's own events as they happen.

    Once `is_halted` says so the run is broken off, with its faults healed: it is asked at every arrival.
    """

    async def main() -> Recorder:
        arena = Arena(scenario, cast("VirtualLoop", asyncio.get_running_loop()), told, make_router, is_halted)
        await arena.run(header)
        return arena.recorder

    with calm_collector():
        return run_virtual(main())


class Arena:
    """The parts of one run. `recorder` holds its journal."""

    def __init__(
        self,
        scenario: Scenario,
        loop: VirtualLoop,
        told: Callable[[float, JournalEvent], None] | None = None,
        make_router: MakeRouter = HybridRouter,
        is_halted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scenario = scenario
        self._is_halted = is_halted
        self._loop = loop
        self._told = told
        self._make_router = make_router
        self._plan = scenario.load.plan(scenario.seed)
        self.recorder = Recorder(loop)
        self._harness = self.recorder.source(HARNESS_SOURCE)
        self._load = self.recorder.source(LOAD_SOURCE)
        self.network = Network(loop, scenario.seed)
        self._t0_s = loop.time()
        self._abort = asyncio.Event()
        self._reason: Reason = "finished"
        self._detail: str | None = None
        self._pids = itertools.count(_PIDS_FROM)
        self.providers = {name: self._provider(name) for name in VENDORS}
        system = SeawallSystem()
        upstreams = {name: address_of(name) for name in VENDORS} | {"redis": "redis://127.0.0.1:6379/0"}
        self.settings = _settings_of(tuple(system.render(scenario, upstreams).environment.items()))
        if self.settings.breaker_store != "memory":
            raise ConfigurationError("BREAKER_STORE: the simulation knows breakers in memory only; leave it out")
        self._books = MemoryBudgetStore()
        self._processes: dict[str, SimProcess] = {}
        self._start_parts()
        self._worker_pids = itertools.count(FIRST_PID)
        names = ["gateway", *(f"gateway-{number}" for number in range(2, scenario.system.workers + 1))]
        self.workers = [] if scenario.cluster is not None else [self._worker(name) for name in names]
        self._pods = None if scenario.cluster is None else self._deployment(scenario.cluster)
        self._processes["gateway"] = GatewayProcess(self.workers[0], shared=len(names) > 1)
        self._under_way: dict[SimClient, SimWorker | None] = {}
        self._all_sent = False
        self._load_over = asyncio.Event()

    async def run(self, header: Header) -> None:
        """Carry the scenario out, to the last event of its journal."""
        self._tell(header)
        for worker in self.workers if self._pods is None else ():
            worker.start()
        if self._pods is not None:
            self._pods.start()
        faults = [self.bound(spec, *self._scenario.occurrences(spec.id)) for spec in self._scenario.faults]
        for fault in faults:
            for start_s in (fault.start_s, *fault.repeats_s):
                self._tell(fault.event("planned", start_s=start_s))
        self._t0_s = self._loop.time()
        load_start_ns = self._loop.time_ns()
        view = MemoryView(self.recorder, counts=self._scenario.stop_when is not None)
        lives = [asyncio.create_task(self._life(fault, view)) for fault in faults]
        watcher = asyncio.create_task(self._stop_when(view))
        self._send_next(arrivals(self._plan))
        await self._load_over.wait()
        load_end_ns = self._loop.time_ns()
        results = await asyncio.gather(*lives, return_exceptions=True)
        watcher.cancel()
        if self._pods is not None:
            self._pods.stop()
        view.poll()
        by_id = {fault.fault.id: fault for fault in faults}
        for watch in view.watches:
            tell_met(by_id[watch.fault_id], watch, self._tell)
        for result in results:
            if isinstance(result, BaseException):
                self._break_off("error", f"{type(result).__name__}: {result}")
        for worker in self.workers:
            await worker.close()
        self._tell(
            End(
                reason=self._reason,
                detail=self._detail,
                load_start_ns=load_start_ns,
                load_end_ns=load_end_ns,
                undone=all(result is True for result in results) if faults else None,
            )
        )

    def stop(self, detail: str) -> None:
        """Break the run off."""
        self._break_off("stopped", detail)

    # The parts.

    def _provider(self, name: str) -> SimulatedProvider:
        spec = self._scenario.provider(cast("Provider", name))
        healthy = Healthy(
            first_token_p50_s=spec.first_token.p50,
            first_token_p99_s=spec.first_token.p99,
            tokens_per_second=spec.tokens_per_second,
            tokens=spec.tokens,
        )
        write = self.recorder.source(PROVIDER_SOURCE)
        provider = SimulatedProvider(name, healthy, self._scenario.seed, self.network, write)
        self.network.add(name, provider.accept)
        return provider

    def _start_parts(self) -> None:
        def pid() -> int:
            return next(self._pids)

        self._processes["toxiproxy"] = ToxiproxyProcess(self.network, pid, self._tell)
        if self._scenario.needs_redis:
            # Only now: it needs the client of Redis, which most runs do without.
            from seawall.simulation.processes import RedisProcess  # noqa: PLC0415
            from seawall.simulation.redis import SimRedis  # noqa: PLC0415

            self.redis = SimRedis(self.network, self.recorder.wall_s)
            self.network.add("redis", self.redis.accept)
            self._processes["redis"] = RedisProcess(self.redis, self.network, pid, self._tell)

    def _deployment(self, spec: ClusterSpec) -> Pods:
        from seawall.simulation.pods import Pods  # noqa: PLC0415 - as above

        wall, seed = self.recorder.wall_s, self._scenario.seed
        return Pods(spec, seed, self._loop, self.workers, self._worker, self._tell, wall)

    def _worker(self, name: str) -> SimWorker:
        return SimWorker(
            name,
            self.settings,
            self.network,
            self.providers,
            self.recorder,
            make_store=self._store,
            pids=lambda: next(self._worker_pids),
            tell=self._tell,
            make_router=self._make_router,
        )

    def _store(self, worker: SimWorker) -> BudgetStore | None:
        """Return the books of a worker: its own for None, or its connections to those of all."""
        if self.settings.budget_store == "memory":
            return None
        if self.settings.budget_store != "redis":
            return self._books
        from seawall.simulation.redis import SimRedisStore  # noqa: PLC0415 - as above

        life = worker.life
        store = SimRedisStore(
            self.redis,
            timeout_s=self.settings.budget_store_timeout,
            wall=worker.wall_s,
            is_dead=lambda: life.is_dead,
        )
        life.at_death.append(store.sever)
        return store

    def bound(self, spec: FaultSpec, first_s: float, *repeats_s: float) -> PlannedFault:
        """Return a fault bound to the parts of this run, with its times."""
        if spec.process is not None:
            fault = process_fault(spec, first_s, self._processes[spec.target])
        elif self._pods is not None and spec.target in ("backend", "metrics_server"):
            fault = self._pods.fault(spec, first_s)
        elif spec.clock_skew is not None:
            fault = skew_fault(spec, first_s, self.workers[0], self.recorder.wall_s)
        elif spec.remaining is not None:
            from seawall.simulation.budgets import budget_fault  # noqa: PLC0415 - as above

            fault = budget_fault(
                spec, first_s, self.redis.books, self.settings.daily_spend_limit_usd, self.recorder.wall_s
            )
        elif spec.toxic is not None:
            fault = toxic_fault(spec, first_s, self.network.proxies[spec.target], self.providers.get(spec.target))
        else:
            fault = respond_fault(spec, first_s, self.providers[spec.target])
        return msgspec.structs.replace(fault, repeats_s=repeats_s)

    async def _life(self, fault: PlannedFault, view: MemoryView) -> bool:
        return await inject_and_heal(
            fault,
            t0_s=self._t0_s,
            clock=self._loop.time,
            stop=self._abort,
            undo=cast("UndoFile", InMemoryUndo()),
            live=view,
            emit=self._tell,
        )

    # The load.

    def _send_next(self, ahead: Iterator[Arrival]) -> None:
        """Set the next arrival's time, or note that there is none any more."""
        if self._is_halted():
            self._break_off("interrupted", "interrupted by a signal")
        arrival = next(ahead, None) if not self._abort.is_set() else None
        context = self.network.context
        if arrival is not None:
            self._loop.call_at(self._t0_s + arrival.at_s, self._send, arrival, ahead, context=context)
            return
        planned_end_s = self._t0_s + (0.0 if self._abort.is_set() else duration_of(self._plan))
        self._loop.call_at(max(planned_end_s, self._loop.time()), self._sent, context=context)

    def _send(self, arrival: Arrival, ahead: Iterator[Arrival]) -> None:
        self._send_next(ahead)
        intended_ns = round((self._t0_s + arrival.at_s) * 1e9)
        client = SimClient(
            arrival, self._plan.model, intended_ns, self._loop, self.recorder.wall_s, self._request_ended
        )
        ready = [worker for worker in self.workers if worker.accepts]
        worker = ready[0] if len(ready) == 1 else None
        if len(ready) > 1:  # as the kernel chooses among those who listen on one port: by chance
            worker = ready[int(unit(self._scenario.seed, "worker", arrival.request_id) * len(ready))]
        self._under_way[client] = worker
        if worker is None:
            client.finish(_REFUSED)
        else:
            if self._pods is not None:
                self._pods.charge(worker)
            client.send(worker.serve, self._plan.deadline_s, self.network.context)

    def _request_ended(self, client: SimClient, record: RequestRecord) -> None:
        self._load(record)
        worker = self._under_way.pop(client)
        if worker is not None:
            worker.served(client)
        if self._all_sent and not self._under_way:
            self._load_over.set()

    def _sent(self) -> None:
        self._all_sent = True
        if not self._under_way:
            self._load_over.set()

    async def _stop_when(self, view: MemoryView) -> None:
        """Break the run off once `stop_when` has held for its time."""
        rule = self._scenario.stop_when
        since_s: float | None = None
        while rule is not None:
            await asyncio.sleep(_TICK_S)
            view.poll()
            rate = view.success_rate(self._loop.time_ns(), max(1.0, rule.for_))
            if rate is None or not rule.success_rate.holds(rate):
                since_s = None
                continue
            since_s = self._loop.time() if since_s is None else since_s
            if self._loop.time() - since_s >= rule.for_:
                limit = rule.success_rate.text
                self.stop(f"stop_when: success rate {rate:.1%} was {limit} for {rule.for_:g} s")
                return

    def _break_off(self, reason: Reason, detail: str) -> None:
        if self._abort.is_set():
            return
        self._reason, self._detail = reason, detail
        self._abort.set()
        for client in [*self._under_way]:
            client.leave(Ending("stopped", "stopped by the harness"))

    def _tell(self, event: JournalEvent) -> None:
        self._harness(event)
        if self._told is not None:
            self._told(self._loop.time() - self._t0_s, event)


@contextmanager
def calm_collector() -> Generator[None]:
    """Let the cyclic collector look seldom: it would walk all that was recorded again and again, and find no cycle."""
    found = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # All is old now. Else the first look would be at everything at once, a twentieth of the time of a run.
            gc.freeze()
            gc.unfreeze()
        gc.set_threshold(*found)


@lru_cache(maxsize=256)
def _settings_of(environment: tuple[tuple[str, str], ...]) -> Settings:
    """Return the settings of a gateway with this environment. Kept, for a hunt makes the same ones again and again."""
    return Settings.from_environment(dict(environment), dotenv=None)

"""
The wire arena: real processes and sockets.

    Locust ──▶ system under test ──▶ Toxiproxy (one proxy a provider) ──▶ emulators (one port a provider)
               (workers on one port)       └─ one more, where needed ──▶ Redis

Everything listens on loopback. Every process runs under a supervisor and ends with the harness, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from faults import process
from faults.respond import RespondFault
from faults.undo import UndoFile
from loadtests import command as load_command
from loadtests.config import LoadConfig
from seawall import toolchain
from seawall.arenas.behaviours import behaviour_of
from seawall.arenas.evidence import ReadBackProver
from seawall.arenas.injector import PlannedFault
from seawall.arenas.lifesigns import planned_process_fault
from seawall.arenas.part import Grip, Part
from seawall.arenas.parts import GATEWAY_NAME, TOKEN_VARIABLE, ArenaFailed, Launcher
from seawall.arenas.proxies import OwnProxies
from seawall.arenas.toxics import ping_witness, planned_toxic_fault
from seawall.arenas.usage import USAGE_FILE, Usage, usage_of
from seawall.processes import Child, Processes
from seawall.scenario.model import FaultSpec, Scenario
from seawall.systems import SystemUnderTest, Target
from seawall.toolchain import Progress, Resolved

__all__ = ["ArenaFailed", "WireArena"]

_LOAD_READY_S = 30.0
LOAD_NAME = "locust"


class WireArena:
    """
    The parts of one run, started by `start`; `close` takes back what they hold, and `Processes` ends them.

    `folder` is the run's folder; `undo` holds what must be taken back. Raises ArenaFailed, ToolchainError, FaultError
    or ProcessFailed with the part and the way out.
    """

    name = "wire"

    def __init__(
        self,
        scenario: Scenario,
        system: SystemUnderTest,
        folder: Path,
        run: str,
        *,
        undo: UndoFile,
        processes: Processes,
        progress: Progress,
    ) -> None:
        self._scenario = scenario
        self._system = system
        self._folder = folder
        self._run = run
        self._progress = progress
        self._processes = processes
        self._launcher = Launcher(folder, processes)
        self._proxies = OwnProxies(run, undo, progress)
        self._token = secrets.token_urlsafe(24)
        # Runs side by side share this process and its environment.
        self._token_variable = f"{TOKEN_VARIABLE}_{secrets.token_hex(4)}"
        self._parts: dict[str, Part] = {}
        self._admin_url = ""
        self._redis_url = ""
        self.toxiproxy: Resolved | None = None
        self.redis: Resolved | None = None
        self._is_up = False
        self.base_url = ""
        self.target = Target()
        self._used: tuple[float, int] | None = None
        self.gateway_start_s = 0.0
        self.break_off: Callable[[str], None] = lambda _why: None
        """Ends the run at once, faults first, with a sentence that says why; whoever carries it out sets this."""

    async def resolve(self) -> Resolved:
        """Find the parts that are not Python, making them the first time; return Toxiproxy."""
        if self._scenario.needs_redis:
            self.redis = await asyncio.to_thread(toolchain.resolve, "redis", progress=self._progress)
        self.toxiproxy = await asyncio.to_thread(toolchain.resolve, "toxiproxy", progress=self._progress)
        return self.toxiproxy

    @property
    def observes(self) -> tuple[str, ...]:
        """Which kinds of events of the system under test reach this run's journal."""
        return self._system.observes

    def versions(self) -> dict[str, str]:
        """Return the versions of the parts that are not Python, by name."""
        found = {"toxiproxy": self.toxiproxy, "redis": self.redis}
        return {name: part.version for name, part in found.items() if part is not None}

    async def start(self) -> None:
        """Start emulators, Toxiproxy with a proxy a provider, Redis where needed, and the system under test."""
        upstreams = await self._start_upstreams()
        if self._system.is_outside:
            self.base_url = self._system.base_url(upstreams)
        else:
            began_s = time.monotonic()
            workers = await self._launcher.gateway(self._scenario, self._system, upstreams)
            self.gateway_start_s = time.monotonic() - began_s
            self._keep(GATEWAY_NAME, workers[0])
            self.base_url = self._system.base_url({"port": workers[0].port, **workers[0].child.ready})
        self._is_up = True
        ended = [child.name for child in self._processes.children.values() if not child.is_running]
        if ended:
            raise ArenaFailed(f"{', '.join(ended)} ended while the other parts started; see the logs in {self._folder}")

    async def _start_upstreams(self) -> dict[str, str]:
        """Start all that the system under test reaches, and return the URL of each."""
        # The undo of a provider's behaviour needs the token; it never leaves the environment of our own processes.
        os.environ[self._token_variable] = self._token
        toxiproxy = self.toxiproxy or await self.resolve()
        emulators, _, redis = await asyncio.gather(
            self._launcher.emulators(self._scenario, self._token), self._start_toxiproxy(toxiproxy), self._start_redis()
        )
        self._admin_url = f"http://127.0.0.1:{emulators['admin']}"
        for provider, port in emulators["ports"].items():
            await self._proxies.create(provider, port, listen_port=self._system.upstream_ports.get(provider, 0))
        upstreams = {name: "http://{}:{}".format(*address) for name, address in self._proxies.addresses.items()}
        if redis is not None:
            self._redis_url = f"redis://127.0.0.1:{redis.port}/0"
            proxy = await self._proxies.create("redis", redis.port)
            upstreams["redis"] = "redis://{}:{}/0".format(*proxy.address)
        self.target = self._system.target(self._scenario, upstreams)
        return upstreams

    async def start_load(self) -> tuple[Child, int]:
        """Start the load generator and return it with the start of the load (CLOCK_MONOTONIC nanoseconds)."""
        plan, target = self._scenario.load.plan(self._scenario.seed), self.target
        config = LoadConfig(
            plan=plan if target.model is None else msgspec.structs.replace(plan, model=target.model),
            base_url=self.base_url,
            path=target.path,
            headers=target.headers,
            events=str(self._folder),
            label=self._scenario.title,
            status_file=str(self._folder / "load-status.json"),
        )
        config_path = self._folder / "load.json"
        load_command.write_config(config_path, config)

        async def started(child: Child) -> bool:
            return load_command.read_status(config) is not None

        child = await self._launcher.start(
            LOAD_NAME,
            load_command.command(config_path),
            load_command.environment(config_path),
            ready=started,
            deadline_s=_LOAD_READY_S,
        )
        self._used = self.usage()
        status = load_command.read_status(config)
        if status is None:
            raise ArenaFailed("the load generator was ready but wrote no status")
        return child, status.t0_ns

    def planned_faults(self) -> list[PlannedFault]:
        """Return the scenario's faults, bound to the parts that were started."""
        planned: list[PlannedFault] = []
        for spec in self._scenario.faults:
            first_s, *repeats_s = self._scenario.occurrences(spec.id)
            fault = self.planned(spec, first_s)
            planned.append(msgspec.structs.replace(fault, repeats_s=tuple(repeats_s)))
        return planned

    def planned(self, spec: FaultSpec, start_s: float) -> PlannedFault:
        """
        Return a fault bound to the part that it harms, to start `start_s` seconds after the start of the load.

        Raises ArenaFailed when this run has no such part of its own.
        """
        if spec.target in ("redis", "budget") and not self._redis_url:
            raise ArenaFailed(
                f"this run has no Redis, so there is none to harm; give it BUDGET_STORE: redis ({spec.id})"
            )
        if spec.process is not None:
            return planned_process_fault(spec, start_s, self._part(spec), self._key(spec.target))
        if spec.remaining is not None:
            # Only now: it needs the client of Redis, which most runs do without.
            from seawall.arenas.budgets import planned_budget_fault  # noqa: PLC0415

            limit_usd = float(self._system.settings(self._scenario)["DAILY_SPEND_LIMIT_USD"])
            return planned_budget_fault(spec, start_s, run=self._run, url=self._redis_url, limit_usd=limit_usd)
        if spec.toxic is not None:
            return planned_toxic_fault(
                spec,
                start_s,
                self._proxies.by_target[spec.target],
                run=self._run,
                url=self._proxies.url,
                witness=ping_witness(self._admin_url, self._token, spec.target),
            )
        fault = RespondFault(
            id=spec.id,
            target=spec.target,
            admin_url=self._admin_url,
            token_env=self._token_variable,
            behaviour=behaviour_of(spec),
        )
        prover = ReadBackProver(fault)
        return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)

    def expects_exit(self, name: str) -> bool:
        """Whether a fault has asked for the end of the process of that name, or it may be another try at starting."""
        if not self._is_up:
            return True
        return any(part.name == name and part.expects_exit for part in self._parts.values())

    async def close(self) -> bool:
        """Start nothing any more, delete the proxies of this run, and return whether all are verified gone."""
        self._write_usage()
        for part in self._parts.values():
            await part.close()
        clean = await self._proxies.remove_all()
        for target in self._parts:
            process.detach(self._key(target))
        return clean

    def usage(self) -> tuple[float, int] | None:
        """Return the processor time (seconds) and peak memory (bytes) of the gateway's processes, where it is told."""
        part = self._parts.get(GATEWAY_NAME)
        return usage_of(part.child.pid) if part is not None and self._scenario.system.workers == 1 else None

    def _write_usage(self) -> None:
        """Keep what the gateway took while the load lasted, where its process is the one that it was."""
        before, after = self._used, self.usage()
        if before is None or after is None or after[0] < before[0]:
            return
        usage = Usage(cpu_s=after[0] - before[0], peak_bytes=after[1], start_s=self.gateway_start_s)
        with contextlib.suppress(OSError):
            (self._folder / USAGE_FILE).write_bytes(msgspec.json.encode(usage))

    def _part(self, spec: FaultSpec) -> Part:
        if spec.target not in self._parts:
            raise ArenaFailed(
                f"fault {spec.id} would {spec.process} the {spec.target} that SEAWALL_{spec.target.upper()}_URL names, "
                f"which is not ours; unset it, and Seawall starts one of its own"
            )
        return self._parts[spec.target]

    def _keep(self, target: str, part: Part) -> None:
        """Let faults at `target` reach the part."""
        self._parts[target] = part
        process.attach(self._key(target), Grip(part))

    def _key(self, target: str) -> str:
        return f"{self._run}/{target}"

    async def _start_toxiproxy(self, resolved: Resolved) -> None:
        if resolved.path is None:
            self._proxies.attach(resolved.url or "", is_external=True)
            return
        part = await self._launcher.toxiproxy(resolved.path, self._proxies)
        self._proxies.attach(f"http://127.0.0.1:{part.port}", is_external=False)
        self._keep("toxiproxy", part)

    async def _start_redis(self) -> Part | None:
        if self.redis is None:
            return None
        if self.redis.path is None:
            raise ArenaFailed(
                "the run would spend its budget in the Redis that SEAWALL_REDIS_URL names; unset it, and Seawall "
                "starts one of its own"
            )
        part = await self._launcher.redis(self.redis.path)
        self._keep("redis", part)
        return part

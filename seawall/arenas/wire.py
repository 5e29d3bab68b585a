"""
The wire arena: real processes and sockets.

    Locust ──▶ system under test ──▶ Toxiproxy (one proxy a provider) ──▶ emulators (one port a provider)

Everything listens on loopback. Every process runs under a supervisor and ends with the harness, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from faults import registry
from faults.base import FaultError, Undo
from faults.probe import probe_plan
from faults.proxy import OwnProxy
from faults.respond import RespondFault
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo
from faults.undo import UndoFile
from loadtests import command as load_command
from loadtests.config import LoadConfig
from router.errors import SeawallError
from seawall import toolchain
from seawall.arenas.evidence import ProbeProver, ReadBackProver
from seawall.arenas.injector import PlannedFault
from seawall.emulators.config import Config
from seawall.emulators.steps import Behaviour, Healthy
from seawall.journal.writer import EVENTS_VARIABLE
from seawall.processes import Child, Processes, accepting, free_port
from seawall.scenario.model import PROVIDERS, FaultSpec, Scenario
from seawall.systems import SystemUnderTest
from seawall.toolchain import Progress, Resolved

__all__ = ["ArenaFailed", "WireArena"]

_TOKEN_VARIABLE = "SEAWALL_TOKEN"  # noqa: S105 - the variable's name
_START_TRIES = 3
_LOAD_READY_S = 30.0
LOAD_NAME = "locust"
GATEWAY_NAME = "gateway"


class ArenaFailed(SeawallError):
    """A part of the arena could not be started or ended in mid-run."""

    code = "arena_failed"


class WireArena:
    """
    The parts of one run, started by `start` and ended by `stop`.

    `folder` is the run's folder; `undo` holds what must be taken back. Raises ArenaFailed, ToolchainError or
    ProcessFailed with the part and the way out.
    """

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
        self._undo = undo
        self._processes = processes
        self._progress = progress
        self._token = secrets.token_urlsafe(24)
        self._records: list[tuple[int, Undo]] = []
        self._proxies: dict[str, ProxyInfo] = {}
        self._admin_url = ""
        self._toxiproxy_url = ""
        self.toxiproxy: Resolved | None = None
        self.base_url = ""

    async def resolve(self) -> Resolved:
        """Find the parts that are not Python, making them the first time."""
        self.toxiproxy = await asyncio.to_thread(toolchain.resolve, "toxiproxy", progress=self._progress)
        return self.toxiproxy

    async def start(self) -> None:
        """Start emulators, Toxiproxy with a proxy a provider, and the system under test."""
        # The undo of a provider's behaviour needs the token; it never leaves the environment of our own processes.
        os.environ[_TOKEN_VARIABLE] = self._token
        toxiproxy = self.toxiproxy or await self.resolve()
        emulators, _ = await asyncio.gather(self._start_emulators(), self._start_toxiproxy(toxiproxy))
        self._admin_url = f"http://127.0.0.1:{emulators['admin']}"
        for provider, port in emulators["ports"].items():
            self._proxies[provider] = await self._create_proxy(provider, port)
        upstreams = {name: "http://{}:{}".format(*proxy.address) for name, proxy in self._proxies.items()}
        launch = self._system.render(self._scenario, upstreams)
        gateway = await self._start(GATEWAY_NAME, launch.argv, launch.environment, deadline_s=30.0)
        self.base_url = self._system.base_url(gateway.ready)

    async def start_load(self) -> tuple[Child, int]:
        """Start the load generator and return it with the start of the load (CLOCK_MONOTONIC nanoseconds)."""
        config = LoadConfig(
            plan=self._scenario.load.plan(self._scenario.seed),
            base_url=self.base_url,
            events=str(self._folder),
            label=self._scenario.title,
            status_file=str(self._folder / "load-status.json"),
        )
        config_path = self._folder / "load.json"
        load_command.write_config(config_path, config)

        async def started(child: Child) -> bool:
            return load_command.read_status(config) is not None

        child = await self._start(
            LOAD_NAME,
            load_command.command(config_path),
            load_command.environment(config_path),
            ready=started,
            deadline_s=_LOAD_READY_S,
        )
        status = load_command.read_status(config)
        if status is None:
            raise ArenaFailed("the load generator was ready but wrote no status")
        return child, status.t0_ns

    def planned_faults(self) -> list[PlannedFault]:
        """Return the scenario's faults, bound to the parts that were started."""
        starts = self._scenario.fault_starts()
        return [self._planned(spec, starts[spec.id]) for spec in self._scenario.faults]

    async def remove_proxies(self) -> bool:
        """Delete the proxies that this run created and return whether all are verified gone."""
        clean = True
        for number, record in reversed(self._records):
            try:
                await asyncio.to_thread(registry.undo, record)
                if await asyncio.to_thread(registry.verify, record):
                    await asyncio.to_thread(self._undo.mark_done, number)
                    continue
            except FaultError as error:
                self._progress(f"undo: {error}")
            clean = False
        self._records.clear()
        return clean

    def _planned(self, spec: FaultSpec, start_s: float) -> PlannedFault:
        proxy = self._proxies[spec.target]
        if spec.toxic is not None:
            toxic = spec.toxic
            fault = ToxicFault(
                id=spec.id,
                target=spec.target,
                run=self._run,
                proxy=proxy.name,
                url=self._toxiproxy_url,
                type=toxic.type,
                stream=toxic.stream,
                toxicity=toxic.toxicity,
                attributes=dict(toxic.attributes),
                allow_remote=self._is_external,
            )
            plan = probe_plan(toxic.type, toxic.stream, toxic.attributes, toxic.toxicity)
            prover: Any = ProbeProver(proxy.address, plan)
        else:
            assert spec.respond is not None  # noqa: S101 - the model demands one of the two
            respond = spec.respond
            fault = RespondFault(
                id=spec.id,
                target=spec.target,
                admin_url=self._admin_url,
                token_env=_TOKEN_VARIABLE,
                behaviour=Behaviour(
                    fault_id=spec.id,
                    injection_rate=spec.injection_rate,
                    status=respond.status,
                    retry_after_s=respond.retry_after,
                    first_token_s=respond.first_token,
                    hang=respond.hang,
                    cut_after_chunks=respond.cut_after_chunks,
                ),
            )
            prover = ReadBackProver(fault)
        return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)

    @property
    def _is_external(self) -> bool:
        return self.toxiproxy is not None and self.toxiproxy.url is not None

    async def _start_emulators(self) -> Mapping[str, Any]:
        providers = {name: _healthy(self._scenario, name) for name in PROVIDERS}
        path = self._folder / "emulators.json"
        path.write_bytes(msgspec.json.encode(Config(providers=providers, seed=self._scenario.seed)))
        argv = (sys.executable, "-m", "seawall.emulators", "--config", str(path))
        child = await self._start("emulators", argv, {_TOKEN_VARIABLE: self._token})
        return child.ready

    async def _start_toxiproxy(self, resolved: Resolved) -> None:
        if resolved.url is not None:
            self._toxiproxy_url = resolved.url
            return
        for attempt in range(1, _START_TRIES + 1):
            port = free_port()
            argv = (str(resolved.path), "-host", "127.0.0.1", "-port", str(port))
            try:
                await self._start("toxiproxy", argv, {"LOG_LEVEL": "warn"}, ready=accepting(port))
            except SeawallError:
                # Somebody else may have taken the port since it was found free.
                if attempt == _START_TRIES:
                    raise
                continue
            self._toxiproxy_url = f"http://127.0.0.1:{port}"
            return

    async def _create_proxy(self, provider: str, port: int) -> ProxyInfo:
        proxy = OwnProxy(
            name=f"seawall-{self._run}-{provider}",
            upstream=f"127.0.0.1:{port}",
            url=self._toxiproxy_url,
            allow_remote=self._is_external,
        )
        record = proxy.prepare()
        number = await asyncio.to_thread(self._undo.append, record)
        self._records.append((number, record))
        return await asyncio.to_thread(proxy.create)

    async def _start(
        self,
        name: str,
        argv: Any,
        environment: Mapping[str, str],
        *,
        ready: Any = "json-line",
        deadline_s: float = 15.0,
    ) -> Child:
        inherited = {key: value for key, value in os.environ.items() if key != _TOKEN_VARIABLE}
        return await self._processes.start(
            name,
            argv,
            env={**inherited, EVENTS_VARIABLE: str(self._folder), **environment},
            ready=ready,
            deadline_s=deadline_s,
            log=self._folder / f"{name}.log",
        )


def _healthy(scenario: Scenario, name: Any) -> Healthy:
    spec = scenario.provider(name)
    return Healthy(
        first_token_p50_s=spec.first_token.p50,
        first_token_p99_s=spec.first_token.p99,
        tokens_per_second=spec.tokens_per_second,
        tokens=spec.tokens,
    )

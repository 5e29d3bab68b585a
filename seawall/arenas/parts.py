"""
How each process of the wire arena is started: emulators, Toxiproxy, Redis, gateway workers.

All listen on loopback and write their events into the run's folder. Those that a fault may strike are a `Part` and
come back on the port that they had.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from router.errors import SeawallError
from seawall.arenas.lifesigns import gateway_answers, path_answers, redis_answers, toxiproxy_answers
from seawall.arenas.part import Answers, Part
from seawall.arenas.proxies import OwnProxies
from seawall.emulators.config import Config
from seawall.emulators.steps import Healthy
from seawall.journal.writer import EVENTS_VARIABLE
from seawall.ports import HeldPort
from seawall.processes import Child, Processes, ProcessFailed, Ready
from seawall.scenario.model import PROVIDERS, Scenario
from seawall.systems import Launch, SystemUnderTest

__all__ = ["GATEWAY_NAME", "TOKEN_VARIABLE", "ArenaFailed", "Launcher"]

TOKEN_VARIABLE = "SEAWALL_TOKEN"  # noqa: S105 - the variable's name
"""Holds the emulators' admin token in their environment; with a suffix of the run's own in the harness's."""
GATEWAY_NAME = "gateway"
_START_TRIES = 3
_IN_USE = re.compile("in use|EADDRINUSE", re.IGNORECASE)
_START_LIMIT_S = 15.0


class ArenaFailed(SeawallError):
    """A part of the arena could not be started or ended in mid-run."""

    code = "arena_failed"


class Launcher:
    """
    Starts the processes of one run, each with a log and its events in `folder`.

    What it starts raises ArenaFailed or ProcessFailed with the part and the way out.
    """

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder = folder
        self._processes = processes

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        ready: Literal["json-line"] | Ready = "json-line",
        deadline_s: float = _START_LIMIT_S,
        cwd: Path | None = None,
    ) -> Child:
        """Start one process; `environment` is added to the harness's own, from which the token is left out."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(TOKEN_VARIABLE)}
        return await self._processes.start(
            name,
            argv,
            env={**inherited, EVENTS_VARIABLE: str(self._folder), **environment},
            ready=ready,
            deadline_s=deadline_s,
            log=self._folder / f"{name}.log",
            cwd=cwd,
        )

    async def emulators(self, scenario: Scenario, token: str) -> Mapping[str, Any]:
        """Start the stand-ins for the providers; return their `ports` by provider and their `admin` port."""
        providers = {name: _healthy(scenario, name) for name in PROVIDERS}
        path = self._folder / "emulators.json"
        path.write_bytes(msgspec.json.encode(Config(providers=providers, seed=scenario.seed, parts=scenario.parts)))
        argv = (sys.executable, "-m", "seawall.emulators", "--config", str(path))
        child = await self.start("emulators", argv, {TOKEN_VARIABLE: token})
        return child.ready

    async def toxiproxy(self, program: Path, proxies: OwnProxies) -> Part:
        """Start Toxiproxy. When it is started again, `proxies` are there again."""
        marker = f"seawall-{secrets.token_hex(8)}"
        config = self._folder / "toxiproxy.json"
        nowhere = {"name": marker, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": False}
        config.write_bytes(msgspec.json.encode([nowhere]))
        answers = partial(toxiproxy_answers, marker=marker)

        async def start(port: int) -> Child:
            argv = (str(program), "-host", "127.0.0.1", "-port", str(port), "-config", str(config))
            return await self._server("toxiproxy", argv, {"LOG_LEVEL": "warn"}, answers, port)

        part = Part(
            "toxiproxy",
            start,
            answers,
            before=proxies.remember,
            after=proxies.bring_back,
            ports=lambda: proxies.ports,
        )
        await self._on_a_free_port(part)
        return part

    async def redis(self, program: Path) -> Part:
        """Start a Redis that loses nothing that it has confirmed, with its data in the run's folder."""
        data = self._folder / "redis"
        data.mkdir(exist_ok=True)

        async def start(port: int) -> Child:
            # Without a file's name no configuration file of this machine has a say.
            options = {
                "bind": "127.0.0.1",
                "port": str(port),
                "dir": str(data),
                "appendonly": "yes",
                "appendfsync": "always",
                "save": "",
                "daemonize": "no",
                "protected-mode": "yes",
            }
            argv = [str(program), *(word for name, value in options.items() for word in (f"--{name}", value))]
            return await self._server("redis", argv, {}, redis_answers, port)

        part = Part("redis", start, redis_answers)
        await self._on_a_free_port(part)
        return part

    async def gateway(self, scenario: Scenario, system: SystemUnderTest, upstreams: Mapping[str, str]) -> list[Part]:
        """Start the workers of the system under test, all on one port; the first of them comes first."""
        count = scenario.system.workers
        names = [GATEWAY_NAME, *(f"{GATEWAY_NAME}-{number}" for number in range(2, count + 1))]

        def part(name: str) -> Part:
            async def start(port: int) -> Child:
                launch = system.render(scenario, upstreams, port=port, shared=count > 1)
                environment = dict(launch.environment)
                if "BUDGET_SQLITE_PATH" in environment:  # one run's spend is not the next one's
                    environment["BUDGET_SQLITE_PATH"] = str(self._folder / "budget.db")
                for setting in {"TRANSCRIPTS", "TRANSCRIPTS_KEY_STORE"} & environment.keys():
                    environment[setting] = str(self._folder / environment[setting])
                return await self._gateway(name, launch, environment, port)

            answers = partial(gateway_answers, shared=count > 1)
            if probe.health is not None:
                answers = partial(path_answers, path=probe.health)
            return Part(name, start, answers, shared=count > 1)

        probe = system.render(scenario, upstreams, shared=count > 1)
        first, *others = [part(name) for name in names]
        if probe.health is None:
            await first.start()
        else:
            await self._on_a_free_port(first, is_foreign=True)
        await asyncio.gather(*(other.start(first.port) for other in others))
        return [first, *others]

    async def _gateway(self, name: str, launch: Launch, environment: Mapping[str, str], port: int) -> Child:
        """Start one process of the system under test, in a folder of its own where it has files."""
        folder: Path | None = None
        if launch.files:
            folder = self._folder / f"{name}-files"
            folder.mkdir(exist_ok=True)
            for file, text in launch.files.items():
                (folder / file).write_text(text, encoding="utf-8")
        ready: Literal["json-line"] | Ready = "json-line"
        if (path := launch.health) is not None:

            async def serves(child: Child) -> bool:
                return await path_answers(child.pid, port, path=path) is not None

            ready = serves
        return await self.start(
            name, launch.argv, environment, ready=ready, deadline_s=launch.start_limit_s, cwd=folder
        )

    async def _server(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], answers: Answers, port: int
    ) -> Child:
        """Start a server that says nothing of itself, and wait until it is that very one that answers."""
        log = self._folder / f"{name}.log"
        said = log.stat().st_size if log.exists() else 0

        async def ready(child: Child) -> bool:
            # Toxiproxy says so and lives on, deaf.
            if b"address already in use" in log.read_bytes()[said:]:
                raise child.failure(f"cannot listen on port {port}, which somebody else has")
            return await answers(child.pid, port) is not None

        return await self.start(name, argv, environment, ready=ready)

    async def _on_a_free_port(self, part: Part, *, is_foreign: bool = False) -> None:
        """Start a part that cannot choose its port; somebody else may take it in between, so try again."""
        for attempt in range(1, _START_TRIES + 1):
            with HeldPort() as held:
                try:
                    await part.start(held.port)
                except ProcessFailed as error:
                    if is_foreign and not _IN_USE.search(str(error)):
                        raise  # it has another reason, and takes long to tell it
                    if attempt == _START_TRIES:
                        problem = f"{part.name} could not be started on any of {_START_TRIES} free ports"
                        raise ArenaFailed(f"{problem}; the last time: {error}") from error
                else:
                    return


def _healthy(scenario: Scenario, name: Any) -> Healthy:
    spec = scenario.provider(name)
    return Healthy(
        first_token_p50_s=spec.first_token.p50,
        first_token_p99_s=spec.first_token.p99,
        tokens_per_second=spec.tokens_per_second,
        tokens=spec.tokens,
    )

"""The real processes of a storm: a primary and a fallback, each an emulator process, and the gateway's workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.settings import setting_names
from seawall.emulators.client import EmulatorClient
from seawall.emulators.steps import Behaviour
from seawall.ports import HeldPort

TOKEN = "the-token-of-this-storm"
TOKENS = 8
"""Tokens of every healthy answer."""
PRIMARY, FALLBACK = "gemini", "claude"
_OURS = {name.upper() for name in setting_names()} | {"SEAWALL_API_KEYS", "BODY_BYTES_MAX", "DRAIN_TIMEOUT"}
_START_S = 60.0
_STOP_S = 15.0


@dataclass
class Provider:
    """One emulated provider in a process of its own, always on the same port."""

    name: str
    port: int
    folder: Path
    _process: asyncio.subprocess.Process | None = None
    _client: EmulatorClient | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        healthy = {"first_token_p50_s": 0.001, "first_token_p99_s": 0.002, "tokens_per_second": 2000, "tokens": TOKENS}
        config = self.folder / f"{self.name}.json"
        config.write_text(json.dumps({"seed": 5, "providers": {self.name: healthy}, "ports": {self.name: self.port}}))
        environment = {**os.environ, "SEAWALL_TOKEN": TOKEN, "SEAWALL_EVENTS": str(self.folder)}
        command = ("-m", "seawall.emulators", "--config", str(config))
        self._process, ready = await _started(command, environment, self.folder)
        self._client = EmulatorClient(f"http://127.0.0.1:{ready['admin']}", TOKEN)

    async def stop(self) -> None:
        """End it: its port refuses connections."""
        if self._process is not None:
            process, self._process = self._process, None
            await _ended(process)

    async def behave(self, what: dict[str, Any] | None) -> None:
        """Show this behaviour from now on; None: be healthy."""
        assert self._client is not None
        if what is None:
            await asyncio.to_thread(self._client.delete_behaviour, self.name, "storm")
        else:
            await asyncio.to_thread(self._client.put_behaviour, self.name, Behaviour(fault_id="storm", **what))


@asynccontextmanager
async def providers(folder: Path) -> AsyncIterator[tuple[Provider, Provider]]:
    """Run a primary and a fallback."""
    with HeldPort() as one, HeldPort() as other:
        made = (Provider(PRIMARY, one.port, folder), Provider(FALLBACK, other.port, folder))
        try:
            for provider in made:
                await provider.start()
            yield made
        finally:
            for provider in made:
                await provider.stop()


@asynccontextmanager
async def gateway(
    upstreams: Sequence[Provider], folder: Path, workers: int, settings: dict[str, str]
) -> AsyncIterator[int]:
    """
    Run that many workers of the gateway on one port, and yield it.

    Keys for the two providers only and nobody at OLLAMA_HOST: the fallback is the last one that can answer.
    """
    primary, fallback = upstreams
    nobody = HeldPort()
    environment = {name: value for name, value in os.environ.items() if name not in _OURS} | {
        "LOG_LEVEL": "off",
        "SEAWALL_EVENTS": str(folder),
        "GEMINI_BASE_URL": f"http://127.0.0.1:{primary.port}",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{fallback.port}",
        "OLLAMA_HOST": f"http://127.0.0.1:{nobody.port}",
        "GEMINI_API_KEY": "a-key",
        "ANTHROPIC_API_KEY": "a-key",
        **settings,
    }
    started: list[asyncio.subprocess.Process] = []
    port = 0
    try:
        for _ in range(workers):
            command = ("-m", "seawall.gateway", "--port", str(port), "--reuse-port", "--ready-json")
            process, ready = await _started(command, environment, folder)
            started.append(process)
            port = ready["port"]
        yield port
    finally:
        await asyncio.gather(*(_ended(process) for process in started))
        nobody.release()


@dataclass(frozen=True)
class Records:
    """What the processes of a storm wrote down between two moments: the emulators' calls, the gateway's own events."""

    calls: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def calls_to(self, provider: str) -> list[dict[str, Any]]:
        """Return the calls that arrived at a provider, in order of arrival."""
        return sorted((c for c in self.calls if c["provider"] == provider), key=lambda call: call["arrival_ns"])

    def of(self, kind: str, provider: str) -> Iterator[dict[str, Any]]:
        """Yield the gateway's events of one kind on a provider."""
        return (e for e in self.events if e["kind"] == kind and e.get("provider") == provider)


class Journal:
    """Reads what is new in the events of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = defaultdict(int)

    def news(self) -> Records:
        """Return what was written since the last look."""
        records: list[dict[str, Any]] = []
        for path in sorted(self._folder.glob("events-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read[path])
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read[path] += len(whole)
            records += [json.loads(line) for line in whole.splitlines()]
        calls = [record for record in records if record["kind"] == "call"]
        return Records(calls, [record for record in records if record["kind"] != "call"])


async def _started(
    command: Sequence[str], environment: dict[str, str], folder: Path
) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    with (folder / "stderr.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment, cwd=folder
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
    except BaseException:
        await _ended(process)
        raise
    if not line:
        await _ended(process)
        said = (folder / "stderr.log").read_text(encoding="utf-8")
        raise RuntimeError(f"{' '.join(command)} ended before it was ready: {said[-2000:]}")
    return process, json.loads(line)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()

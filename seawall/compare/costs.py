"""
What a system costs when nothing is wrong: how much longer an answer takes, how many it gives, processor and memory.

One client first, one request after another, for latency without queues; then eight for the rate. Both are closed loops,
on purpose: what is asked here is what the system can do, not how clients fare when it cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from faults.undo import UndoFile
from loadtests.reception import Reception
from router.errors import SeawallError
from seawall.answers import judge_text, marked
from seawall.arenas.wire import WireArena
from seawall.compare.model import Cost
from seawall.paths import undo_dir
from seawall.processes import Processes
from seawall.scenario import load_text
from seawall.scenario.model import Scenario
from seawall.systems import SystemUnderTest, Target
from seawall.toolchain import Progress

__all__ = ["measure_cost", "quick_scenario"]

_CLIENTS = 8
_WARM_UP_S = 0.5
_LIMIT_S = 20.0
_QUICK = """
version: 1
title: Providers that answer at once
arenas: [wire]
providers:
  gemini: {first_token: {p50: 1ms, p99: 1ms}, tokens_per_second: 100000}
load: {executor: constant-arrival-rate, rate: 1/s, duration: 1s}
"""


def quick_scenario() -> Scenario:
    """Return a scenario whose first provider takes no time to speak of."""
    return load_text(_QUICK, "costs").scenario


async def measure_cost(
    system: SystemUnderTest, folder: Path, *, seconds: float, repeat: int, progress: Progress
) -> Cost:
    """Start the system in health, measure it for about `seconds`, and end it. What goes wrong is in `problem`."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    name = f"costs-{folder.name}"
    undo = UndoFile.create(undo_dir(), name)
    clean = False
    try:
        async with Processes() as processes:
            arena = WireArena(quick_scenario(), system, folder, name, undo=undo, processes=processes, progress=progress)
            try:
                await arena.resolve()
                await arena.start()
                return await _measured(arena, system, seconds, repeat)
            finally:
                clean = await arena.close()
                await processes.stop_all()
    except (SeawallError, OSError, TimeoutError) as error:
        return Cost(
            system=system.label, repeat=repeat, problem=str(error).splitlines()[0] if str(error) else repr(error)
        )
    finally:
        if clean:
            undo.close_clean()
        else:
            undo.close()


async def _measured(arena: WireArena, system: SystemUnderTest, seconds: float, repeat: int) -> Cost:
    numbers = iter(range(10**6))
    asked = _Asked(arena.base_url, arena.target)
    await _loop(asked, numbers, clients=1, seconds=_WARM_UP_S, streams=True)
    plain = await _loop(asked, numbers, clients=1, seconds=seconds / 4)
    streams = await _loop(asked, numbers, clients=1, seconds=seconds / 4, streams=True)
    await _loop(asked, numbers, clients=_CLIENTS, seconds=_WARM_UP_S)
    used = arena.usage()
    began_s = time.monotonic()
    many = await _loop(asked, numbers, clients=_CLIENTS, seconds=seconds / 2)
    took_s = time.monotonic() - began_s
    after = arena.usage()
    cpu_s = None if used is None or after is None else after[0] - used[0]
    return Cost(
        system=system.label,
        repeat=repeat,
        requests_a_second=len(many) / took_s,
        latency_ms_p50=_quantile([end for _, end in plain], 0.5),
        latency_ms_p99=_quantile([end for _, end in plain], 0.99),
        first_token_ms_p50=_quantile([first for first, _ in streams], 0.5),
        first_token_ms_p99=_quantile([first for first, _ in streams], 0.99),
        cpu_ms_a_request=None if cpu_s is None or not many else cpu_s * 1000 / len(many),
        peak_mib=None if after is None else after[1] / 2**20,
        start_s=arena.gateway_start_s or None,
    )


class _Asked:
    """Where and how to ask."""

    def __init__(self, base_url: str, target: Target) -> None:
        parts = urlsplit(base_url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        headers = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
        self._head = f"POST {target.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{headers}"
        self._model = target.model or "gemini"

    def request(self, request_id: str, *, stream: bool) -> bytes:
        """Return the bytes of one request."""
        message = {"role": "user", "content": marked(request_id, "What does a seawall do?")}
        body = msgspec.json.encode({"model": self._model, "messages": [message], "max_tokens": 64, "stream": stream})
        head = f"{self._head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode("latin-1") + body


async def _loop(
    asked: _Asked, numbers: Iterator[int], *, clients: int, seconds: float, streams: bool = False
) -> list[tuple[float, float]]:
    """Ask for `seconds` and return, of each whole answer, first byte and end in milliseconds. Raises SeawallError."""
    until_s = time.monotonic() + seconds
    times: list[tuple[float, float]] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(asked.host, asked.port)
        try:
            while time.monotonic() < until_s:
                request_id = f"{next(numbers):06d}"
                began_ns = time.monotonic_ns()
                writer.write(asked.request(request_id, stream=streams))
                reception = Reception(stream=streams)
                while not reception.feed(data := await reader.read(65536), time.monotonic_ns()):
                    if not data:
                        break
                problem = judge_text(reception.text, request_id).problem
                if reception.status != 200 or problem is not None:
                    raise SeawallError(f"in health it answered with status {reception.status}: {problem or 'an error'}")
                ended_ns = time.monotonic_ns()
                first_ns = (reception.first_token_ns if streams else reception.first_body_ns) or ended_ns
                times.append(((first_ns - began_ns) / 1e6, (ended_ns - began_ns) / 1e6))
                if not reception.keep_alive:
                    writer.close()
                    reader, writer = await asyncio.open_connection(asked.host, asked.port)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async with asyncio.timeout(seconds + _LIMIT_S):
        await asyncio.gather(*(client() for _ in range(clients)))
    return times


def _quantile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]

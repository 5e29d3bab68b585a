"""
What do the two transports cost? Calls and chunks a second at 32 at once, beside pyreqwest used bare.

The upstream has a core of its own; what calls it, this process, has the other. The contestants take turns, so that a
noisy machine disturbs them alike. `bare` does what the seam has to do at the least: a call, its status, its chunks.
`python -m benchmarks.transports [ROUNDS [SECONDS]]`
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop
from pyreqwest.client import ClientBuilder

from benchmarks.machine import on_cores
from benchmarks.runs import spread
from router.httpx_transport import HttpxTransport
from router.pyreqwest_transport import PyreqwestTransport
from router.transport import Call, Timeouts, Transport

__all__ = ["main"]

_AT_ONCE = 32
_TIMEOUTS = Timeouts(connect_s=5, first_byte_s=30, idle_s=30)
_HEADERS = (
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "seawall"),
    ("authorization", "Bearer benchmark"),
)
_JSON = b'{"model":"gpt-4o","messages":[{"role":"user","content":"What does a seawall do?"}],"max_tokens":100}'
_STREAM = _JSON[:-1] + b',"stream":true}'
Ask = Callable[[bytes], Awaitable[int]]
"""Sends a body and returns how many chunks came back."""
Figure = tuple[float, float]
"""Calls or chunks a second, and microseconds of processor time for each: a busy machine disturbs those less."""


def main(rounds: int = 5, seconds: float = 1.0) -> None:
    """Print calls a second of JSON and chunks a second of streams, for each contestant, with its ratio to `bare`."""
    with on_cores({1}):
        upstream = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE, text=True)
    try:
        assert upstream.stdout is not None
        url = f"http://127.0.0.1:{int(upstream.stdout.readline())}/v1/chat/completions"
        with on_cores({0}):
            uvloop.run(_compare(url, rounds, seconds))
    finally:
        upstream.terminate()
        upstream.wait()


async def _compare(url: str, rounds: int, seconds: float) -> None:
    transports: dict[str, Transport] = {"httpx": HttpxTransport(), "pyreqwest": PyreqwestTransport()}
    contestants = {"bare": _bare(url)} | {name: _seam(transport, url) for name, transport in transports.items()}
    for title, body, unit in (("JSON", _JSON, "calls/s"), ("streams", _STREAM, "chunks/s")):
        figures: dict[str, list[Figure]] = {name: [] for name in contestants}
        for ask in contestants.values():
            await _rate(ask, body, 0.2, unit)
        for _ in range(rounds):
            for name, ask in contestants.items():
                gc.collect()
                figures[name].append(await _rate(ask, body, seconds, unit))
        bare = statistics.median(rate for rate, _ in figures["bare"])
        for name, values in figures.items():
            rates, costs = [rate for rate, _ in values], [cost for _, cost in values]
            share = statistics.median(rates) / bare
            sys.stdout.write(f"{title:8} {name:10} {unit:9} {spread(rates)}; {share:.2f} of bare\n")
            sys.stdout.write(f"{title:8} {name:10} µs of processor each: {spread(costs)}\n")
    for transport in transports.values():
        await transport.aclose()


async def _rate(ask: Ask, body: bytes, seconds: float, unit: str) -> Figure:
    count, stop_s = 0, time.perf_counter() + seconds

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < stop_s:
            chunks = await ask(body)
            count += 1 if unit == "calls/s" else chunks

    start_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    return count / (time.perf_counter() - start_s), (time.process_time() - cpu_s) / count * 1e6


def _seam(transport: Transport, url: str) -> Ask:
    async def ask(body: bytes) -> int:
        call = Call(method="POST", url=url, headers=_HEADERS, body=body, timeouts=_TIMEOUTS)
        chunks = 0
        async with transport.send(call) as answer:
            assert answer.status == 200
            async for _ in answer.body:
                chunks += 1
        return chunks

    return ask


def _bare(url: str) -> Ask:
    client = ClientBuilder().http1_only().no_proxy().gzip(False).build()

    async def ask(body: bytes) -> int:
        chunks = 0
        request = client.post(url).headers(_HEADERS).body_bytes(body).streamed_read_buffer_limit(0).build_streamed()
        async with request as response:
            assert response.status == 200
            reader = response.body_reader
            while await reader.read_chunk() is not None:
                chunks += 1
        return chunks

    return ask


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

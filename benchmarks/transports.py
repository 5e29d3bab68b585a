"""
What do the transports cost? Processor time, calls a second and the tail, at 32 and 256 at once, beside pyreqwest bare.

The upstream has a core of its own; what calls it, this process, has the other. The contestants take turns, so that a
noisy machine disturbs them alike. `bare` does what the seam has to do at the least: a call, its status, its chunks;
`floor` is pyreqwest as the floor of `gateway_speed` uses it, whole answers on one client.
`python -m benchmarks.transports [ROUNDS [SECONDS [CONTESTANT,…]]]`
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
from benchmarks.upstream import EVENTS
from router.httpx_transport import HttpxTransport
from router.transport import Call, Timeouts, Transport
from seawall.transports.httptools_transport import HttptoolsTransport
from seawall.transports.pyreqwest_transport import PyreqwestTransport

__all__ = ["main"]

_AT_ONCE = (32, 256)
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
_WRITES = {_JSON: 1, _STREAM: EVENTS + 1}
"""By body, what is counted of its answer: a whole answer is one, of a stream each write of the upstream."""
Ask = Callable[[bytes], Awaitable[None]]
"""Sends a body and reads the whole answer."""
Figure = tuple[float, float, float, float]
"""Answers or chunks a second, µs of processor time for each, and the median and the 99th percentile of a call in ms."""


def main(rounds: int = 5, seconds: float = 1.0, only: str = "") -> None:
    """Print what JSON calls and chunks of streams cost with each contestant, with its ratio to `bare`."""
    with on_cores({1}):
        upstream = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE, text=True)
    try:
        assert upstream.stdout is not None
        url = f"http://127.0.0.1:{int(upstream.stdout.readline())}/v1/chat/completions"
        with on_cores({0}):
            uvloop.run(_compare(url, rounds, seconds, only))
    finally:
        upstream.terminate()
        upstream.wait()


async def _compare(url: str, rounds: int, seconds: float, only: str) -> None:
    transports: dict[str, Transport] = {
        "httptools": HttptoolsTransport(),
        "pyreqwest": PyreqwestTransport(),
        "httpx": HttpxTransport(),
    }
    contestants = {"bare": _bare(url), "floor": _floor(url)}
    contestants |= {name: _seam(transport, url) for name, transport in transports.items()}
    if only:
        contestants = {name: ask for name, ask in contestants.items() if name == "bare" or name in only.split(",")}
    for title, body in (("JSON", _JSON), ("streams", _STREAM)):
        for at_once in _AT_ONCE:
            # The floor reads no stream this way, and httpx's pool takes seconds for each turn of so many.
            there = {
                name: ask
                for name, ask in contestants.items()
                if not (name == "floor" and body is _STREAM) and not (name == "httpx" and at_once > 32)
            }
            figures: dict[str, list[Figure]] = {name: [] for name in there}
            for ask in there.values():
                await _figure(ask, body, at_once, 0.3)
            for _ in range(rounds):
                for name, ask in there.items():
                    gc.collect()
                    figures[name].append(await _figure(ask, body, at_once, seconds))
            _show(f"{title:8} {at_once:4}", figures)
    for transport in transports.values():
        await transport.aclose()


def _show(title: str, figures: dict[str, list[Figure]]) -> None:
    bare_us = statistics.median(cost_us for _, cost_us, _, _ in figures["bare"])
    for name, values in figures.items():
        rates, costs, halves, tails = (list(each) for each in zip(*values, strict=True))
        share = statistics.median(costs) / bare_us
        sys.stdout.write(f"{title} {name:10} µs of processor each: {spread(costs)}; {share:.2f} of bare\n")
        sys.stdout.write(f"{title} {name:10} a second:             {spread(rates)}\n")
        sys.stdout.write(f"{title} {name:10} a call's ms: p50 {spread(halves)}; p99 {spread(tails)}\n")


async def _figure(ask: Ask, body: bytes, at_once: int, seconds: float) -> Figure:
    took_ms: list[float] = []
    stop_s = time.perf_counter() + seconds

    async def client() -> None:
        while (start_s := time.perf_counter()) < stop_s:
            await ask(body)
            took_ms.append((time.perf_counter() - start_s) * 1e3)

    start_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(at_once)))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - start_s
    count = len(took_ms) * _WRITES[body]
    took_ms.sort()
    return count / wall_s, cpu_s / count * 1e6, took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100]


def _seam(transport: Transport, url: str) -> Ask:
    async def ask(body: bytes) -> None:
        call = Call(method="POST", url=url, headers=_HEADERS, body=body, timeouts=_TIMEOUTS)
        async with transport.send(call) as answer:
            assert answer.status == 200
            async for _ in answer.body:
                pass

    return ask


def _bare(url: str) -> Ask:
    client = ClientBuilder().http1_only().no_proxy().gzip(False).build()

    async def ask(body: bytes) -> None:
        request = client.post(url).headers(_HEADERS).body_bytes(body).streamed_read_buffer_limit(0).build_streamed()
        async with request as response:
            assert response.status == 200
            reader = response.body_reader
            while await reader.read_chunk() is not None:
                pass

    return ask


def _floor(url: str) -> Ask:
    client = ClientBuilder().follow_redirects(False).no_proxy().build()

    async def ask(body: bytes) -> None:
        answer = await client.post(url).headers(_HEADERS).body_bytes(body).build().send()
        assert answer.status == 200
        await answer.bytes()

    return ask


if __name__ == "__main__":
    rounds, seconds, only = [*sys.argv[1:], *("5", "1", "")[len(sys.argv) - 1 :]]
    main(int(rounds), float(seconds), only)

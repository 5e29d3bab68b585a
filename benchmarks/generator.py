"""
The load generator of the speed benchmark: n clients in a closed loop, each with one connection that is kept.

A closed loop is right here, where the question is capacity: it keeps exactly n requests under way. Answers are counted
by their ends, and checked: each status, each stream's `[DONE]`, and the whole text of every client's first answer.
`python -m benchmarks.generator PORT CLIENTS SECONDS {json,stream,paced} PIDS` prints one line of JSON; PIDS (comma
separated) are the processes whose processor time is counted, the gateway's first, `-` for none.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import cast

import msgspec
import uvloop

from benchmarks.machine import Sample, cpu_s, foreign_share
from benchmarks.upstream import CYCLE_S, EVENTS, TEXT

__all__ = ["Figures", "measure"]

WARM_UP_S = 2.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement saw, within its window."""

    answers: int
    failures: int
    seconds: float
    latency_ms: list[float]
    """p50, p99, max of whole answers."""
    first_ms: list[float]
    """p50, p99, max of the time to the first event; of streams only."""
    cpu_s: list[float]
    """Processor seconds of each watched process."""
    generator_cpu_s: float
    foreign: float
    """The share of one core that processes outside the benchmark used, stolen time included."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class _Tally:
    """What all clients have seen since the window opened."""

    def __init__(self) -> None:
        self.counting = False
        self.stopped = False
        self.failures = 0
        self.took_s: list[float] = []
        self.first_s: list[float] = []


class _Client(asyncio.Protocol):
    """One client: ask, wait for the end of the answer, ask again."""

    def __init__(self, request: bytes, tally: _Tally, *, stream: bool, after_s: float) -> None:
        self._after_s = after_s
        self._request = request
        self._tally = tally
        self._stream = stream
        self._data = self._tail = b""
        self._done = False
        self._sent_s = 0.0
        self._first_s = 0.0
        self._checked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        asyncio.get_running_loop().call_later(self._after_s, self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if not self._tally.stopped:
            self._tally.failures += 1

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._stream:
            if not self._first_s and b"data: " in data:
                self._first_s = time.perf_counter()
            if not self._checked:
                self._data += data
            self._done = self._done or b"[DONE]" in self._tail + data
            self._tail = data[-8:]
            if data.endswith(b"0\r\n\r\n"):
                self._answered(self._done)
            return
        self._data = self._data + data if self._data else data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._data.lower().find(b"content-length: ", 0, head)
        if at < 0 or len(self._data) >= head + 4 + int(self._data[at + 16 : self._data.find(b"\r", at)]):
            self._answered(at >= 0 and self._data.startswith(b"HTTP/1.1 200"))

    def _ask(self) -> None:
        self._data = b""
        self._tail = b""
        self._done = False
        self._first_s = 0.0
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def _answered(self, good: bool) -> None:
        tally = self._tally
        if not self._checked:
            self._checked = True
            good = good and self._is_right(self._data)
        if not good:
            tally.failures += 1
        elif tally.counting:
            now_s = time.perf_counter()
            tally.took_s.append(now_s - self._sent_s)
            if self._stream:
                tally.first_s.append(self._first_s - self._sent_s)
        if not tally.stopped:
            self._ask()

    def _is_right(self, data: bytes) -> bool:
        if not self._stream:
            return TEXT[:250].encode() in data
        return all(data.count(b'"%b"' % word) == 1 for word in (b"word%d " % n for n in range(EVENTS)))


async def measure(port: int, clients: int, seconds: float, kind: str, pids: list[int]) -> Figures:
    """Keep `clients` requests under way for so long, after a warm-up, and return what was seen."""
    loop = asyncio.get_running_loop()
    tally = _Tally()
    request = _request(kind)
    # At a model's pace clients that begin together would stay together: they begin one after the other.
    gap_s = CYCLE_S / clients if kind == "paced" else 0.0

    def client(number: int) -> _Client:
        return _Client(request, tally, stream=kind != "json", after_s=number * gap_s)

    connected = [
        await loop.create_connection(lambda number=number: client(number), "127.0.0.1", port)
        for number in range(clients)
    ]
    await asyncio.sleep(WARM_UP_S + gap_s * clients)
    ours = [*pids, os.getpid()]
    before, before_s = Sample.take(ours), [cpu_s(pid) for pid in ours]
    tally.counting = True
    await asyncio.sleep(seconds)
    tally.counting = False
    after, after_s = Sample.take(ours), [cpu_s(pid) for pid in ours]
    tally.stopped = True
    for transport, _ in connected:
        transport.abort()
    used_s = [late - early for early, late in zip(before_s, after_s, strict=True)]
    return Figures(
        answers=len(tally.took_s),
        failures=tally.failures,
        seconds=after.at_s - before.at_s,
        latency_ms=_quantiles_ms(tally.took_s),
        first_ms=_quantiles_ms(tally.first_s),
        cpu_s=used_s[:-1],
        generator_cpu_s=used_s[-1],
        foreign=foreign_share(before, after),
    )


def _request(kind: str) -> bytes:
    prompt = "What does a seawall do?" + (" [paced]" if kind == "paced" else "")
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%b"}],"max_tokens":100,"stream":%b}' % (
        prompt.encode(),
        b"false" if kind == "json" else b"true",
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer benchmark\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )


def _quantiles_ms(values_s: list[float]) -> list[float]:
    if not values_s:
        return []
    ordered = sorted(values_s)
    return [round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) for share in (0.5, 0.99, 1.0)]


def main(arguments: list[str]) -> int:
    """Measure once and print the figures."""
    port, clients, seconds, kind, pids = arguments
    watched = [int(pid) for pid in pids.split(",")] if pids != "-" else []
    figures = uvloop.run(measure(int(port), int(clients), float(seconds), kind, watched))
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""
Where do the microseconds of a request go? Each layer alone, in one process, without sockets.

Small parts are timed alone, layers one within the other on a stand-in that answers at once, so that a layer's own
share is its time minus that of what it calls. A part alone runs from warm caches, and takes about twice as long in
place: that too is counted as the loop's. Sockets and client are timed by `gateway_speed` (its floor is nothing else).
Times are processor time, the least of several rounds: what the code takes when nobody disturbs it.
`python -m benchmarks.microseconds [ROUNDS]`
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

import uvicorn
import uvloop
from uvicorn.server import ServerState

from benchmarks.upstream import EVENTS, json_body, stream_writes
from router.adapters import OpenAIAdapter
from router.chain import Ports, _route
from router.hybrid import HybridRouter
from router.ledger import Ledger
from router.models import Chunk, Usage
from router.run import Run
from router.settings import Settings
from router.transport import Call
from router.usage import asked_tokens_max
from seawall.gateway.app import create_app
from seawall.gateway.chat import ChatEndpoint
from seawall.gateway.config import GatewaySettings
from seawall.gateway.metrics import Metrics
from seawall.gateway.protocol import GatewayProtocol
from seawall.gateway.wire import completion_json, headers_of, parse_request

__all__ = ["main"]

_KEYS = ("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY")
_JSON = b'{"model":"gpt-4o","messages":[{"role":"user","content":"What does a seawall do?"}],"max_tokens":100}'
_STREAM = _JSON[:-1] + b',"stream":true}'
_HEADERS = {
    b"host": b"127.0.0.1",
    b"content-type": b"application/json",
    b"authorization": b"Bearer benchmark",
    b"content-length": b"104",
}


class _Answer:
    """An answer that is there at once."""

    status = 200

    def __init__(self, kind: str, chunks: list[bytes]) -> None:
        self.headers = {"content-type": (kind,)}
        self.body = self
        self._chunks = iter(chunks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class _Nowhere:
    """An `Out` that sends nothing."""

    async def whole(self, status: int, head: bytes, body: bytes) -> None:
        """See Out."""

    async def begin(self, status: int, head: bytes) -> None:
        """See Out."""

    async def write(self, data: bytes) -> None:
        """See Out."""

    async def end(self) -> None:
        """See Out."""


class _Wire:
    """A connection of the server's without a socket."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport."""
        return ("127.0.0.1", 80) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return False

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""


class _Instant:
    """A transport that answers without a wire."""

    def send(self, call: Call) -> _Answer:
        """See Transport."""
        if b'"stream":true' in call.body:
            return _Answer("text/event-stream", _WRITES)
        return _Answer("application/json", [_BODY])

    async def aclose(self) -> None:
        """See Transport."""


_BODY = json_body()
_WRITES = stream_writes()


async def _times(work: Callable[[], Awaitable[Any]] | Callable[[], Any], count: int, rounds: int) -> float:
    """Return the microseconds of processor time of one call, the least over the rounds."""
    best = empty = float("inf")
    for _ in range(rounds):
        began_s = time.process_time()
        for _ in range(count):
            await asyncio.sleep(0)
        empty = min(empty, (time.process_time() - began_s) / count)
        began_s = time.process_time()
        for _ in range(count):
            found = work()
            if isinstance(found, Awaitable):
                await found
            # As in a server, the loop gets its turn: a cancelled timer is freed only then.
            await asyncio.sleep(0)
        best = min(best, (time.process_time() - began_s) / count)
    return (best - empty) * 1e6


async def _layers(rounds: int) -> None:
    settings = Settings.from_mapping({**dict.fromkeys(_KEYS, "benchmark"), "DAILY_SPEND_LIMIT_USD": 1_000_000})
    metrics = Metrics()
    router = HybridRouter(settings, transport=_Instant(), sink=metrics.take, worker="gateway-1")
    gateway = GatewaySettings()
    endpoint = ChatEndpoint(router, gateway, metrics)
    app = create_app(lambda: router, gateway, metrics=metrics)
    ports: Ports = router._ports
    _, request = parse_request(_JSON, "0123456789abcdef0123456789abcdef")
    reply = await router.complete(request)
    step = _route(request, ports).steps[0]
    adapter = OpenAIAdapter(settings.base_url(step.provider), settings.api_key(step.provider))
    prompt = Run(request, ports, None).prompt(step.model)
    usage = Usage(prompt_tokens=12, completion_tokens=60)
    gc.collect()
    gc.freeze()

    async def books() -> None:
        ledger: Ledger = ports.ledger
        lease = await ledger.reserve(
            step.provider, step.model, request_id="1", prompt_tokens=asked_tokens_max(prompt), max_tokens=100
        )
        assert lease is not None
        ledger.settle(lease, usage)

    def counted() -> None:
        metrics.begun()
        metrics.ended("ok", stream=False, begun_s=time.monotonic(), provider="openai", usage=usage)

    rows: list[tuple[str, float]] = []

    async def row(name: str, work: Callable[[], Any], count: int = 2000) -> float:
        took_us = await _times(work, count, rounds)
        rows.append((name, took_us))
        return took_us

    parsed = await row("request parsed", lambda: parse_request(_JSON, "0" * 32))
    planned = await row("four providers looked at, route planned", lambda: _route(request, ports))
    booked = await row("budget reserved and settled", books)
    asked = await row("call made (adapter, request's JSON)", lambda: adapter.call(prompt, step.timeouts))
    read = await row("answer parsed", lambda: adapter.parse(_BODY))
    whole = await _times(lambda: router.complete(request), 2000, rounds)
    rows.append(("failover loop, breaker, latency, deadline, events", whole - planned - booked - asked - read))
    shown = await row(
        "answer rendered", lambda: (completion_json(reply, "0" * 32, 1_700_000_000), headers_of(reply, request))
    )
    numbers = await row("request counted", counted)
    chat = await _times(lambda: endpoint.serve(_HEADERS, _JSON, _Nowhere()), 2000, rounds)
    rows.append(("chat endpoint", chat - whole - parsed - shown - numbers))
    wire = _connection(app)
    served = await _times(lambda: _exchange(wire, _JSON), 2000, rounds)
    rows.append(("server: bytes to a request, its task, answer to bytes", served - chat))
    rows.append(("all of it, a JSON request", served))
    core = await _times(lambda: router.relay(request, _dropped), 100, rounds)
    everything = await _times(lambda: _exchange(wire, _STREAM), 100, rounds)
    rows.append(("a chunk of a stream: split, parsed, passed through the loop", core / EVENTS))
    rows.append(("a chunk of a stream: rendered, handed to the server", (everything - core) / EVENTS))
    sys.stdout.write(f"processor time, µs, least of {rounds} rounds; sockets and client not counted\n")
    for name, took_us in rows:
        sys.stdout.write(f"  {name:<62} {took_us:7.1f}\n")
    await router.aclose()


def _connection(app: Any) -> GatewayProtocol:
    """Return the server's side of a connection, with the settings of `serve`."""
    config = uvicorn.Config(app, access_log=False, log_level="warning", ws="none", lifespan="off")
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Mon, 23 Nov 2026 19:00:00 GMT")]
    protocol = GatewayProtocol(config, state, {})
    protocol.connection_made(cast("asyncio.Transport", _Wire()))
    return protocol


async def _exchange(protocol: GatewayProtocol, body: bytes) -> None:
    """Make one exchange on a connection."""
    head = b"".join([b"%b: %b\r\n" % pair for pair in _HEADERS.items() if pair[0] != b"content-length"])
    data = b"POST /v1/chat/completions HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
    protocol.data_received(data)
    while not protocol.cycle.response_complete:  # noqa: ASYNC110 - a turn of the loop is what is measured
        await asyncio.sleep(0)


async def _dropped(_chunk: Chunk) -> None:
    """Take a chunk."""


def main(rounds: int) -> int:
    """Print the table."""
    uvloop.run(_layers(rounds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))

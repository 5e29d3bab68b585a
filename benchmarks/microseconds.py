"""
Where do the microseconds of a request go? Each layer alone, in one process, without sockets.

Small parts are timed alone, layers one within the other on a stand-in that answers at once, so that a layer's own
share is its time minus that of what it calls. A part alone runs from warm caches, and takes about twice as long in
place: that too is counted as the loop's. Server and client are timed by `gateway_speed` (its floor is nothing else).
Times are processor time, the least of several rounds: what the code takes when nobody disturbs it.
`python -m benchmarks.microseconds [ROUNDS]`
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import uvloop

from benchmarks.upstream import EVENTS, json_body, stream_writes
from router.adapters import OpenAIAdapter
from router.chain import Ports, _route
from router.hybrid import HybridRouter
from router.ledger import Ledger
from router.models import Request, Usage
from router.run import Run
from router.settings import Settings
from router.transport import Call
from router.usage import asked_tokens_max
from seawall.gateway.app import create_app
from seawall.gateway.chat import ChatEndpoint
from seawall.gateway.config import GatewaySettings
from seawall.gateway.metrics import Metrics
from seawall.gateway.wire import completion_json, headers_of, parse_request

__all__ = ["main"]

_KEYS = ("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY")
_JSON = b'{"model":"gpt-4o","messages":[{"role":"user","content":"What does a seawall do?"}],"max_tokens":100}'
_STREAM = _JSON[:-1] + b',"stream":true}'
_HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"content-type", b"application/json"),
    (b"authorization", b"Bearer benchmark"),
    (b"content-length", b"104"),
]
_SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/v1/chat/completions",
    "raw_path": b"/v1/chat/completions",
    "query_string": b"",
    "root_path": "",
    "server": ("127.0.0.1", 80),
    "client": ("127.0.0.1", 50000),
    "headers": _HEADERS,
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
    prompt = Run(request, ports, stream=False).prompt(step.model)
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
    shown = await row("answer rendered", lambda: (completion_json(reply, "0" * 32, 1_700_000_000), headers_of(reply)))
    numbers = await row("request counted", counted)
    chat = await _times(lambda: _exchange(endpoint, _JSON), 2000, rounds)
    rows.append(("chat endpoint: body, client watched, headers", chat - whole - parsed - shown - numbers))
    routed = await _times(lambda: _exchange(app, _JSON), 2000, rounds)
    rows.append(("app around the endpoint", routed - chat))
    rows.append(("all of it, a JSON request", routed))
    core = await _times(lambda: _drained(router, request), 100, rounds)
    everything = await _times(lambda: _exchange(app, _STREAM), 100, rounds)
    rows.append(("a chunk of a stream: split, parsed, passed through the loop", core / EVENTS))
    rows.append(("a chunk of a stream: rendered, handed to the server", (everything - core) / EVENTS))
    sys.stdout.write(f"processor time, µs, least of {rounds} rounds; sockets, server and client not counted\n")
    for name, took_us in rows:
        sys.stdout.write(f"  {name:<62} {took_us:7.1f}\n")
    await router.aclose()


async def _exchange(target: Any, body: bytes) -> None:
    """Make one exchange with an ASGI app, as a server would."""
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    await target({**_SCOPE, "state": {}}, receive, send)


async def _drained(router: HybridRouter, request: Request) -> None:
    async for _ in router.stream(request):
        pass


def main(rounds: int) -> int:
    """Print the table."""
    uvloop.run(_layers(rounds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))

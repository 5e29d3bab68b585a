"""
The hot route, `POST /v1/chat/completions`: one request in, one answer to an `Out`.

Our own server hands requests over as they come from the socket (`protocol.py`); to any other the endpoint is an ASGI
app. A client that leaves cancels the upstream call: the first sees it at once, for the others `http.disconnect` is
watched for from 50 ms on.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from router.errors import AllCloudsDownError, RequestError, SeawallError
from router.hybrid import HybridRouter, new_id
from router.models import Chunk, Reply, Request, Usage
from seawall.gateway.auth import authenticate
from seawall.gateway.clients import Clients, Crowded
from seawall.gateway.config import GatewaySettings
from seawall.gateway.hops import heeded
from seawall.gateway.logs import Log
from seawall.gateway.metrics import Metrics
from seawall.gateway.wire import (
    ChatRequest,
    chunk_json,
    completion_json,
    error_json,
    final_chunks,
    headers_of,
    parse_request,
    retry_after,
)

__all__ = ["CHAT_PATH", "STRANGERS_MAX", "ChatEndpoint", "Out"]

CHAT_PATH = "/v1/chat/completions"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STRANGERS_MAX = 64 * 1024
"""Bytes of a body that are taken before it is known whose it is."""
WATCH_AFTER_S = 0.05
"""So long after a request's body a client that has left is noticed at the earliest, and that at once from then on."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_JSON = b"content-type: application/json\r\n"
_SSE = b"content-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"


class ShuttingDown(SeawallError):
    """The gateway ends, and this answer could not be finished in the time that it was given."""

    code = "shutting_down"
    status = 503
    retryable = True


class _ClientLeft(Exception):
    """The client closed its connection before its request was whole."""


class _Progress:
    """What is to be counted of one request when it has ended."""

    first_s: float | None = None
    outcome = "internal_error"
    provider = "none"
    stream = False
    usage: Usage | None = None

    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s


class Out(Protocol):
    """
    Where an answer goes. `head` is the answer's own head lines, each with its line end.

    An answer is `whole`, or it has a `begin`, some `write`s and an `end`. What goes to a client that has left is lost.
    """

    async def whole(self, status: int, head: bytes, body: bytes) -> None:
        """Send an answer."""
        ...

    async def begin(self, status: int, head: bytes) -> None:
        """Send the head of a stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Send a piece of it; returns when there is room for the next."""
        ...

    async def end(self) -> None:
        """Send its end."""
        ...


class ChatEndpoint:
    """Answer chat completions with `router`, and count them in `metrics`."""

    def __init__(
        self, router: HybridRouter, settings: GatewaySettings, metrics: Metrics | None = None, log: Log | None = None
    ) -> None:
        self._router = router
        self._log = log if log is not None and log.tells_errors else None
        self._keys = settings.api_key_sha256
        self.body_bytes_max = settings.body_bytes_max
        """The longest body of a request."""
        self.clients = Clients(settings.clients())
        """What clients may take, for the server."""
        self._metrics = metrics or Metrics()
        self._running: set[asyncio.Task[Any]] = set()
        self._cutting = False

    def cut_off(self) -> int:
        """End every answer under way with an error that its client can read; return how many there were."""
        self._cutting = True
        for work in self._running:
            work.cancel()
        return len(self._running)

    def knows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say whether a request with these headers may ask at all."""
        try:
            authenticate(headers.get(b"authorization", b""), self._keys)
        except SeawallError:
            return False
        return True

    async def turn_away(self, out: Out) -> None:
        """Answer a request for whose body there is no room just now."""
        await _send_error(out, Crowded("too many long requests are being read; send it again later"), new_id())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request of an ASGI server."""
        headers = dict(reversed(scope["headers"]))
        held = _Body(self)
        try:
            await self._serve_asgi(headers, held, receive, send)
        except _ClientLeft:
            self._metrics.begun()
            self._metrics.ended("cancelled", stream=False, begun_s=time.monotonic())
        finally:
            held.let_go()

    async def _serve_asgi(self, headers: Mapping[bytes, bytes], held: _Body, receive: Receive, send: Send) -> None:
        body = await held.read(headers, receive)
        if held.is_crowded:
            await self.turn_away(_AsgiOut(send))
            return
        work = asyncio.current_task()
        assert work is not None  # noqa: S101 - a server calls us in one
        watch = _Watch(receive, work)
        try:
            await self.serve(headers, body, _AsgiOut(send))
        except asyncio.CancelledError:
            if not watch.saw_end:
                raise
            work.uncancel()
        finally:
            watch.stop()

    async def serve(self, headers: Mapping[bytes, bytes], body: bytes | None, out: Out) -> None:
        """
        Answer one request to `out`; `headers` are by their names in lower case, `body` None is one beyond its limit.

        Runs in a task of its own, which is cancelled when the client leaves.
        """
        told = headers.get(b"x-request-id")
        request_id = told.decode() if told and _REQUEST_ID.fullmatch(told) else new_id()
        progress = _Progress(time.monotonic())
        metrics, work = self._metrics, asyncio.current_task()
        assert work is not None  # noqa: S101 - see above
        metrics.begun()
        self._running.add(work)
        try:
            if self._keys:
                authenticate(headers.get(b"authorization", b""), self._keys)
            if body is None:
                limit = self.body_bytes_max
                raise RequestError(f"the body is longer than {limit} bytes (BODY_BYTES_MAX)", status=413)
            chat, request = parse_request(body, request_id)
            request = heeded(request, headers)
            if chat.stream:
                progress.stream = True
                await self._stream(chat, request, out, progress)
            else:
                reply = await self._router.complete(request)
                progress.outcome, progress.provider, progress.usage = "ok", reply.provider, reply.usage
                await out.whole(200, _head(_JSON, reply, request), completion_json(reply, request_id, _now_s()))
        except (SeawallError, asyncio.CancelledError) as error:
            await _send_error(out, self._problem(error, progress), request_id)
        finally:
            self._running.discard(work)
            metrics.ended(
                progress.outcome,
                stream=progress.stream,
                begun_s=progress.begun_s,
                provider=progress.provider,
                first_s=progress.first_s,
                usage=progress.usage,
            )
            log, outcome = self._log, progress.outcome
            if log is not None and (outcome not in ("ok", "cancelled") or log.tells_all):
                log.request(
                    request_id,
                    outcome,
                    provider=progress.provider,
                    begun_s=progress.begun_s,
                    traceparent=headers.get(b"traceparent", b""),
                )

    async def _stream(self, chat: ChatRequest, request: Request, out: Out, progress: _Progress) -> None:
        created_s, request_id = _now_s(), request.request_id
        include_usage = chat.stream_options is not None and chat.stream_options.include_usage

        async def pass_on(chunk: Chunk) -> None:
            is_first = progress.first_s is None
            if is_first:
                progress.first_s, progress.provider = time.monotonic(), chunk.provider
                await out.begin(200, _head(_SSE, chunk, request))
            await out.write(chunk_json(chunk, request_id, created_s, first=is_first))

        try:
            last = await self._router.relay(request, pass_on)
            if progress.first_s is None:  # an answer without a word, such as a filtered one
                progress.first_s = time.monotonic()
                await out.begin(200, _head(_SSE, last, request))
            progress.outcome, progress.provider, progress.usage = "ok", last.provider, last.usage
            await out.write(final_chunks(last, request_id, created_s, include_usage=include_usage))
        except (SeawallError, asyncio.CancelledError) as error:
            if progress.first_s is None:
                raise
            # The status is out already: say it in the stream, and leave out [DONE], so that nobody takes it for whole.
            await out.write(b"data: " + error_json(self._problem(error, progress)) + b"\n\n")
        await out.end()

    def _problem(self, error: SeawallError | asyncio.CancelledError, progress: _Progress) -> SeawallError:
        """Return what the client is told. Raises the cancellation of a request whose client has left."""
        if isinstance(error, asyncio.CancelledError):
            if not self._cutting:
                progress.outcome = "cancelled"
                raise error
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()  # it has been heard
            error = ShuttingDown("the gateway is being stopped and this answer took too long; send it again")
        progress.outcome = error.code
        return error


class _AsgiOut:
    """An `Out` of an ASGI server."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def whole(self, status: int, head: bytes, body: bytes) -> None:
        await self.begin(status, b"%bcontent-length: %d\r\n" % (head, len(body)))
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, status: int, head: bytes) -> None:
        headers = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[:-1]]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """The body of a request of an ASGI server, which counts as held until it is let go."""

    def __init__(self, endpoint: ChatEndpoint) -> None:
        self._endpoint = endpoint
        self._held = 0
        self.is_crowded = False

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Return it, None for one that is, or claims to be, beyond its limit. Raises _ClientLeft."""
        endpoint = self._endpoint
        length = headers.get(b"content-length", b"0")
        size = int(length) if length.isdigit() else 0
        limit = endpoint.body_bytes_max
        body = bytearray()
        more = True
        while more:
            if size > limit or (size > STRANGERS_MAX and not endpoint.knows(headers)):
                return None
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            part = message.get("body", b"")
            if not endpoint.clients.hold(len(part)):
                self.is_crowded = True
                return None
            self._held += len(part)
            body += part
            size = max(size, len(body))
            more = message.get("more_body", False)
        return bytes(body) if size <= limit else None

    def let_go(self) -> None:
        """Count it no longer."""
        self._endpoint.clients.let_go(self._held)
        self._held = 0


class _Watch:
    """
    Watch for the client's leaving, and cancel its `work` then.

    It takes a task, and a task takes time: so the first look is after WATCH_AFTER_S, and a fast answer needs none.
    """

    __slots__ = ("_receive", "_task", "_timer", "_work", "saw_end")

    def __init__(self, receive: Receive, work: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)
        self.saw_end = False

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.saw_end = True
        self._work.cancel()


def _now_s() -> int:
    return int(time.time())


def _head(kind: bytes, answered: Reply | Chunk, request: Request) -> bytes:
    return b"%b%bx-request-id: %b\r\n" % (kind, headers_of(answered, request), request.request_id.encode())


async def _send_error(out: Out, error: SeawallError, request_id: str) -> None:
    headers = [*retry_after(error), (b"x-request-id", request_id.encode())]
    if isinstance(error, AllCloudsDownError):
        headers.append((b"x-seawall-attempts", str(error.calls).encode()))
    await out.whole(error.status, _JSON + b"".join([b"%b: %b\r\n" % pair for pair in headers]), error_json(error))

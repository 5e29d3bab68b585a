"""
The hot route, `POST /v1/chat/completions`, as a bare ASGI callable.

FastAPI owns the app around it; nothing of FastAPI stands between the socket and the router here. A client that leaves
cancels the upstream call: `http.disconnect` is watched for from 50 ms on for as long as the answer takes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

from router.errors import AllCloudsDownError, RequestError, SeawallError
from router.hybrid import HybridRouter, new_id
from router.models import Request, Usage
from seawall.gateway.auth import authenticate
from seawall.gateway.config import GatewaySettings
from seawall.gateway.hops import heeded
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

__all__ = ["ChatEndpoint"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WATCH_AFTER_S = 0.05
"""So long after a request's body a client that has left is noticed at the earliest, and that at once from then on."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_JSON = (b"content-type", b"application/json")
_SSE = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class ShuttingDown(SeawallError):
    """The gateway ends, and this answer could not be finished in the time that it was given."""

    code = "shutting_down"
    status = 503
    retryable = True


class _ClientLeft(Exception):
    """The client closed its connection before the answer was whole."""


class _Progress:
    """What is to be counted of one request when it has ended."""

    __slots__ = ("begun_s", "first_s", "outcome", "provider", "usage")

    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s
        self.first_s: float | None = None
        self.outcome = "internal_error"
        self.provider = "none"
        self.usage: Usage | None = None


class ChatEndpoint:
    """Answer chat completions with `router`, and count them in `metrics`."""

    def __init__(self, router: HybridRouter, settings: GatewaySettings, metrics: Metrics | None = None) -> None:
        self._router = router
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._running: set[asyncio.Task[Any]] = set()
        self._cutting = False

    def cut_off(self) -> int:
        """End every answer under way with an error that its client can read; return how many there were."""
        self._cutting = True
        for work in self._running:
            work.cancel()
        return len(self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        headers = dict(reversed(scope["headers"]))
        told = headers.get(b"x-request-id")
        request_id = told.decode() if told and _REQUEST_ID.fullmatch(told) else new_id()
        progress = _Progress(time.monotonic())
        self._metrics.begun()
        try:
            authenticate(headers.get(b"authorization", b""), self._settings.api_key_sha256)
            chat, request = parse_request(await self._body(headers, receive), request_id)
            request = heeded(request, headers)
        except (SeawallError, _ClientLeft) as error:
            self._metrics.ended(getattr(error, "code", "cancelled"), stream=False, begun_s=progress.begun_s)
            if isinstance(error, SeawallError):
                await _send_error(send, error, request_id)
            return
        work = asyncio.current_task()
        assert work is not None  # noqa: S101 - a server calls us in one
        self._running.add(work)
        watch = _Watch(receive, work)
        try:
            await self._answer(chat, request, send, progress)
        except asyncio.CancelledError:
            if not watch.saw_end:
                raise
            work.uncancel()
        finally:
            watch.stop()
            self._running.discard(work)

    async def _answer(self, chat: ChatRequest, request: Request, send: Send, progress: _Progress) -> None:
        try:
            await (self._stream if chat.stream else self._whole)(chat, request, send, progress)
        finally:
            self._metrics.ended(
                progress.outcome,
                stream=chat.stream,
                begun_s=progress.begun_s,
                provider=progress.provider,
                first_s=progress.first_s,
                usage=progress.usage,
            )

    async def _whole(self, _chat: ChatRequest, request: Request, send: Send, progress: _Progress) -> None:
        try:
            reply = await self._router.complete(request)
        except (SeawallError, asyncio.CancelledError) as error:
            await _send_error(send, self._problem(error, progress), request.request_id)
            return
        progress.outcome, progress.provider, progress.usage = "ok", reply.provider, reply.usage
        body = completion_json(reply, request.request_id, int(time.time()))
        await _send(send, 200, [_JSON, *headers_of(reply)], body, request.request_id)

    async def _stream(self, chat: ChatRequest, request: Request, send: Send, progress: _Progress) -> None:
        created_s = int(time.time())
        include_usage = chat.stream_options is not None and chat.stream_options.include_usage
        started = False
        try:
            async with aclosing(self._router.stream(request)) as chunks:
                async for chunk in chunks:
                    if not started:
                        progress.first_s, progress.provider = time.monotonic(), chunk.provider
                        await _start(send, 200, [*_SSE, *headers_of(chunk)], request.request_id)
                    if chunk.stop_reason is None:
                        data = chunk_json(chunk, request.request_id, created_s, first=not started)
                    else:
                        data = final_chunks(chunk, request.request_id, created_s, include_usage=include_usage)
                        progress.outcome, progress.provider, progress.usage = "ok", chunk.provider, chunk.usage
                    started = True
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except (SeawallError, asyncio.CancelledError) as error:
            problem = self._problem(error, progress)
            if not started:
                await _send_error(send, problem, request.request_id)
                return
            # The status is out already: say it in the stream, and leave out [DONE], so that nobody takes it for whole.
            data = b"data: " + error_json(problem) + b"\n\n"
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

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

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self._settings.body_bytes_max
        length = headers.get(b"content-length", b"0")
        size = int(length) if length.isdigit() else 0
        parts: list[bytes] = []
        more = True
        while more and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            parts.append(message.get("body", b""))
            size = sum(map(len, parts))
            more = message.get("more_body", False)
        if size > limit:
            raise RequestError(f"the body is longer than {limit} bytes (BODY_BYTES_MAX)", status=413)
        return parts[0] if len(parts) == 1 else b"".join(parts)


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


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]], request_id: str) -> None:
    headers = [*headers, (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str) -> None:
    await _start(send, status, [*headers, (b"content-length", str(len(body)).encode())], request_id)
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, error: SeawallError, request_id: str) -> None:
    headers = [_JSON, *retry_after(error)]
    if isinstance(error, AllCloudsDownError):
        headers.append((b"x-seawall-attempts", str(error.calls).encode()))
    await _send(send, error.status, headers, error_json(error), request_id)

"""
The hot route, `POST /v1/chat/completions`, as a bare ASGI callable.

FastAPI owns the app around it; nothing of FastAPI stands between the socket and the router here. A client that leaves
cancels the upstream call: `http.disconnect` is watched for as long as the answer takes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

from router.errors import RequestError, SeawallError
from router.hybrid import HybridRouter
from router.models import Request
from seawall.gateway.config import GatewaySettings
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

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON = (b"content-type", b"application/json")
_SSE = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Unauthorized(SeawallError):
    """The client's API key is missing or wrong."""

    code = "invalid_api_key"
    status = 401


class _ClientLeft(Exception):
    """The client closed its connection before the answer was whole."""


class ChatEndpoint:
    """Answer chat completions with `router`."""

    def __init__(self, router: HybridRouter, settings: GatewaySettings) -> None:
        self._router = router
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        headers = dict(reversed(scope["headers"]))
        told = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = told if _REQUEST_ID.fullmatch(told) else uuid.uuid4().hex
        try:
            self._authenticate(headers.get(b"authorization", b""))
            chat, request = parse_request(await self._body(headers, receive), request_id)
        except SeawallError as error:
            await _send_error(send, error, request_id)
            return
        except _ClientLeft:
            return
        work = asyncio.ensure_future(self._answer(chat, request, send))
        watcher = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((work, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watcher.cancel()
            if not work.done():
                work.cancel()
            await asyncio.gather(work, watcher, return_exceptions=True)
        if not work.cancelled() and work.exception() is not None:
            raise work.exception()  # type: ignore[misc]

    async def _answer(self, chat: ChatRequest, request: Request, send: Send) -> None:
        if chat.stream:
            await self._stream(chat, request, send)
            return
        try:
            reply = await self._router.complete(request)
        except SeawallError as error:
            await _send_error(send, error, request.request_id)
            return
        body = completion_json(reply, request.request_id, int(time.time()))
        await _send(send, 200, [_JSON, *headers_of(reply)], body, request.request_id)

    async def _stream(self, chat: ChatRequest, request: Request, send: Send) -> None:
        created_s = int(time.time())
        include_usage = chat.stream_options is not None and chat.stream_options.include_usage
        started = False
        try:
            async with aclosing(self._router.stream(request)) as chunks:
                async for chunk in chunks:
                    if not started:
                        await _start(send, 200, [*_SSE, *headers_of(chunk)], request.request_id)
                    if chunk.stop_reason is None:
                        data = chunk_json(chunk, request.request_id, created_s, first=not started)
                    else:
                        data = final_chunks(chunk, request.request_id, created_s, include_usage=include_usage)
                    started = True
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except SeawallError as error:
            if not started:
                await _send_error(send, error, request.request_id)
                return
            # The status is out already: say it in the stream, and leave out [DONE], so that nobody takes it for whole.
            data = b"data: " + error_json(error) + b"\n\n"
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _authenticate(self, authorization: bytes) -> None:
        accepted = self._settings.api_key_sha256
        if not accepted:
            return
        scheme, _, key = authorization.partition(b" ")
        digest = hashlib.sha256(key.strip()).hexdigest() if scheme.lower() == b"bearer" else ""
        matches = [hmac.compare_digest(digest, known) for known in accepted]
        if not any(matches):
            raise Unauthorized("the API key is missing or wrong; send `Authorization: Bearer <key>`")

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self._settings.body_bytes_max
        length = headers.get(b"content-length", b"0")
        too_long = RequestError(f"the body is longer than {limit} bytes (BODY_BYTES_MAX)", status=413)
        if length.isdigit() and int(length) > limit:
            raise too_long
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_long
            if not message.get("more_body"):
                return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]], request_id: str) -> None:
    headers = [*headers, (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, request_id: str) -> None:
    await _start(send, status, [*headers, (b"content-length", str(len(body)).encode())], request_id)
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: Send, error: SeawallError, request_id: str) -> None:
    await _send(send, error.status, [_JSON, *retry_after(error)], error_json(error), request_id)

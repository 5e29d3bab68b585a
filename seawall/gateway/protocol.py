"""
The server's protocol: chat requests go from the socket to their endpoint at once, all others through ASGI.

    bytes ─▶ httptools ─┬─ POST /v1/chat/completions ─▶ body whole ─▶ one task: ChatEndpoint.serve ─▶ one write
                        └─ all else (and HTTP/1.0, Expect, upgrades) ─▶ uvicorn: scope, receive, send ─▶ FastAPI

ASGI's dictionaries and hand-overs take as long as the whole of the router. Connections, pipelining and drain stay
uvicorn's: what is here stands in for its cycle of one request and answer. The limits of clients are in `guard.py`.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall.gateway.chat import CHAT_PATH, STRANGERS_MAX, ChatEndpoint
from seawall.gateway.corked import Corked
from seawall.gateway.guard import GuardedProtocol

__all__ = ["GatewayProtocol"]

_CHAT_URL = CHAT_PATH.encode()
_STATUS = {int(each): f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
_INTERNAL = b"Internal Server Error"


class GatewayProtocol(GuardedProtocol):
    """uvicorn's protocol with a short way for chat requests; `app.chat` of the served app is their endpoint."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._served: Any = config.loaded_app
        self.endpoint: ChatEndpoint | None = getattr(config.app, "chat", None)
        self._chat: _Chat | None = None
        """The chat request whose body is being read."""
        self._under_way: set[_Chat] = set()
        self._defaults: tuple[Any, bytes, bool] = (None, b"", False)

    # What the parser calls

    def on_message_begin(self) -> None:
        """See httptools."""
        self.note_begin()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._chat = None

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.note_head()
        parser: Any = self.parser
        app = cast("Any", self).app
        is_chat = (
            self.url == _CHAT_URL
            and app is self._served
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )
        if not is_chat or self.endpoint is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            HttpToolsProtocol.on_message_begin(self)
            self.url, self.headers, self.expect_100_continue = url, headers, expects
            self.scope["headers"] = headers
            super().on_headers_complete()
            return
        before: Any = self.cycle
        headers = dict(reversed(self.headers))
        self._chat = chat = _Chat(self, self.endpoint, headers, keep_alive=parser.should_keep_alive())
        self.cycle = cast("Any", chat)
        if before is None or before.response_complete:
            self._active = chat
            chat.is_due = True
        else:  # pipelined: its turn comes when the one before is answered
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))
        chat.claim(headers.get(b"content-length", b""))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if self._chat is None:
            super().on_body(body)
        else:
            self._bears_fruit = True
            self._chat.add(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self._chat is None:
            super().on_message_complete()
        else:
            self.note_end()
            self._chat.is_whole = True
            self._chat.start()

    # What uvicorn calls

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, _Chat):
            self._active = cycle
            cycle.is_due = True
            cycle.start()
            if not cycle.is_whole:  # the rest of its body has not been read
                self.flow.resume_reading()
        else:
            super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: whoever still waits for an answer has left."""
        super().connection_lost(exc)
        for chat in self._under_way:
            chat.leave()
        if self._chat is not None:
            self._chat.drop()
        for cycle, _ in self.pipeline:
            if isinstance(cycle, _Chat):
                cycle.drop()

    # What a chat request calls

    def begun(self, chat: _Chat) -> None:
        """Take note of a request whose answer is under way, so that the server waits for it."""
        self._under_way.add(chat)
        self.tasks.add(cast("asyncio.Task[None]", chat.work))

    def ended(self, chat: _Chat) -> None:
        """Take note of its end."""
        self._under_way.discard(chat)
        self.tasks.discard(cast("asyncio.Task[None]", chat.work))

    def defaults(self) -> tuple[bytes, bool]:
        """Return the head lines that stand in every answer, and whether they close the connection."""
        headers = self.server_state.default_headers  # a new list whenever something in it changes
        if self._defaults[0] is not headers:
            closes = (b"connection", b"close") in headers
            self._defaults = (headers, b"".join([b"%b: %b\r\n" % pair for pair in headers]), closes)
        return self._defaults[1:]


class _Chat:
    """One chat request and its answer: a cycle of uvicorn's protocol, and an `Out` of the endpoint."""

    __slots__ = (
        "_body",
        "_clients",
        "_endpoint",
        "_flow",
        "_headers",
        "_is_crowded",
        "_is_known",
        "_is_too_long",
        "_protocol",
        "_size",
        "_transport",
        "disconnected",
        "is_due",
        "is_whole",
        "keep_alive",
        "message_event",
        "response_complete",
        "response_started",
        "work",
    )

    def __init__(
        self, protocol: GatewayProtocol, endpoint: ChatEndpoint, headers: dict[bytes, bytes], *, keep_alive: bool
    ) -> None:
        self._protocol = protocol
        self._transport = cast("Corked", protocol.transport)
        self._flow: FlowControl = protocol.flow
        self._clients = protocol.clients
        self._endpoint = endpoint
        self._headers = headers
        self._body: bytes | bytearray = b""
        self._size = 0
        self._is_too_long = self._is_crowded = self._is_known = False
        self.keep_alive = keep_alive
        self.is_whole = self.is_due = False
        self.work: asyncio.Task[None] | None = None
        # What uvicorn looks at of a cycle.
        self.message_event = _NOBODY_WAITS
        self.disconnected = self.response_started = self.response_complete = False

    def claim(self, length: bytes) -> None:
        """Take the length that the head tells; a body that is to be too long is not waited for."""
        if length.isdigit():
            self._limit(int(length))

    def add(self, body: bytes) -> None:
        """Take a part of the body; what goes beyond the limit is refused at once, and dropped."""
        if self._is_too_long:
            return
        if not self._clients.hold(len(body)):
            self._is_crowded = True
            self._refuse()
            return
        if not self._size:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            self._body = bytearray(self._body) + body
        self._size += len(body)
        self._limit(self._size)

    def drop(self) -> None:
        """Let go of the body."""
        self._body = b""
        self._clients.let_go(self._size)
        self._size = 0

    def _limit(self, size: int) -> None:
        if size > STRANGERS_MAX and not self._is_known:  # nobody else's key is worth more memory than that
            self._is_known = self._endpoint.knows(self._headers)
            if not self._is_known:
                self._refuse()
                return
        if size > self._endpoint.body_bytes_max:
            self._refuse()

    def _refuse(self) -> None:
        self._is_too_long = self.is_whole = True
        self.drop()
        self.start()

    def start(self) -> None:
        """Begin to answer when the request is there and its turn has come."""
        if self.is_due and self.is_whole and self.work is None and not self.disconnected:
            self.work = self._protocol.loop.create_task(self._run())
            self._protocol.begun(self)

    def leave(self) -> None:
        """Note that the client is gone, and stop what is done for it."""
        self.disconnected = True
        if self.work is not None and not self.response_complete:
            self.work.cancel()

    async def begin(self, status: int, head: bytes) -> None:
        """See Out."""
        self._start(status, head + b"transfer-encoding: chunked\r\n", b"")

    async def write(self, data: bytes) -> None:
        """See Out."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if not self.disconnected:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """See Out."""
        if not self.disconnected:
            self._transport.write(b"0\r\n\r\n")
            self._complete()

    async def whole(self, status: int, head: bytes, body: bytes) -> None:
        """See Out."""
        self._start(status, b"%bcontent-length: %d\r\n" % (head, len(body)), body)
        if not self.disconnected:
            self._complete()

    def _start(self, status: int, head: bytes, body: bytes) -> None:
        if self.disconnected:
            return
        defaults, closes = self._protocol.defaults()
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            head += b"connection: close\r\n"
        self.response_started = True
        content = b"%b%b%b\r\n%b" % (_STATUS[status], defaults, head, body)
        if body:
            self._transport.write_now(content)
        else:
            self._transport.write(content)

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._transport.close()
        self._protocol.on_response_complete()

    async def _run(self) -> None:
        try:
            if self._flow.write_paused:  # its client has not read what was answered before
                await self._flow.drain()
            if self._is_crowded:
                await self._endpoint.turn_away(self)
                return
            body = None if self._is_too_long else bytes(self._body)
            self._body = b""
            await self._endpoint.serve(self._headers, body, self)
        except asyncio.CancelledError:
            if not self.disconnected:
                self._transport.close()
                raise
        except Exception:
            logging.getLogger("uvicorn.error").exception("Exception in the chat endpoint\n")
            if self.response_started:
                self._transport.close()
            else:
                self.keep_alive = False
                await self.whole(500, b"content-type: text/plain; charset=utf-8\r\n", _INTERNAL)
        finally:
            self.drop()
            self._protocol.ended(self)


class _NobodyWaits:
    """Stands in for the event on which an ASGI app would wait for more of its request."""

    def set(self) -> None:
        """Do nothing."""


_NOBODY_WAITS = _NobodyWaits()

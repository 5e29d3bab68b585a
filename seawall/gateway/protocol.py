"""
The server's protocol: chat requests go from the socket to their endpoint at once, all others through ASGI.

    bytes ─┬▶ httptools ─┬─ POST /v1/chat/completions ─▶ body whole ─▶ one task: ChatEndpoint.serve ─▶ one write
           │             └─ all else (and HTTP/1.0, Expect, upgrades) ─▶ uvicorn: scope, receive, send ─▶ FastAPI
           └▶ the head that this connection had before, with a whole body ─▶ the same task, without a parser

ASGI's dictionaries and hand-overs take as long as the whole of the router. Connections, pipelining and drain stay
uvicorn's: what is here stands in for its cycle of one request and answer. The limits of clients are in `guard.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall.gateway.chat import CHAT_PATH, STRANGERS_MAX, ChatEndpoint
from seawall.gateway.corked import Corked
from seawall.gateway.guard import GuardedProtocol
from seawall.gateway.repeats import KnownHead, learn

__all__ = ["GatewayProtocol"]

_CHAT_URL = CHAT_PATH.encode()
_CHAT_LINE = b"POST %b HTTP/1.1\r\n" % _CHAT_URL
_UNLIKE_MAX = 8
"""So many heads in a row that are not like the one before, and no more are remembered on that connection."""
_STATUS = {int(each): f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
_INTERNAL = b"Internal Server Error"


class GatewayProtocol(GuardedProtocol):
    """uvicorn's protocol with a short way for chat requests; `app.chat` of the served app is their endpoint."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._served: Any = config.loaded_app
        self.endpoint: ChatEndpoint | None = getattr(config.app, "chat", None)
        self._chat_endpoint: ChatEndpoint = cast("ChatEndpoint", self.endpoint)
        self._chat: _Chat | None = None
        """The chat request whose body is being read."""
        self._under_way: set[_Chat] = set()
        self._defaults: tuple[Any, bytes, bool] = (None, b"", False)
        self._known: KnownHead | None = None
        """The head of the chat request that was read last, where the next one may be like it."""
        self._unlike = 0

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        # Between two requests, and so is the parser: it need not see one that it would read as it did the last.
        is_between = not (self._is_in_message or self._is_deaf or self._fruitless)
        if is_between and self._known is not None:
            before: Any = self.cycle
            found = self._known.match(data)
            if found is not None and before.response_complete:
                self._unlike = 0
                self._take(*found)
                return
        self._known = None
        super().data_received(data)
        chat = self._chat
        if is_between and chat is not None and chat.is_plain and self._unlike < _UNLIKE_MAX:
            self._unlike += 1
            self._known = learn(data, _CHAT_LINE, chat.headers)

    def _take(self, headers: dict[bytes, bytes], body: bytes) -> None:
        """Take a whole chat request, as the parser's calls would have it taken."""
        self.clients.waiting.pop(self, None)
        self._idle_due_s = math.inf
        self._before = self.cycle
        self._chat = self._active = chat = _Chat(self, self._chat_endpoint, headers, keep_alive=True)
        self.cycle = self._active
        chat.is_due = True
        chat.add(body)
        chat.is_whole = True
        if chat.work is None:  # else it was refused
            chat.start()

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

    def begun(self, chat: _Chat, work: asyncio.Task[None]) -> None:
        """Take note of a request whose answer is under way, so that the server waits for it."""
        self._under_way.add(chat)
        self.tasks.add(work)

    def ended(self, chat: _Chat, work: asyncio.Task[None]) -> None:
        """Take note of its end."""
        self._under_way.discard(chat)
        self.tasks.discard(work)

    def defaults(self) -> tuple[bytes, bool]:
        """Return the head lines that stand in every answer, and whether they close the connection."""
        headers = self.server_state.default_headers  # a new list whenever something in it changes
        if self._defaults[0] is not headers:
            closes = (b"connection", b"close") in headers
            self._defaults = (headers, b"".join([b"%b: %b\r\n" % pair for pair in headers]), closes)
        return self._defaults[1:]


class _NobodyWaits:
    """Stands in for the event on which an ASGI app would wait for more of its request."""

    def set(self) -> None:
        """Do nothing."""


_NOBODY_WAITS = _NobodyWaits()


class _Chat:
    """One chat request and its answer: a cycle of uvicorn's protocol, and an `Out` of the endpoint."""

    # As every request begins.
    _body: bytes | bytearray = b""
    _size = 0
    _is_too_long = _is_crowded = _is_known = False
    is_whole = is_due = False
    work: asyncio.Task[None] | None = None
    # What uvicorn looks at of a cycle.
    message_event = _NOBODY_WAITS
    disconnected = response_started = response_complete = False

    def __init__(
        self, protocol: GatewayProtocol, endpoint: ChatEndpoint, headers: dict[bytes, bytes], *, keep_alive: bool
    ) -> None:
        self._protocol = protocol
        self._transport: Corked = protocol.transport  # type: ignore[assignment]
        self._flow: FlowControl = protocol.flow
        self._clients = protocol.clients
        self._endpoint = endpoint
        self.headers = headers
        self.keep_alive = keep_alive

    @property
    def is_plain(self) -> bool:
        """Whether it is a whole request like most: its body was taken, and others may follow on its connection."""
        return self.is_whole and self.keep_alive and not (self._is_too_long or self._is_crowded)

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
            self._is_known = self._endpoint.knows(self.headers)
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
            self.work = work = self._protocol.loop.create_task(self._run())
            self._protocol.begun(self, work)

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
            self._transport.write_last(content)
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
            await self._endpoint.serve(self.headers, body, self)
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
            if self.work is not None:
                self._protocol.ended(self, self.work)

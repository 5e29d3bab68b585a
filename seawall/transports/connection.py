"""
One connection to a provider: HTTP/1.1 on asyncio, parsed by httptools.

It carries one call at a time and keeps what has come of the answer until the caller takes it. A connection that is idle
is watched by the event loop like any other: when its peer ends it, or says something unasked, it is gone at once.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING, Any, cast

import httptools

from router.errors import Reset, TransportError, TruncatedBody

if TYPE_CHECKING:
    from seawall.transports.pool import Pool

__all__ = ["Connection"]

_UNREAD_MAX = 256 * 1024
"""Bytes of an answer that may wait for the caller before no more is read."""
_FRUITLESS_MAX = 256 * 1024
"""Bytes that may come in a row without completing a head or carrying a part of a body: an endless head or trailer."""
_KEEPALIVE_S = 60
_HEADERS_END = (b"content-length", b"transfer-encoding")


class Connection(asyncio.Protocol):
    """A connection; what it has of the answer to its call is in its public fields."""

    __slots__ = (
        "_armed_s",
        "_burst",
        "_due_s",
        "_fruitless",
        "_is_interim",
        "_is_open",
        "_is_paused",
        "_is_ready",
        "_is_reusable",
        "_parser",
        "_poll",
        "_pool",
        "_timer",
        "_transport",
        "_unread",
        "_unsent",
        "_waiter",
        "chunks",
        "error",
        "idle_since_s",
        "is_bare",
        "is_complete",
        "is_idle",
        "lines",
        "loop",
        "status",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self.loop = loop
        self._parser: Any = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._burst = pool.burst
        self._unsent = b""
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s = self._due_s = 0.0
        self._waiter: asyncio.Future[bool] | None = None
        self._fruitless = self._unread = 0
        self._is_interim = self._is_open = self._is_paused = self._is_ready = self._is_reusable = False
        self.idle_since_s = 0.0
        self.is_idle = True
        self.is_bare = False
        """Whether the answer has no body whatever its head says: the call was a HEAD."""
        self.status = 0
        self.lines: list[tuple[bytes, bytes]] = []
        """The headers as they came."""
        self.chunks: list[bytes] = []
        """What came of the body and was not taken yet."""
        self.is_complete = False
        self.error: TransportError | None = None
        """Why no more will come than what is in `chunks`."""

    # What the caller does.

    def begin(self, data: bytes, *, is_bare: bool) -> None:
        """Send a call, with others that are to leave in this turn of the event loop."""
        self.is_idle = self.is_complete = self._is_reusable = False
        self.is_bare = is_bare
        self.status = self._fruitless = self._unread = 0
        self.lines = []
        self.chunks = []
        self._unsent = data
        self._burst.add(self._send)

    def wait(self, due_s: float) -> asyncio.Future[bool]:
        """Return what becomes true when something has come, and false when nothing has until `due_s`."""
        self._waiter = waiter = self.loop.create_future()
        self._due_s = due_s
        # A timer is left running when it is not needed any more: one that rings costs less than one that is cancelled.
        if self._timer is None or self._armed_s > due_s:
            self._arm(due_s)
        return waiter

    def take(self) -> bytes:
        """Return what has come of the body, and go on reading."""
        chunks = self.chunks
        self.chunks = []
        self._unread = 0
        if self._is_paused:
            self._resume()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end(self) -> None:
        """Let go of the call: the connection is free when its answer is whole, else it is closed."""
        is_free = self.is_complete and self._is_reusable and self._is_open
        if not is_free or self._transport.get_write_buffer_size():
            self.close()
            return
        if self._is_paused:
            self._resume()
        if self.chunks:
            self.chunks = []
        self.is_idle = True
        self._pool.give_back(self)

    def close(self) -> None:
        """Break the connection; what waits on it gets an error."""
        self._is_reusable = False
        if self.is_idle:
            self._pool.forget(self)
        if self._is_open:
            self._transport.abort()

    def is_quiet(self) -> bool:
        """Say whether an idle connection can be used: its socket has neither bytes nor an end that wait to be read."""
        return not self._poll.poll(0)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._is_open = True
        one: socket.socket = transport.get_extra_info("socket")
        self._poll.register(one.fileno(), select.POLLIN)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
        self._pool.made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.is_idle or self.is_complete or self.error is not None:
            self.close()  # nobody asked
            return
        if self._unsent:  # nor has it heard what we ask
            self._fail(Reset("the connection broke: the peer spoke unasked"))
            return
        self._is_ready = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(_broken(self.status, f"the answer is not HTTP: {error}"))
        if not self._is_ready:
            self._fruitless += len(data)
            if self._fruitless > _FRUITLESS_MAX:
                self._fail(_broken(self.status, f"a head or trailer of more than {_FRUITLESS_MAX} bytes"))
            return
        self._fruitless = 0
        self._unread += len(data)
        if self._unread > _UNREAD_MAX and self.chunks and not (self._is_paused or self.is_complete or self.error):
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """See asyncio.Protocol. A peer that closes its side of sending has nothing more to say to us."""
        self._is_reusable = False
        if self.is_idle or self.is_complete:
            return
        if self.status and not self._is_framed():
            self.is_complete = True
            self._wake()
        else:
            self._fail(_broken(self.status, "the peer closed it"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._pool.lost(self)
        self._is_open = False
        self._parser = None  # it holds us
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not (self.is_idle or self.is_complete or self.error is not None):
            self._fail(Reset(f"the connection broke: {exc or 'it was closed'}"))

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Take the first byte of a message."""
        if self.is_complete:
            self._is_reusable = False  # one that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those of a trailer are dropped."""
        if not self.status:
            self.lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head."""
        if self.is_complete:
            return
        status: int = self._parser.get_status_code()
        if status < 200:
            self._is_interim = True
            self.lines.clear()
            return
        self.status = status
        self._is_ready = True
        if self.is_bare:
            self.is_complete = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self.is_complete:
            self.chunks.append(body)
            self._is_ready = True

    def on_message_complete(self) -> None:
        """Take the end of the answer."""
        if self._is_interim:
            self._is_interim = False
        elif not self.is_complete:
            self.is_complete = self._is_ready = True
            self._is_reusable = self._parser.should_keep_alive()

    # Inside.

    def _send(self) -> None:
        data, self._unsent = self._unsent, b""
        if self._is_open and not self._transport.is_closing():
            self._transport.write(data)

    def _is_framed(self) -> bool:
        """Say whether the head told where the body ends; else the end of the connection is its end."""
        return any(name.lower() in _HEADERS_END for name, _ in self.lines)

    def _fail(self, error: TransportError) -> None:
        if self.error is None and not self.is_complete:
            self.error = error
            self._wake()
        self.close()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    def _resume(self) -> None:
        self._is_paused = False
        if self._is_open and not self._transport.is_closing():
            self._transport.resume_reading()

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = when_s
        self._timer = self.loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self.loop.time() < self._due_s:
            self._arm(self._due_s)
        else:
            waiter.set_result(False)


def _broken(status: int, words: str) -> TransportError:
    return TruncatedBody(f"the answer was cut: {words}") if status else Reset(f"the connection broke: {words}")

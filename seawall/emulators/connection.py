"""
One HTTP/1.1 connection on a real socket, played step by step.

Not a general web server: it does what an emulator needs and those do not offer, exactly one write a `Body` step, a cut
after a given byte, a TCP reset, silence with the connection open, and notice at once when the client has left.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import cast

import httptools

from seawall.emulators.steps import Body, End, Hang, Head, Reset, Sleep, Step
from seawall.emulators.wire import BODY_LIMIT, HttpRequest, Reply, steps_of

__all__ = ["Connection", "Handler"]

_HEADERS_LIMIT = 64 * 1024
_DISCARD_LIMIT = 16 * BODY_LIMIT
"""A body over the limit is read to its end, so that the client gets to see the 413, but not for ever."""
_PIPELINE_LIMIT = 32
_STEPS_A_TURN = 64
_TIMER_STEP_S = 0.001
"""uvloop's timers count whole milliseconds: to wait for less than half of one would be to spin."""
_SIOCOUTQNSD = 0x894B
_LINGER_ZERO = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}

Handler = Callable[[HttpRequest, "Connection"], Awaitable[None]]
"""Answers one request with `play` or `reply`; returns when the answer has ended or the client is gone."""


class Connection(asyncio.Protocol):
    """
    Reads requests and hands them to `handler` one at a time, in order.

    `gone` is set when the client has closed its side, fully or half: what it asked for is of no use to it any more.
    `on_fin` are called once, when the client closes its side in order.
    """

    _transport: asyncio.Transport  # from connection_made, which comes before anything else

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self.gone = False
        self.on_fin: list[Callable[[], None]] = []
        self.task: asyncio.Task[None] | None = None
        self._handler = handler
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[HttpRequest, bool, bool]] = deque()
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        # Of the request that is being answered.
        self._keep_alive = True
        self._chunks_allowed = True
        self._head_only = False
        self._chunked = False
        self._head = b""
        self._overdue = 0
        # Of the request that is being read.
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)
        # With no buffer of our own, "written" means "in the kernel's hands", and a reset loses nothing before it.
        self._transport.set_write_buffer_limits(high=0)
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client is gone."""
        self._connections.discard(self)
        self._leave()

    def eof_received(self) -> bool:
        """Note that the client is gone; what it has not been sent is dropped."""
        for told in self.on_fin:
            told()
        self.on_fin.clear()
        self._leave()
        return False

    def pause_writing(self) -> None:
        """Note that the client does not keep up."""
        self._paused = True

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        self._paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse what came; anything that is no HTTP ends the connection with 400."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError):
            # A handler's own answer may be under way: then there is no place for this one.
            if self.task is None and not self.gone:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.close()

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers = []
        self._header_bytes = 0
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
        self._count_header(len(name) + len(value) + len(": \r\n"))

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, as long as the limit allows."""
        self._body_bytes += len(body)
        if self._body_bytes <= BODY_LIMIT:
            self._body.append(body)
        elif self._body_bytes > _DISCARD_LIMIT:
            self.abort()
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        """Queue the request, and start to serve it when nothing is being served."""
        request = HttpRequest.of(
            self._parser.get_method().decode("ascii"),
            self._url.decode("ascii"),
            self._headers,
            b"".join(self._body),
            too_large=self._body_bytes > BODY_LIMIT,
        )
        keep_alive = self._parser.should_keep_alive() and not request.too_large
        self._queue.append((request, keep_alive, self._parser.get_http_version() != "1.0"))
        if len(self._queue) > _PIPELINE_LIMIT:
            self.abort()
        elif self.task is None:
            self.task = self._loop.create_task(self._serve())
            self.task.add_done_callback(self._served)

    # What handlers use.

    async def play(self, steps: Iterable[Step], saw: Callable[[Step], None] | None = None) -> None:
        """
        Play `steps` until they end or the client is gone, and tell `saw` each one that the client was there for.

        Sleeps are counted from the start, so that lateness does not add up over a long stream.
        """
        due_s = time.monotonic()
        for step in steps:
            match step:
                case Head():
                    self._hold(step)
                case Body():
                    self._send(self._frame(step.data))
                case End():
                    self._send(b"0\r\n\r\n" if self._chunked else b"")
                case Sleep():
                    self._send(b"")
                    due_s += step.seconds
                    await self._sleep_until(due_s)
                case Reset():
                    self._send(b"")
                    await self._delivered()
                    self.reset()
                case Hang():
                    self._send(b"")
                    await self._until_gone()
            await self._drain()
            if self.gone:
                return
            if saw is not None:
                saw(step)

    async def reply(self, reply: Reply) -> None:
        """Send `reply` at once."""
        await self.play(steps_of(reply))

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        if not self.gone:
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.abort()

    def abort(self) -> None:
        """Close the connection now, whatever has not been sent."""
        self._leave()
        self._transport.abort()

    def close(self) -> None:
        """Close the connection after what has been written."""
        self._transport.close()

    # Inside.

    async def _serve(self) -> None:
        try:
            while self._queue and not self.gone:
                request, self._keep_alive, self._chunks_allowed = self._queue.popleft()
                self._head_only = request.method == "HEAD"
                await self._handler(request, self)
                if not self._keep_alive:
                    self.close()
                    return
        finally:
            # Here and not when the loop reports the task's end: the next request may come in between.
            self.task = None

    def _served(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler({"message": "an emulator failed to answer", "exception": error})
            self.abort()

    def _socket(self) -> socket.socket:
        return self._transport.get_extra_info("socket")

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _HEADERS_LIMIT:
            raise ValueError("request headers over 64 KiB")

    def _hold(self, step: Head) -> None:
        """Keep the head until the next step, so that head and body leave in one write."""
        self._chunked = step.length is None and self._chunks_allowed and not self._head_only
        lines = [f"HTTP/1.1 {step.status} {_REASONS.get(step.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in step.headers]
        if step.length is not None:
            lines.append(f"content-length: {step.length}")
        elif self._chunked:
            lines.append("transfer-encoding: chunked")
        else:
            self._keep_alive = False  # only the end of the connection can end such a body
        if not self._keep_alive:
            lines.append("connection: close")
        self._head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _frame(self, data: bytes) -> bytes:
        if self._head_only or not data:
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _send(self, data: bytes) -> None:
        data, self._head = self._head + data, b""
        if data:
            self._transport.write(data)

    def _leave(self) -> None:
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Wait for a call of `_wake`."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _sleep_until(self, due_s: float) -> None:
        if due_s <= time.monotonic():
            # Behind its own plan a stream goes as fast as it can, but lets the others have a turn.
            self._overdue += 1
            if self._overdue % _STEPS_A_TURN == 0:
                await asyncio.sleep(0)
        while not self.gone and (left_s := due_s - time.monotonic()) > _TIMER_STEP_S / 2:
            timer = self._loop.call_later(left_s, self._wake)
            try:
                await self._wait()
            finally:
                timer.cancel()

    async def _drain(self) -> None:
        while self._paused and not self.gone:
            await self._wait()

    async def _delivered(self) -> None:
        """Wait until the client's kernel has everything: a reset drops what is still on this side."""
        await self._drain()
        while not self.gone and self._unsent() > 0:
            await self._sleep_until(time.monotonic() + _TIMER_STEP_S)

    def _unsent(self) -> int:
        """Return how many bytes wait in the kernel for room at the client, where the system (Linux) can tell."""
        try:
            answer = fcntl.ioctl(self._socket().fileno(), _SIOCOUTQNSD, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    async def _until_gone(self) -> None:
        while not self.gone:
            await self._wait()

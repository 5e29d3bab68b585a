"""
A connection's limits: how much may come, how long it may take, how long an answer waits for its reader.

    opened ── idle_s ──▶ closed          first byte ── send_s ──▶ 408          not read ── read_s ──▶ broken off
    fruitless bytes > head_bytes_max ──▶ 431          not HTTP ──▶ 400          a full queue ──▶ closed after its last

uvicorn with httptools has none of these: a head may be endless, and may take for ever. An error is told only when no
answer is under way: what was asked rightly before is answered first, and nothing is ever written into an answer.
"""

from __future__ import annotations

import asyncio
import math
import struct
from typing import Any, cast

import httptools
import uvicorn

from router.errors import SeawallError
from seawall.gateway.clients import ClientLimits, Clients, Crowded, HeadTooLong, MalformedHttp, RequestTooSlow
from seawall.gateway.corked import CorkedProtocol
from seawall.gateway.wire import error_json

try:
    import fcntl
    import termios
except ImportError:  # where it is not known how much the kernel holds, what we hold ourselves has to do
    fcntl = termios = None

__all__ = ["GuardedProtocol", "ServerConfig"]

_HEADERS_MAX = 128
_QUEUED_MAX = 32
"""Requests that may wait on one connection until those before are answered."""
_FAREWELL_S = 2.0
"""How long what a refused client still sends is thrown away, so that it can read why."""
_STATUS = {
    400: b"HTTP/1.1 400 Bad Request\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n",
}


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration with what clients may take."""

    def __init__(self, app: Any, *, clients: Clients, **options: Any) -> None:
        super().__init__(app, **options)
        self.clients = clients


class GuardedProtocol(CorkedProtocol):
    """uvicorn's protocol with limits: those of `config.clients`, or ClientLimits' own."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.clients: Clients = getattr(config, "clients", None) or Clients(ClientLimits())
        self.burst = self.clients.burst
        self._limits = self.clients.limits
        self._active: Any = None
        """The cycle that is being answered; `cycle` is the one that was read last."""
        self._fruitless = self._came = 0
        self._bears_fruit = self._is_in_head = self._is_in_message = self._is_deaf = False
        self._before: Any = None
        """The cycle of the request before that which is being read."""
        self._idle_due_s = self._send_due_s = self._read_due_s = math.inf
        self._unread = 0
        self._armed_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    # What the event loop calls

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.clients.waiting[self] = None
        self._wait_for_request()
        if len(self.connections) > self._limits.connections_max and not self.clients.make_room(self):
            self._refuse(Crowded(f"{self._limits.connections_max} connections are open (CONNECTIONS_MAX)"))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.clients.waiting.pop(self, None)
        self._is_deaf = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)
        self._active = None

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._is_deaf:
            return
        self._bears_fruit = False
        self._came = len(data)
        try:
            cast("Any", self.parser).feed_data(data)
        except httptools.HttpParserUpgrade:  # there is no protocol to change to: the request was taken as any other
            self._is_deaf = True
            self.cycle.keep_alive = False
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, SeawallError) else MalformedHttp(f"this is not HTTP: {error}"))
            return
        if self._bears_fruit:
            self._fruitless = 0
            return
        self._fruitless += len(data)
        if self._fruitless > self._limits.head_bytes_max:
            self._refuse(self._too_long())

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        super().resume_writing()
        self._read_due_s = math.inf

    # What the parser calls, and what GatewayProtocol calls for it

    def on_message_begin(self) -> None:
        """See httptools."""
        self.note_begin()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Those of a trailer are dropped: nobody may take them for what the head said."""
        if self._is_in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._bears_fruit = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self.note_end()
        super().on_message_complete()

    def note_begin(self) -> None:
        """Take note of the first byte of a request."""
        self._is_in_head = self._is_in_message = True
        self._before = self.cycle
        self._idle_due_s = math.inf
        self._send_due_s = due_s = self.loop.time() + self._limits.send_s
        if due_s < self._armed_s:
            self._arm(due_s)

    def note_head(self) -> None:
        """Take note of a whole head. Raises what the client is told of one that is refused."""
        headers, version = self.headers, cast("Any", self.parser).get_http_version()
        self._bears_fruit, self._is_in_head = True, False
        self.clients.waiting.pop(self, None)
        if len(headers) > _HEADERS_MAX:
            raise HeadTooLong(f"the request has {len(headers)} headers; {_HEADERS_MAX} may be")
        limit = self._limits.head_bytes_max
        if (
            self._fruitless + self._came
            > limit
            < sum([len(name) + len(value) for name, value in headers]) + len(self.url)
        ):
            raise self._too_long()
        hosts = len([1 for name, _ in headers if name == b"host"])
        if hosts != 1 and not (version == "1.0" and not hosts):
            raise MalformedHttp(f"the request has {hosts} headers `Host`; one must be")
        if version not in ("1.1", "1.0"):
            raise MalformedHttp(f"HTTP/{version} is not spoken here; send HTTP/1.1")
        if len(self.pipeline) >= _QUEUED_MAX:
            raise Crowded(f"more than {_QUEUED_MAX} requests wait on the connection")

    def note_end(self) -> None:
        """Take note of the last byte of a request."""
        self._bears_fruit = True
        self._is_in_message = False
        self._send_due_s = math.inf

    # What uvicorn calls

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on to the next request: one that waits in the queue, or one that is yet to come."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._wait_for_reader()
            return
        if not self.pipeline:
            self.flow.resume_reading()
            self._wait_for_request()
            return
        cycle, app = self.pipeline.pop()
        if not self.pipeline:
            self.flow.resume_reading()
        self._start_asgi_task(cycle, app)

    def make_room(self) -> None:
        """See Waiting."""
        self._hang_up()

    # Inside

    def _wait_for_request(self) -> None:
        if not self._is_in_message:
            self.clients.waiting[self] = None
            self._idle_due_s = due_s = self.loop.time() + self._limits.idle_s
            if due_s < self._armed_s:
                self._arm(due_s)

    def _wait_for_reader(self) -> None:
        self._unread = self._unread_bytes()
        self._read_due_s = due_s = self.loop.time() + self._limits.read_s
        if due_s < self._armed_s:
            self._arm(due_s)

    def _unread_bytes(self) -> int:
        """Return how much of what was written the client has not taken: what we hold, and what the kernel holds."""
        size: int = self.transport.get_write_buffer_size()
        one = self.transport.get_extra_info("socket")
        if fcntl is None or termios is None or one is None or one.fileno() < 0:
            return size
        try:
            (held,) = struct.unpack("i", fcntl.ioctl(one.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        except OSError:
            return size
        return size + int(held)

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = when_s
        self._timer = self.loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        """See whose time is over. A timer is left running when it is not needed: that costs less than to cancel it."""
        self._timer, self._armed_s = None, math.inf
        now_s = self.loop.time()
        if self._read_due_s <= now_s:
            unread = self._unread_bytes()
            if unread >= self._unread:
                self.transport.abort()
                return
            self._wait_for_reader()
        if self._send_due_s <= now_s:
            if self._is_deaf:
                self.transport.abort()
                return
            if self.flow.read_paused:  # it is we who do not read
                self._send_due_s = now_s + self._limits.send_s
            else:
                limit_s = self._limits.send_s
                self._refuse(RequestTooSlow(f"the request was not whole within {limit_s:g} s (CLIENT_SEND_TIMEOUT)"))
        elif self._idle_due_s <= now_s:
            self._hang_up()
        due_s = min(self._read_due_s, self._send_due_s, self._idle_due_s)
        if due_s < self._armed_s:
            self._arm(due_s)

    def _too_long(self) -> HeadTooLong:
        return HeadTooLong(f"the head is longer than {self._limits.head_bytes_max} bytes (HEAD_BYTES_MAX)")

    def _hang_up(self) -> None:
        """Close; a client that does not take what is still to be sent is cut off later."""
        self._is_deaf = True
        self._idle_due_s = self._send_due_s = math.inf
        if not self.transport.is_closing():
            self.transport.close()
            self._wait_for_reader()

    def _refuse(self, error: SeawallError) -> None:
        """Read no more; tell why where no answer is under way, else close when what was rightly asked is answered."""
        self._is_deaf = True
        self._idle_due_s = self._send_due_s = math.inf
        broken = self.cycle if self._is_in_message and self.cycle is not self._before else None
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        elif broken is not None and broken is self._active:
            self._active = None
        last: Any = self.pipeline[0][0] if self.pipeline else self._active
        if last is not None and not last.response_complete:
            last.keep_alive = False
            self.flow.resume_reading()  # or nobody would see that it leaves
        elif self.transport.is_closing():
            pass
        elif broken is not None and broken.response_started:  # it has its answer, or a part of one
            self._hang_up()
        else:
            self._tell(error)

    def _tell(self, error: SeawallError) -> None:
        body = error_json(error)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        transport = cast("Any", self.transport)
        transport.write_last(_STATUS[error.status] + head + body)
        cycle: Any = self.cycle
        if cycle is not None:  # an app that waits for the rest of the request need not
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_reading()
        try:
            transport.write_eof()
        except (NotImplementedError, OSError):  # TLS has no end of one side
            self._hang_up()
            return
        self._send_due_s = due_s = self.loop.time() + _FAREWELL_S
        if due_s < self._armed_s:
            self._arm(due_s)

"""
The router's transport on the simulated network: real adapters and parsers on bytes that nobody has sent.

It keeps to what `router.transport` asks of every transport, and raises what `HttpxTransport` raises for the same fate
of a connection: refused is ConnectFailed, an end or a reset before the head is Reset, an end in the body TruncatedBody.
Connections are kept alive and used again, the last one first; one that died while it was idle never surfaces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout, Reset, TransportError, TruncatedBody
from router.transport import Answer, Call
from seawall.simulation.network import Link, Network, Refused
from seawall.simulation.provider import SimulatedProvider, request_bytes

__all__ = ["Sends", "SimTransport", "address_of"]

_HOST_SUFFIX = ".simulated"


def address_of(provider: str) -> str:
    """Return the base URL by which a provider is reached in a simulation."""
    return f"http://{provider}{_HOST_SUFFIX}"


class Sends(Protocol):
    """What a transport needs to know of its process: a dead one sends nothing."""

    is_dead: bool


class SimTransport:
    """A `router.transport.Transport` of one simulated process. `connections` counts those ever made."""

    def __init__(self, network: Network, providers: Mapping[str, SimulatedProvider], process: Sends) -> None:
        self.network = network
        self.providers = providers
        self.process = process
        self.idle: dict[str, list[_Connection]] = {}
        self.open: dict[_Connection, None] = {}
        self.connections = 0
        self._names: dict[str, str] = {}

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """See `router.transport.Transport`."""
        return _Exchange(self, call)

    async def aclose(self) -> None:
        """Close every connection."""
        self.sever()

    def sever(self) -> None:
        """Close every connection, as the end of the process does."""
        for connection in [*self.open]:
            connection.link.close()
            connection.lost(reset=False)

    def connection(self, call: Call) -> _Connection:
        """Return a connection to whom the call is for: an idle one, or a new one. Raises ConnectFailed."""
        # By netloc: everything after it differs from model to model.
        key = call.url.split("/", 3)[2]
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = (urlsplit(call.url).hostname or "").removesuffix(_HOST_SUFFIX)
        idle = self.idle.setdefault(name, [])
        if idle:
            return idle.pop()
        proxy = self.network.proxies.get(name)
        if proxy is None or self.process.is_dead:
            raise ConnectFailed(f"no connection: there is no {name} here")
        connection = _Connection(self, name)
        try:
            connection.link = proxy.connect(connection)
        except Refused:
            raise ConnectFailed("no connection: refused") from None
        self.connections += 1
        self.open[connection] = None
        return connection


class _Connection:
    """The client's end of one connection."""

    link: Link

    def __init__(self, transport: SimTransport, name: str) -> None:
        self._transport = transport
        self.name = name
        self.exchange: _Exchange | None = None
        self.is_alive = True

    def received(self, data: bytes) -> None:
        """See network.Client."""
        if self.exchange is not None:
            self.exchange.received(data)

    def lost(self, *, reset: bool) -> None:
        """See network.Client."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._transport.open.pop(self, None)
        if self.exchange is not None:
            self.exchange.lost(reset=reset)
        else:
            idle = self._transport.idle[self.name]
            idle[:] = [other for other in idle if other is not self]

    def free(self) -> None:
        """Take the connection back after a whole answer."""
        self.exchange = None
        if self.is_alive:
            self._transport.idle[self.name].append(self)

    def abandon(self) -> None:
        """Close the connection in the middle of an answer."""
        self.exchange = None
        if self.is_alive:
            self.is_alive = False
            self._transport.open.pop(self, None)
            self.link.close()


class _Exchange(AbstractAsyncContextManager[Answer, None]):
    """One call and its answer, which it is itself."""

    def __init__(self, transport: SimTransport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._loop = transport.network.loop
        self._first_byte_by_s = 0.0
        self._connection: _Connection | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._lines: list[tuple[str, str]] = []
        self._chunks: deque[bytes] = deque()
        self._complete = False
        self._ended: str | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.status = 0
        self.headers: Mapping[str, tuple[str, ...]] = {}
        self.body: AsyncIterator[bytes] = self._body()

    async def __aenter__(self) -> Answer:
        call = self._call
        self._first_byte_by_s = self._loop.time() + call.timeouts.first_byte_s
        connection = self._connection = self._transport.connection(call)
        connection.exchange = self
        link, provider = connection.link, self._transport.providers[connection.name]
        try:
            link.request(lambda: request_bytes(call), lambda: provider.handle(link, call))
            await self._head()
        except BaseException:
            self._forget_timer()
            connection.abandon()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_timer()
        connection = self._connection
        if connection is None:
            return
        if self._complete:
            connection.free()
        else:
            connection.abandon()

    # What the connection calls.

    def received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        self._parser.feed_data(data)
        self._wake()

    def lost(self, *, reset: bool) -> None:
        """Note that the connection has ended."""
        self._ended = "reset" if reset else "the peer closed it"
        self._wake()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._lines.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Take the head."""
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in self._lines:
            headers[name] = (*headers.get(name, ()), value)
        self.headers = headers
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        self._complete = True

    # Inside.

    async def _head(self) -> None:
        while not self.status:
            if self._ended is not None:
                raise Reset(f"the connection broke: {self._ended}")
            if not await self._something(self._first_byte_by_s):
                raise FirstByteTimeout(f"no answer within {self._call.timeouts.first_byte_s:g} s")

    async def _body(self) -> AsyncIterator[bytes]:
        chunks, loop, began, idle_s = self._chunks, self._loop, False, self._call.timeouts.idle_s
        while True:
            while chunks:
                began = True
                yield chunks.popleft()
            if self._complete:
                return
            if self._ended is not None:
                raise self._cut()
            due_s = loop.time() + idle_s if began else self._first_byte_by_s
            if not await self._something(due_s) and not chunks:
                if began:
                    raise IdleTimeout(f"the answer stopped for {idle_s:g} s")
                raise FirstByteTimeout(f"no byte of the body within {self._call.timeouts.first_byte_s:g} s")

    def _cut(self) -> TransportError:
        if self._ended == "reset":
            return Reset("the connection broke: reset")
        return TruncatedBody(f"the answer was cut: {self._ended}")

    def _something(self, due_s: float) -> asyncio.Future[bool]:
        """Return what is true once something has come, and false when nothing has until `due_s`."""
        waiter = self._waiter = self._loop.create_future()
        self._due_s = due_s
        # A timer that comes too early is set anew when it comes: cheaper than a new one for every chunk.
        if self._timer is None or self._timer.when() > due_s:
            self._set_timer(due_s)
        return waiter

    def _set_timer(self, due_s: float) -> None:
        self._forget_timer()
        self._timer = self._loop.call_at(due_s, self._is_due)

    def _is_due(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() >= self._due_s:
            self._waiter.set_result(False)
        else:
            self._set_timer(self._due_s)

    def _forget_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

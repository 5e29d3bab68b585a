"""
The transport on asyncio and httptools: what the gateway runs on.

It lives on the event loop: no thread, so nothing is handed over, and no task of its own. A call is one write on a
connection that waits in a pool, and where the answer comes in one read, its caller is woken once for all of it.
Connections are kept alive and used again, the last used first; nobody waits for another's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout
from router.transport import Answer, Call, connect_bound_s
from seawall.transports.connection import Connection
from seawall.transports.heads import Origin, head_of, line_of
from seawall.transports.pool import Pool

__all__ = ["HttptoolsTransport"]

_CONNECTIONS_MAX = 4096
_HEADS_MAX = 256
_POOLS_MAX = 256
_CLOSE_S = 1.0
_ONE_CALLS = frozenset({"traceparent", "tracestate"})
"""Headers that are another call's never: what comes before them is worth keeping."""
_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class HttptoolsTransport:
    """
    A `Transport` on asyncio and httptools: HTTP/1.1 with connections kept alive, TLS verified, nothing unpacked.

    `tls` says how certificates are checked; by default those are trusted that the system or certifi trusts.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._open: set[Connection] = set()
        self._connecting = 0
        self._pools: dict[Origin, Pool] = {}
        # Method, address and headers of a call are mostly those of the one before: the bytes are made once.
        self._heads: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[Pool, bytes]] = {}
        self._is_closed = False

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """See `router.transport.Transport`."""
        return _Exchange(self, call)

    async def aclose(self) -> None:
        """Close every connection; return when they are gone."""
        self._is_closed = True
        self._heads.clear()
        for pool in self._pools.values():
            pool.close()
        for connection in [*self._open]:
            connection.close()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _CLOSE_S
        while self._open and loop.time() < until_s:  # noqa: ASYNC110 - an event would cost every connection
            await asyncio.sleep(0.001)

    def prepare(self, call: Call) -> tuple[Pool, bytes]:
        """Return the connections that lead where a call goes, and its head without the length. Raises ConnectFailed."""
        headers, own = call.headers, b""
        while headers and headers[-1][0] in _ONE_CALLS:
            own += line_of(*headers[-1])
            headers = headers[:-1]
        pool, head = self._prepared((call.method, call.url, headers))
        return (pool, head + own) if own else (pool, head)

    def _prepared(self, key: tuple[str, str, tuple[tuple[str, str], ...]]) -> tuple[Pool, bytes]:
        found = self._heads.get(key)
        if found is not None:
            return found
        origin, head = head_of(*key)
        if self._is_closed:
            raise ConnectFailed("the transport is closed")
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= _POOLS_MAX:
                raise ConnectFailed(f"calls to more than {_POOLS_MAX} origins")
            pool = self._pools[origin] = Pool(origin, self._open, self._context)
        self._heads[key] = found = (pool, head)
        return found

    async def connect(self, pool: Pool, bound_s: float) -> Connection:
        """Return a new connection. Raises ConnectFailed or TlsError."""
        if len(self._open) + self._connecting >= _CONNECTIONS_MAX:
            raise ConnectFailed(f"{_CONNECTIONS_MAX} connections are open")
        self._connecting += 1
        try:
            connection = await pool.connect(bound_s)
        finally:
            self._connecting -= 1
        if self._is_closed:
            connection.close()
            raise ConnectFailed("the transport is closed")
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import certifi  # noqa: PLC0415 - comes with httpx; needed for https only

            self._tls = ssl.create_default_context()
            self._tls.load_verify_locations(certifi.where())
        return self._tls


class _Exchange:
    """One call: the block around it, its answer, and the chunks of its body, in one object because each costs time."""

    __slots__ = ("_began", "_call", "_connection", "_first_byte_by_s", "_lines", "_loop", "_transport", "status")

    def __init__(self, transport: HttptoolsTransport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._connection: Connection | None = None
        self._began = False

    async def __aenter__(self) -> Answer:
        call, transport = self._call, self._transport
        pool, head = transport.prepare(call)
        self._loop = loop = asyncio.get_running_loop()
        self._first_byte_by_s = by_s = loop.time() + call.timeouts.first_byte_s
        connection = pool.take() or await transport.connect(pool, connect_bound_s(call.timeouts))
        try:
            body = call.body
            if body or call.method not in _NO_BODY:
                connection.begin(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body), is_bare=False)
            else:
                connection.begin(head + b"\r\n", is_bare=call.method == "HEAD")
            while not connection.status:
                if connection.error is not None:
                    raise connection.error  # noqa: TRY301 - a function more costs every call
                if not (await connection.wait(by_s) or connection.status or connection.error):
                    raise FirstByteTimeout(f"no answer within {call.timeouts.first_byte_s:g} s")  # noqa: TRY301
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._lines = connection.lines
        self.status = connection.status
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    @property
    def headers(self) -> Mapping[str, tuple[str, ...]]:
        """See `router.transport.Answer`."""
        return _Headers(self._lines)

    @property
    def body(self) -> AsyncIterator[bytes]:
        """See `router.transport.Answer`."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        while not connection.chunks:
            if connection.is_complete:
                raise StopAsyncIteration
            if connection.error is not None:
                raise connection.error
            timeouts = self._call.timeouts
            due_s = self._loop.time() + timeouts.idle_s if self._began else self._first_byte_by_s
            has_come = await connection.wait(due_s)
            if has_come or connection.chunks or connection.is_complete or connection.error is not None:
                continue
            if self._began:
                raise IdleTimeout(f"the answer stopped for {timeouts.idle_s:g} s")
            raise FirstByteTimeout(f"no byte of the body within {timeouts.first_byte_s:g} s")
        self._began = True
        return connection.take()


class _Headers(Mapping[str, tuple[str, ...]]):
    """The headers of an answer, looked up where they are: most callers want two of many."""

    __slots__ = ("_lines",)

    def __init__(self, lines: list[tuple[bytes, bytes]]) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> tuple[str, ...]:
        found = self.get(name)
        if not found:
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Return the values of `name`, in the order of arrival."""
        try:
            wanted = name.encode("ascii")
        except UnicodeEncodeError:
            return default
        found = tuple([value.decode("latin-1") for key, value in self._lines if key.lower() == wanted])
        return found or default

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1").lower() for name, _ in self._lines))

    def __len__(self) -> int:
        return sum(1 for _ in self)

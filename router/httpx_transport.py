"""
The transport on httpx: the library's default, correct rather than fast.

It sits on `httpx.AsyncBaseTransport`, not on `AsyncClient`: no redirect, no proxy variable, no cookie can come in.
Timeouts are our own, by phase: httpx knows one read timeout for the head of an answer and all of its body.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import cast

import httpx

from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout, Reset, TlsError, TransportError, TruncatedBody
from router.transport import Answer, Call, Timeouts, connect_bound_s

__all__ = ["HttpxTransport"]

_PORT_MAX = 65_535
_LEAVE_S = 1.0
_H11_OF = attrgetter("stream._httpcore_stream._stream._connection._h11_state")
"""The state of an answer's connection; nothing that httpcore makes public leads there."""
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=200, keepalive_expiry=60.0)
# Without the words of httpx and h11: those quote the header that they refuse, and it may hold a key.
_UNSENDABLE = "the call has an address or a header that HTTP cannot carry"


class HttpxTransport:
    """
    A `Transport` on any `httpx.AsyncBaseTransport` (default: `httpx.AsyncHTTPTransport` with TLS verified).

    For tests: `HttpxTransport(httpx.MockTransport(handler))`.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)
        self._left: set[asyncio.Task[httpx.Response]] = set()
        """Calls that nobody waits for any more: they end themselves once their connection is made."""

    async def aclose(self) -> None:
        """Close every connection."""
        if self._left:
            await asyncio.wait(self._left, timeout=_LEAVE_S)
        await self._inner.aclose()

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncGenerator[Answer]:
        """See `router.transport.Transport`."""
        timeouts = call.timeouts
        progress = _Progress()
        connect_s = connect_bound_s(timeouts)
        loop = asyncio.get_running_loop()
        first_byte_by_s = loop.time() + timeouts.first_byte_s
        head = asyncio.ensure_future(self._inner.handle_async_request(_request_of(call, progress)))
        try:
            await asyncio.wait((head,), timeout=connect_s)
            if not (head.done() or progress.is_connecting):
                await asyncio.wait((head,), timeout=max(0.0, first_byte_by_s - loop.time()))
        except BaseException:
            await self._leave(head, progress)
            raise
        if not head.done():
            await self._leave(head, progress)
            if progress.is_left:
                raise ConnectFailed(f"no connection within {connect_s:g} s")
            raise FirstByteTimeout(f"no answer within {timeouts.first_byte_s:g} s")
        try:
            response = head.result()
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol):
            raise ConnectFailed(_UNSENDABLE) from None
        except httpx.HTTPError as error:
            raise _translated(error, answered=False) from error
        try:
            yield _HttpxAnswer(response, first_byte_by_s, timeouts)
        finally:
            _spoil_if_more(response)
            await response.aclose()

    async def _leave(self, head: asyncio.Future[httpx.Response], progress: _Progress) -> None:
        """End a call whose head nobody waits for; never while it connects, for httpcore then loses the socket."""
        if progress.is_connecting and isinstance(head, asyncio.Task) and not head.done():
            progress.is_left = True
            self._left.add(head)
            head.add_done_callback(self._left.discard)
            head.add_done_callback(lambda done: done.cancelled() or done.exception())
            return
        head.cancel()
        await asyncio.wait((head,))
        if not head.cancelled() and not head.exception():
            await head.result().aclose()


class _HttpxAnswer:
    """One answer; its body is bounded by the first-byte deadline, then by the idle timeout."""

    def __init__(self, response: httpx.Response, first_byte_by_s: float, timeouts: Timeouts) -> None:
        self.status = response.status_code
        found = response.headers
        self.headers: Mapping[str, tuple[str, ...]] = {name.lower(): tuple(found.get_list(name)) for name in found}
        self.body = self._chunks(response, first_byte_by_s, timeouts)

    @staticmethod
    async def _chunks(response: httpx.Response, first_byte_by_s: float, timeouts: Timeouts) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        # Not `aiter_raw`: that gives the connection back before anybody has looked at what else came on it.
        chunks = aiter(cast("httpx.AsyncByteStream", response.stream))
        began = False
        while True:
            try:
                async with asyncio.timeout_at(loop.time() + timeouts.idle_s if began else first_byte_by_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if began:
                    raise IdleTimeout(f"the answer stopped for {timeouts.idle_s:g} s") from None
                raise FirstByteTimeout(f"no byte of the body within {timeouts.first_byte_s:g} s") from None
            except httpx.HTTPError as error:
                raise _translated(error, answered=True) from error
            if chunk:
                began = True
                yield chunk


def _spoil_if_more(response: httpx.Response) -> None:
    """Have httpcore close a connection on which more came than the answer: it would take that for the next one's."""
    wire = response.extensions.get("network_stream")
    if wire and response.http_version != "HTTP/2":  # not a mock's, nor one whose answers have numbers
        with suppress(AttributeError, ssl.SSLError):  # an httpcore that the tests do not know; nothing more on TLS
            h11, tls = _H11_OF(response), wire.get_extra_info("ssl_object")
            if h11.trailing_data[0] or (tls and tls.read(1)):  # what is in the socket yet httpcore sees itself
                h11.send_failed()


class _Left(Exception):
    """Nobody waits for the call any more."""


class _Progress:
    """How far a call has come, as httpcore tells: its connect timeout bounds name, TCP and TLS each on its own."""

    is_connecting = False
    is_left = False

    async def note(self, event: str, info: object) -> None:
        """Take an event of httpcore's trace; raise _Left to keep it from sending."""
        if event == "connection.connect_tcp.started":
            self.is_connecting = True
        elif event.endswith(".send_request_headers.started"):
            self.is_connecting = False
            if self.is_left:
                raise _Left


def _request_of(call: Call, progress: _Progress) -> httpx.Request:
    pool_s = connect_bound_s(call.timeouts)
    try:
        request = httpx.Request(
            call.method,
            call.url,
            headers=[*call.headers],
            content=call.body,
            # Its own connect timeout comes last: it loses a socket when it fires as the connection is made.
            extensions={"timeout": {"connect": 2 * pool_s + 1, "pool": pool_s}, "trace": progress.note},
        )
    except (httpx.InvalidURL, ValueError):
        raise ConnectFailed(_UNSENDABLE) from None
    if (request.url.port or 0) > _PORT_MAX:  # httpx lets these through, to an OverflowError of the socket
        raise ConnectFailed(_UNSENDABLE)
    return request


def _translated(error: httpx.HTTPError, *, answered: bool) -> TransportError:
    """Return our error for one of httpx's; the messages of these carry no secrets, but may be empty."""
    # A TLS alert after the handshake is a broken connection: by then the peer may have the request.
    cause: BaseException | None = error if isinstance(error, httpx.ConnectError) else None
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return TlsError(f"TLS failed: {cause.reason or type(cause).__name__}")
        cause = cause.__cause__ or cause.__context__
    words = str(error) or type(error).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return ConnectFailed(f"no connection: {words}")
    if isinstance(error, httpx.RemoteProtocolError) and answered:
        return TruncatedBody(f"the answer was cut: {words}")
    return Reset(f"the connection broke: {words}")

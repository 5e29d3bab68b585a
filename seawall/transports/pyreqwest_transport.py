"""
The transport on pyreqwest: the fast one, which the gateway runs on.

pyreqwest speaks HTTP on a thread of its own (Rust: reqwest, hyper, tokio). Four of its habits shape this file:

- It buffers a streamed body unless `streamed_read_buffer_limit(0)` is asked for, and a cut then loses what came before.
- A request that is cancelled before the head of its answer goes on in its thread: the peer keeps working, and billing,
  for nobody. So every call has a lane, a client to itself, whose sockets bear its mark; `lanes` ends them. That costs a
  third more than one client for all, and some calls wait long when hundreds are under way: see `benchmarks.transports`.
- A cancellation that comes at the same moment as a result is forgotten.
- It aborts the interpreter when its thread touches Python while that shuts down. So `aclose`, and at the latest the end
  of the interpreter, ends what is open and waits until it is gone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.http import Url
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response, ResponseBodyReader

from router.errors import (
    ConnectFailed,
    FirstByteTimeout,
    IdleTimeout,
    Reset,
    TlsError,
    TransportError,
    TruncatedBody,
)
from router.transport import Answer, Call, connect_bound_s
from seawall.transports.lanes import Lane, Lanes

__all__ = ["PyreqwestTransport"]

_ROUTES_MAX = 1024
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")  # reqwest strips or turns them: another address than the one that is read
# Without the words of pyreqwest: those quote the header that they refuse, and it may hold a key.
_UNSENDABLE = "the call has an address or a header that HTTP cannot carry"


class PyreqwestTransport:
    """
    A `Transport` on pyreqwest: HTTP/1.1 with connections kept alive, TLS verified, nothing unpacked.

    `roots_pem` holds certificates to trust beside those of this machine.
    """

    def __init__(self, *, roots_pem: bytes = b"") -> None:
        self.lanes = Lanes(lambda builder: _client(builder, roots_pem))
        self._routes: dict[tuple[str, float], tuple[Url, list[Lane]]] = {}

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """See `router.transport.Transport`."""
        return _Exchange(self, call)

    async def aclose(self) -> None:
        """Close every connection; return when they are gone."""
        self._routes.clear()
        await self.lanes.aclose()

    def prepare(self, call: Call) -> tuple[Lane, StreamRequest]:
        """Return a lane of the call's origin and the call made ready on it. Raises ConnectFailed."""
        timeouts = call.timeouts
        key = (call.url, connect_bound_s(timeouts))
        url, free = self._routes.get(key) or self._route(key)
        for _, value in call.headers:
            if not value.isascii():
                raise ConnectFailed(_UNSENDABLE)
        lane = self.lanes.take(free, key[1], is_tls=call.url.startswith("https"))
        try:
            builder = lane.client.request(call.method, url).headers(call.headers).body_bytes(call.body)
            return lane, builder.streamed_read_buffer_limit(0).build_streamed()
        except (ValueError, TypeError, PyreqwestError):
            self.lanes.give_back(lane)
            raise ConnectFailed(_UNSENDABLE) from None

    def _route(self, key: tuple[str, float]) -> tuple[Url, list[Lane]]:
        try:
            url = Url(key[0])
            origin = (url.origin_ascii, key[1])
        except ValueError:
            raise ConnectFailed(_UNSENDABLE) from None
        if url.scheme not in ("http", "https") or _AMBIGUOUS.search(key[0]):
            raise ConnectFailed(_UNSENDABLE)
        if len(self._routes) >= _ROUTES_MAX:
            self._routes.clear()
        route = self._routes[key] = (url, self.lanes.of(origin))
        return route


class _Exchange:
    """One call: the block around it, its answer, and the chunks of its body, in one object because each costs time."""

    __slots__ = (
        "_armed_s",
        "_began",
        "_call",
        "_cancelling",
        "_due_s",
        "_ended",
        "_first_byte_by_s",
        "_is_due",
        "_lane",
        "_loop",
        "_reader",
        "_request",
        "_response",
        "_timeouts",
        "_timer",
        "_transport",
        "_waiter",
        "status",
    )

    def __init__(self, transport: PyreqwestTransport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._timeouts = call.timeouts
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Task[Any] | None = None
        self._reader: ResponseBodyReader | None = None
        self._is_due = self._ended = self._began = False
        self.status = 0

    async def __aenter__(self) -> Answer:
        self._lane, self._request = self._transport.prepare(self._call)
        self._loop = loop = asyncio.get_running_loop()
        self._first_byte_by_s = loop.time() + self._timeouts.first_byte_s
        self._wait_until(self._first_byte_by_s)
        try:
            self._response: Response = await self._request.__aenter__()
            self._raise_lost()
        except PyreqwestError as error:
            self._stop()
            self._transport.lanes.give_back(self._lane)
            raise _unanswered(error) from error
        except BaseException as error:
            self._transport.lanes.doom(self._lane)
            is_timeout = isinstance(error, asyncio.CancelledError) and self._is_ours()
            self._stop()
            if is_timeout:
                raise FirstByteTimeout(f"no answer within {self._timeouts.first_byte_s:g} s") from None
            raise
        self._waiter = None
        self.status = self._response.status
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if not self._ended:
            self._ended = True
            await self._request.__aexit__(None, None, None)  # closes the connection, and never waits
        self._transport.lanes.give_back(self._lane)

    @property
    def headers(self) -> Mapping[str, tuple[str, ...]]:
        """See `router.transport.Answer`."""
        return _Headers(self._response)

    @property
    def body(self) -> AsyncIterator[bytes]:
        """See `router.transport.Answer`."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        if self._reader is None:
            self._reader = self._response.body_reader
        self._wait_until(self._loop.time() + self._timeouts.idle_s if self._began else self._first_byte_by_s)
        try:
            chunk = await self._reader.read_chunk()
            self._raise_lost()
        except PyreqwestError as error:
            raise _cut(error) from error
        except asyncio.CancelledError:
            if not self._is_ours():
                raise
            if self._began:
                raise IdleTimeout(f"the answer stopped for {self._timeouts.idle_s:g} s") from None
            raise FirstByteTimeout(f"no byte of the body within {self._timeouts.first_byte_s:g} s") from None
        finally:
            self._waiter = None
        if chunk is None:
            self._ended = True
            raise StopAsyncIteration
        self._began = True
        return chunk.to_bytes()

    # One timer a call instead of one a chunk: it looks, when it rings, whether the time that counts now is over.
    def _wait_until(self, due_s: float) -> None:
        self._due_s = due_s
        self._waiter = task = asyncio.current_task()
        self._cancelling = 0 if task is None else task.cancelling()
        if self._timer is not None:
            if self._armed_s <= due_s:
                return
            self._timer.cancel()
        self._armed_s = due_s
        self._timer = self._loop.call_at(due_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None:
            return
        if self._loop.time() < self._due_s:
            self._armed_s = self._due_s
            self._timer = self._loop.call_at(self._due_s, self._ring)
            return
        self._is_due = True
        waiter.cancel()

    def _raise_lost(self) -> None:
        """Raise the cancellation that came while we waited: pyreqwest forgets it when it has a result just then."""
        task = self._waiter
        if task is not None and task.cancelling() > self._cancelling and not self._is_ours():
            raise asyncio.CancelledError

    def _is_ours(self) -> bool:
        """Say whether our own timer cancelled the task, and nobody else did too; then take it back."""
        is_due, self._is_due = self._is_due, False
        return is_due and self._waiter is not None and self._waiter.uncancel() <= self._cancelling

    def _stop(self) -> None:
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Headers(Mapping[str, tuple[str, ...]]):
    """The headers of an answer, looked up where they are: most callers want two. One that is no text is none."""

    __slots__ = ("_response",)

    def __init__(self, response: Response) -> None:
        self._response = response

    def __getitem__(self, name: str) -> tuple[str, ...]:
        found = self.get(name)
        if not found or name != name.lower():
            raise KeyError(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Return the values of `name`, in the order of arrival."""
        try:
            return tuple(self._response.get_header_all(name)) or default
        except ValueError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._response.headers.keys()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _client(builder: ClientBuilder, roots_pem: bytes) -> Client:
    for unpack in (builder.gzip, builder.brotli, builder.zstd, builder.deflate):
        unpack(False)
    if roots_pem:
        builder.add_root_certificate_pem(roots_pem)
    builder.http1_only().http1_lower_case_headers().user_agent("seawall")
    return builder.no_proxy().follow_redirects(False).referer(False).build()


def _causes(error: PyreqwestError) -> list[str]:
    """Return what went wrong from the outermost to the innermost, without the line that names the address."""
    details: dict[str, Any] = getattr(error, "details", None) or {}
    return [cause["message"] for cause in details.get("causes") or ()][1:]


def _unanswered(error: PyreqwestError) -> TransportError:
    """Return our error for a call that got no head. pyreqwest's own classes do not say whether it was sent."""
    causes = _causes(error)
    words = causes[-1] if causes else error.message
    if causes[:1] != ["client error (Connect)"]:
        return Reset(f"the connection broke: {words}")
    is_tcp = causes[1:2] in (["tcp connect error"], ["dns error"]) or isinstance(error, RequestTimeoutError)
    return ConnectFailed(f"no connection: {words}") if is_tcp else TlsError(f"TLS failed: {words}")


def _cut(error: PyreqwestError) -> TransportError:
    words = (_causes(error) or [error.message])[-1]
    if "(os error" in words:
        return Reset(f"the connection broke: {words}")
    return TruncatedBody(f"the answer was cut: {words}")

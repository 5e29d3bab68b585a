"""What the transport on httptools does beyond what every transport promises: whom it trusts, and what it costs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest

from router.errors import ConnectFailed, FirstByteTimeout, Reset, TransportError, TruncatedBody
from router.transport import Call, Timeouts
from seawall.transports import httptools_transport, pool
from seawall.transports.heads import Origin, head_of
from seawall.transports.httptools_transport import HttptoolsTransport

Wire = Any  # one connection as the peer holds it: see conftest.py
Ask = Callable[..., Awaitable[bytes]]
CallTo = Callable[..., Call]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)


async def greet(wire: Wire) -> None:
    """Answer every request of a connection with `hello`."""
    while True:
        await wire.request()
        await wire.send(WHOLE)


@pytest.fixture
async def transport() -> AsyncIterator[HttptoolsTransport]:
    """Return the transport that this file is about."""
    made = HttptoolsTransport()
    yield made
    await made.aclose()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - their number is all that is wanted


class Steps:
    """Counts how often a coroutine gives way until it is done."""

    def __init__(self, what: Coroutine[Any, Any, bytes]) -> None:
        self._what = what
        self.count = 0

    def __await__(self) -> Generator[Any, Any, bytes]:
        """Go on with the coroutine."""
        inner = self._what.__await__()
        while True:
            try:
                step = next(inner)
            except StopIteration as end:
                return end.value
            self.count += 1
            yield step


async def test_a_whole_answer_wakes_its_caller_once(ask: Ask, peer: MakePeer) -> None:
    """On a connection that is there, a call gives way a single time when head and body come in one read."""
    async with peer(greet) as server:
        for n in range(3):
            steps = Steps(ask(server.url))  # type: ignore[arg-type] - it is a coroutine
            assert await steps == b"hello"
            assert steps.count == 1 or n == 0


async def test_parts_that_came_in_one_read_are_one_chunk(ask: Ask, peer: MakePeer) -> None:
    """Chunks of HTTP that arrive together are handed on together."""

    async def together(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")

    got: list[bytes] = []
    async with peer(together) as server:
        await ask(server.url, got=got)
    assert got == [b"onetwo"]


async def test_a_trailer_adds_no_header(transport: HttptoolsTransport, call_to: CallTo, peer: MakePeer) -> None:
    """What a peer says behind the body changes nothing of the head that was acted on; the connection is used again."""

    async def trail(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(CHUNKED + b"3\r\none\r\n0\r\nx-late: 1\r\n\r\n")

    async with peer(trail) as server:
        for _ in range(2):
            async with transport.send(call_to(server.url)) as answer:
                assert [chunk async for chunk in answer.body] == [b"one"]
                assert set(answer.headers) == {"content-type", "transfer-encoding"}
        assert server.connections == 1


@pytest.mark.parametrize("extra", [b"x", b"\r\n\r\n", b"HTTP/1.1 2", WHOLE.replace(b"hello", b"wrong")])
@pytest.mark.parametrize("gap_s", [0, 0.02])
async def test_what_nobody_asked_for_is_nobodys_answer(ask: Ask, peer: MakePeer, extra: bytes, gap_s: float) -> None:
    """Bytes behind an answer, in the same read or later, never become a part of the next one."""

    async def more(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(WHOLE + (b"" if gap_s else extra))
            if gap_s:
                await asyncio.sleep(gap_s)
                await wire.send(extra)

    async with peer(more) as server:
        for _ in range(3):
            assert await ask(server.url) == b"hello"
            await asyncio.sleep(2 * gap_s)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_is_whole(ask: Ask, peer: MakePeer, status: bytes) -> None:
    """Some answers have no body and no length; the connection is used again."""

    async def nothing(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 %b\r\n\r\n" % status)

    async with peer(nothing) as server:
        for _ in range(2):
            assert await ask(server.url) == b""
        assert server.connections == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_call_without_a_body_tells_no_length(
    transport: HttptoolsTransport, peer: MakePeer, method: str
) -> None:
    """A GET and a HEAD carry no content-length; of what a HEAD is answered the length is no body to wait for."""
    seen: list[bytes] = []

    async def note(wire: Wire) -> None:
        seen.append((await wire.request())[0])
        await wire.send(WHOLE if method == "GET" else WHOLE.removesuffix(b"hello"))
        await wire.gone()

    async with asyncio.timeout(5), peer(note) as server:
        call = Call(method=method, url=server.url + "?a=b#c", headers=(), body=b"", timeouts=PATIENT)
        async with transport.send(call) as answer:
            assert b"".join([chunk async for chunk in answer.body]) == (b"hello" if method == "GET" else b"")
            assert {name: answer.headers[name] for name in answer.headers} == {"content-length": ("5",)}
            assert len(answer.headers) == 1
            assert "Content-Length" not in answer.headers
            assert answer.headers.get("\u20ac") is None
    assert seen == [b"%b /?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % (method.encode(), server.port)]


@pytest.mark.parametrize("before", [b"HTTP/1.1 100 Go on\r\n\r\n", b"", CHUNKED + b"3\r\none\r\n0\r\n"])
async def test_a_head_or_trailer_without_an_end_is_broken_off(ask: Ask, peer: MakePeer, before: bytes) -> None:
    """Interim answers, a head or a trailer that go on for ever cost a bounded number of bytes."""
    sent = 0

    async def endless(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(before if before != b"" else b"HTTP/1.1 200 OK\r\n")
        for _ in range(10_000):
            await wire.send(before * 400 if before.startswith(b"HTTP/1.1 100") else b"x-more: 1\r\n" * 1000)
            sent += 1

    async with asyncio.timeout(10), peer(endless) as server:
        with pytest.raises((Reset, TruncatedBody)):
            await ask(server.url)
    assert sent < 2000


async def test_an_answer_that_comes_too_early_frees_no_connection(ask: Ask, peer: MakePeer) -> None:
    """Who is refused before all of his call has left gets the answer; the rest is not sent ahead of the next call."""

    async def refuse(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        await asyncio.sleep(0.2)

    async with asyncio.timeout(10), peer(refuse, greet) as server:
        assert await ask(server.url, body=b"x" * 30_000_000) == b"large"
        assert await ask(server.url) == b"hello"
        assert server.connections == 2


async def test_a_deaf_address_leaves_time_for_the_next(
    ask: Ask, peer: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a name with two addresses the second is reached when the first swallows everything; then it comes first."""

    async def two(self: pool.Pool) -> list[str]:
        return sorted(["127.0.0.2", "127.0.0.1"], key=lambda one: (one != self._preferred, one == "127.0.0.1"))

    monkeypatch.setattr(pool.Pool, "_addresses", two)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10), peer(greet) as server:
        with socket.socket() as full:
            full.bind(("127.0.0.2", server.port))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            start_s = loop.time()
            timeouts = Timeouts(connect_s=1, first_byte_s=5, idle_s=5)
            assert await ask(f"http://a.name:{server.port}", timeouts=timeouts) == b"hello"
            assert loop.time() - start_s > 0.4
            start_s = loop.time()
            answers = await asyncio.gather(*(ask(f"http://a.name:{server.port}", timeouts=timeouts) for _ in range(4)))
            assert answers == [b"hello"] * 4
            assert loop.time() - start_s < 0.4
            for one in waiting:
                one.close()


async def test_a_name_is_resolved(ask: Ask, peer: MakePeer) -> None:
    """`localhost` is an address like any other; a name that none can be is `ConnectFailed`."""
    async with peer(greet) as server:
        assert await ask(f"http://localhost:{server.port}") == b"hello"
        with pytest.raises(ConnectFailed):
            await ask(f"http://{'x' * 70}.invalid")


async def test_an_idle_connection_is_not_kept_for_ever(
    ask: Ask, peer: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that nobody has used for a while is closed, and where enough wait, one more does not."""
    monkeypatch.setattr(pool, "_IDLE_S", 0.1)
    monkeypatch.setattr(pool, "_IDLE_MAX", 2)
    async with asyncio.timeout(5), peer(greet) as server:
        await asyncio.gather(*(ask(server.url) for _ in range(4)))
        assert server.connections == 4
        await asyncio.gather(*(ask(server.url) for _ in range(4)))
        assert server.connections == 6
        await server.settled()
        assert await ask(server.url) == b"hello"
        assert server.connections == 7


async def test_there_is_a_most_of_everything(ask: Ask, peer: MakePeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most connections or origins a call is `ConnectFailed`; of heads it has made it forgets the old."""
    monkeypatch.setattr(httptools_transport, "_CONNECTIONS_MAX", 3)
    monkeypatch.setattr(httptools_transport, "_POOLS_MAX", 1)
    monkeypatch.setattr(httptools_transport, "_HEADS_MAX", 2)

    async def slow(wire: Wire) -> None:
        while True:
            await wire.request()
            await asyncio.sleep(0.1)
            await wire.send(WHOLE)

    async with peer(slow) as server:
        first = asyncio.gather(*(ask(server.url) for _ in range(3)))
        await asyncio.sleep(0)
        with pytest.raises(ConnectFailed, match="3 connections"):
            await ask(server.url)
        assert await first == [b"hello"] * 3
        for n in range(5):
            assert await ask(f"{server.url}/{n}") == b"hello"
        with pytest.raises(ConnectFailed, match="origins"):
            await ask(f"http://localhost:{server.port}")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_calls_that_are_left_while_they_connect_leave_nothing(
    transport: HttptoolsTransport, call_to: CallTo, peer: MakePeer, scheme: str
) -> None:
    """Cancelled or late between the first packet and the end of the handshake: every descriptor is given back."""

    async def dumb(wire: Wire) -> None:
        await wire.gone()

    async def call(n: int) -> None:
        timeouts = Timeouts(connect_s=0.05 if n % 2 else 5, first_byte_s=0.1 if n % 3 else 5, idle_s=5)
        with suppress(TransportError):
            async with transport.send(call_to(server.url.replace("http", scheme), timeouts=timeouts)):
                pass

    async with asyncio.timeout(20), peer(dumb) as server:
        before = _descriptors()
        for turn in range(10):
            tasks = [asyncio.ensure_future(call(n)) for n in range(20)]
            await asyncio.sleep(0.002 * turn)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.sleep(0.15)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await transport.aclose()
        await server.settled()
        await asyncio.sleep(0.1)
        assert _descriptors() <= before + 2


async def test_a_call_that_connects_while_the_transport_closes_is_not_sent(
    transport: HttptoolsTransport, ask: Ask, peer: MakePeer
) -> None:
    """Whoever is still connecting at `aclose` gets `ConnectFailed`, and no connection outlives the transport."""
    seen: list[bytes] = []

    async def note(wire: Wire) -> None:
        seen.append((await wire.request())[0])

    async with asyncio.timeout(5), peer(note) as server:
        task = asyncio.ensure_future(ask(server.url))
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ConnectFailed):
            await task
        await server.settled()
    assert not seen


async def test_a_timeout_is_exact_on_a_connection_that_was_used(ask: Ask, peer: MakePeer) -> None:
    """One timer serves all calls of a connection, the longer ones before and the shorter ones after."""

    async def first_only(wire: Wire) -> None:
        await wire.request()
        await wire.send(WHOLE)
        await wire.request()
        await wire.gone()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10), peer(first_only) as server:
        for first_s, second_s in ((5, 0.2), (0.2, 0.4)):
            assert await ask(server.url, timeouts=Timeouts(connect_s=1, first_byte_s=first_s, idle_s=5)) == b"hello"
            start_s = loop.time()
            with pytest.raises(FirstByteTimeout):
                await ask(server.url, timeouts=Timeouts(connect_s=1, first_byte_s=second_s, idle_s=5))
            assert second_s - 0.01 <= loop.time() - start_s < second_s + 1


@pytest.mark.parametrize(
    ("url", "origin", "begins"),
    [
        ("https://Host.Example", Origin(True, "host.example", 443), b"POST / HTTP/1.1\r\nhost: host.example\r\n"),
        ("http://host:80/a/b?c", Origin(False, "host", 80), b"POST /a/b?c HTTP/1.1\r\nhost: host\r\n"),
        ("https://[::1]:8443/", Origin(True, "::1", 8443), b"POST / HTTP/1.1\r\nhost: [::1]:8443\r\n"),
        ("http://h?q#f", Origin(False, "h", 80), b"POST /?q HTTP/1.1\r\nhost: h\r\n"),
    ],
)
def test_a_head_says_where_and_what(url: str, origin: Origin, begins: bytes) -> None:
    """Address and headers become the lines that HTTP/1.1 asks for, ready for the length of the body."""
    assert head_of("POST", url, (("x-a", "1 2"), ("x-a", ""))) == (origin, begins + b"x-a: 1 2\r\nx-a: \r\n")


@pytest.mark.parametrize(
    ("method", "url", "header"),
    [
        ("P OST", "http://h", ("a", "b")),
        ("POST", "http://u:p@h", ("a", "b")),
        ("POST", "http://h:0", ("a", "b")),
        ("POST", "http://h/a b", ("a", "b")),
        ("POST", "http://h\\@i", ("a", "b")),
        ("POST", "http://h\u00e9", ("a", "b")),
        ("POST", "http://h", ("a b", "b")),
        ("POST", "http://h", ("", "b")),
        ("POST", "http://h", ("a", "b\x00")),
        ("POST", "http://h", ("Content-Length", "5")),
        ("POST", "http://h", ("transfer-encoding", "chunked")),
        ("POST", "http://h", ("host", "i")),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(method: str, url: str, header: tuple[str, str]) -> None:
    """What would end a line, move the body's end, or name another host is `ConnectFailed`: nothing was sent."""
    with pytest.raises(ConnectFailed):
        head_of(method, url, (header,))


def test_a_trace_costs_no_head_of_its_own(transport: HttptoolsTransport) -> None:
    """Calls that differ in their trace only share one head, each goes out with its own, and a bad one is refused."""

    def head(*headers: tuple[str, str]) -> bytes:
        call = Call(method="POST", url="http://127.0.0.1:9/v1", headers=headers, body=b"{}", timeouts=PATIENT)
        return transport.prepare(call)[1]

    plain = head(("authorization", "a"))
    for n in range(3):
        told = (("traceparent", f"00-{n}"), ("tracestate", f"a={n}"))
        found = head(("authorization", "a"), *told)
        assert found.startswith(plain)
        assert sorted(found[len(plain) :].split(b"\r\n")) == [b"", b"traceparent: 00-%d" % n, b"tracestate: a=%d" % n]
    assert len(transport._heads) == 1
    with pytest.raises(ConnectFailed):
        head(("authorization", "a"), ("traceparent", "00\r\nx: y"))

"""
What every implementation of `router.transport.Transport` promises, seen over real sockets: calls, bodies, connections.

The peers are bare servers that do what their script says and nothing more.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import httpx
import pytest

from router.httpx_transport import HttpxTransport
from router.transport import Call, Timeouts, Transport

Wire = Any  # one connection as the peer holds it: see conftest.py
Ask = Callable[..., Awaitable[bytes]]
CallTo = Callable[..., Call]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
HASTY = Timeouts(connect_s=5, first_byte_s=0.15, idle_s=0.15)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


async def greet(wire: Wire) -> None:
    """Answer every request of a connection with `hello`."""
    while True:
        await wire.request()
        await wire.send(WHOLE)


async def test_the_call_goes_out_as_it_is(ask: Ask, peer: MakePeer) -> None:
    """Method, path, query, headers and body arrive unchanged, and nothing is added that changes the answer."""
    seen: list[tuple[bytes, bytes]] = []

    async def note(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.send(WHOLE)

    async with peer(note) as server:
        assert await ask(f"{server.url}/a/b?c=d%20e", body=b'{"x": 1}') == b"hello"
    head, body = seen[0]
    lines = head.split(b"\r\n")
    names = {line.partition(b":")[0].lower() for line in lines[1:] if line}
    assert lines[0] == b"POST /a/b?c=d%20e HTTP/1.1"
    assert body == b'{"x": 1}'
    # pyreqwest cannot be talked out of these two; to accept anything is what saying nothing means.
    assert names - {b"accept", b"user-agent"} == {b"host", b"x-test", b"content-length"}


async def test_headers_are_in_lower_case_with_all_their_values(
    transport: Transport, call_to: CallTo, peer: MakePeer
) -> None:
    """A header that comes twice has both values, in order, under its name in lower case."""

    async def twice(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 418 Teapot\r\nSet-Cookie: a=1\r\nX-One: 1\r\nset-cookie: b=2\r\n")
        await wire.send(b"content-length: 0\r\n\r\n")

    async with peer(twice) as server, transport.send(call_to(server.url)) as answer:
        assert answer.status == 418
        assert answer.headers["set-cookie"] == ("a=1", "b=2")
        assert answer.headers["x-one"] == ("1",)
        assert [chunk async for chunk in answer.body] == []


async def test_a_body_is_not_unpacked(ask: Ask, peer: MakePeer) -> None:
    """Whatever content-encoding the peer claims, the bytes are handed on as they came: no bomb is unpacked."""

    async def packed(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello")

    async with peer(packed) as server:
        assert await ask(server.url) == b"hello"


async def test_body_until_the_connection_ends_is_whole(ask: Ask, peer: MakePeer) -> None:
    """Without a length an answer lasts until the peer closes, and that is no cut."""

    async def old(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")
        wire.close()

    async with peer(old) as server:
        assert await ask(server.url) == b"hello"


async def test_connections_are_used_again(ask: Ask, peer: MakePeer) -> None:
    """Five calls, one after the other, need one connection."""
    async with peer(greet) as server:
        for _ in range(5):
            assert await ask(server.url) == b"hello"
        assert server.connections == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_died_while_idle_never_surfaces(ask: Ask, peer: MakePeer, how: str) -> None:
    """When the peer ends the connection between two calls, the second goes over a new one."""

    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(WHOLE)
        # A reset must not overtake the answer.
        await asyncio.sleep(0.05)
        wire.reset() if how == "reset" else wire.close()

    async with peer(once) as server:
        for n in range(1, 4):
            assert await ask(server.url) == b"hello"
            await server.settled()
            await asyncio.sleep(0.02)
            assert server.connections == n


async def test_an_end_that_nobody_has_seen_yet_never_surfaces(ask: Ask) -> None:
    """A connection that ended while our event loop was busy is not used either: the next call goes over a new one."""
    end, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(3):
            with listener.accept()[0] as wire:
                while b"\r\n\r\n" not in wire.recv(65_536):
                    pass
                wire.sendall(WHOLE)
                end.wait(5)
                end.clear()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        for _ in range(3):
            assert await ask(f"http://127.0.0.1:{listener.getsockname()[1]}") == b"hello"
            end.set()
            time.sleep(0.05)  # noqa: ASYNC251 - the loop must not see it
    thread.join(5)


async def test_answers_before_the_answer_are_passed_over(ask: Ask, peer: MakePeer) -> None:
    """Interim answers (100, 102, 103) come before the one that counts, and are not it."""

    async def early(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
            await asyncio.sleep(0.01)
            await wire.send(b"HTTP/1.1 102 Processing\r\n\r\n" + WHOLE)

    async with peer(early) as server:
        for _ in range(2):
            assert await ask(server.url) == b"hello"
        assert server.connections == 1


async def test_a_reader_who_stops_stops_the_peer(transport: Transport, call_to: CallTo, peer: MakePeer) -> None:
    """What is not read is not taken in without bounds: the peer has to wait; then all of it comes, in order."""
    blocks, sent = 500, 0

    async def pour(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (blocks * 100_000))
        for n in range(blocks):
            await wire.send(bytes([n % 251]) * 100_000)
            sent += 1

    size = total = 0
    async with asyncio.timeout(20), peer(pour) as server, transport.send(call_to(server.url)) as answer:
        size = len(await anext(answer.body))
        await asyncio.sleep(0.3)
        assert sent * 100_000 < 20_000_000
        total = size
        async for chunk in answer.body:
            assert chunk[0] == total // 100_000 % 251
            total += len(chunk)
    assert total == blocks * 100_000


async def test_a_slow_but_steady_body_is_no_timeout(ask: Ask, peer: MakePeer) -> None:
    """The idle timeout starts anew with every chunk: a body may last many times as long."""

    async def dribble(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        for _ in range(10):
            await wire.chunk(b"x")
            await asyncio.sleep(0.06)
        await wire.send(b"0\r\n\r\n")

    timeouts = Timeouts(connect_s=5, first_byte_s=5, idle_s=0.3)
    async with peer(dribble) as server:
        assert await ask(server.url, timeouts=timeouts) == b"x" * 10


async def test_a_reader_who_takes_his_time_is_no_timeout(transport: Transport, call_to: CallTo, peer: MakePeer) -> None:
    """What a caller does between two chunks is not the peer's silence."""

    async def quick(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        for n in range(3):
            await wire.chunk(b"%d" % n)
            await asyncio.sleep(0.01)
        await wire.send(b"0\r\n\r\n")

    got = b""
    async with peer(quick) as server, transport.send(call_to(server.url, timeouts=HASTY)) as answer:
        async for chunk in answer.body:
            got += chunk
            await asyncio.sleep(0.2)
    assert got == b"012"


async def test_chunks_are_delivered_as_they_arrive(transport: Transport, call_to: CallTo, peer: MakePeer) -> None:
    """Chunk k is in the caller's hands before k + 1 is sent: the peer waits for the sign."""
    signs = [asyncio.Event() for _ in range(5)]

    async def patient(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        for n, sign in enumerate(signs):
            await wire.chunk(b"%d" % n)
            await sign.wait()
        await wire.send(b"0\r\n\r\n")

    got: list[bytes] = []
    async with asyncio.timeout(5), peer(patient) as server, transport.send(call_to(server.url)) as answer:
        async for chunk in answer.body:
            got.append(chunk)
            signs[int(chunk)].set()
    assert got == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("after", [b"", CHUNKED, CHUNKED + b"3\r\none\r\n"])
async def test_cancellation_closes_the_connection(ask: Ask, peer: MakePeer, after: bytes) -> None:
    """Cancelled before the head, after it, or in the body: the peer sees the end of the connection at once."""
    reached, left = asyncio.Event(), asyncio.Event()

    async def wait(wire: Wire) -> None:
        await wire.request()
        await wire.send(after)
        reached.set()
        await wire.gone()
        left.set()

    async with asyncio.timeout(3), peer(wait) as server:
        task = asyncio.ensure_future(ask(server.url))
        await reached.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


@pytest.mark.parametrize("error", [None, KeyError("the caller's own")])
async def test_leaving_early_closes_the_connection(
    transport: Transport, ask: Ask, call_to: CallTo, peer: MakePeer, error: KeyError | None
) -> None:
    """Whoever leaves the block with the body unread ends the connection; it is not used again."""
    left = asyncio.Event()

    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        await wire.chunk(b"one")
        await wire.gone()
        left.set()

    async with asyncio.timeout(3), peer(endless, greet) as server:
        with pytest.raises(KeyError) if error else nullcontext():
            async with transport.send(call_to(server.url)) as answer:
                assert await anext(answer.body) == b"one"
                if error:
                    raise error
        await left.wait()
        assert await ask(server.url) == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(transport: Transport, call_to: CallTo, peer: MakePeer, status: int) -> None:
    """A redirect is an answer like any other; nobody calls where it points."""
    async with peer(greet) as elsewhere:

        async def away(wire: Wire) -> None:
            await wire.request()
            location = f"location: {elsewhere.url}/\r\n".encode()
            await wire.send(b"HTTP/1.1 %d Moved\r\n%bcontent-length: 0\r\n\r\n" % (status, location))

        async with peer(away) as server, transport.send(call_to(server.url)) as answer:
            assert answer.status == status
        assert elsewhere.connections == 0


async def test_proxy_variables_are_not_read(
    make_transport: Callable[[], Transport], call_to: CallTo, peer: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever proxy the environment names, the call goes straight to its host."""
    async with peer(greet) as proxy, peer(greet) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        transport = make_transport()
        try:
            async with transport.send(call_to(server.url)) as answer:
                assert [chunk async for chunk in answer.body] == [b"hello"]
        finally:
            await transport.aclose()
        assert (proxy.connections, server.connections) == (0, 1)


@pytest.mark.parametrize("clients", [8, 32])
async def test_many_at_once_each_get_their_own_answer(ask: Ask, peer: MakePeer, clients: int) -> None:
    """Calls at the same time do not mix, in four rounds over connections that are used again."""

    async def echo(wire: Wire) -> None:
        while True:
            _, body = await wire.request()
            await wire.send(CHUNKED)
            for byte in body:
                await wire.chunk(bytes([byte]))
                await asyncio.sleep(0)
            await wire.send(b"0\r\n\r\n")

    async with peer(echo) as server:
        for turn in range(4):
            bodies = [b"%d of turn %d" % (n, turn) for n in range(clients)]
            answers = await asyncio.gather(*(ask(server.url, body=body) for body in bodies))
            assert answers == bodies
        assert server.connections <= clients


async def test_empty_chunks_are_not_handed_on(call_to: CallTo) -> None:
    """Any httpx transport will do, and what it has nothing to say in between is left out."""

    class Stuttering(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in (b"", b"one", b"", b"two", b""):
                yield chunk

    transport = HttpxTransport(httpx.MockTransport(lambda request: httpx.Response(200, stream=Stuttering())))
    async with transport.send(call_to("http://host")) as answer:
        assert [chunk async for chunk in answer.body] == [b"one", b"two"]
    await transport.aclose()

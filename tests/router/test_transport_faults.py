"""
What every implementation of `router.transport.Transport` promises when the peer fails it: only the named errors.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout, Reset, TransportError, TruncatedBody
from router.transport import Call, Timeouts, Transport

Wire = Any  # one connection as the peer holds it: see conftest.py
Ask = Callable[..., Awaitable[bytes]]
CallTo = Callable[..., Call]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
HASTY = Timeouts(connect_s=5, first_byte_s=0.15, idle_s=0.15)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
SECRET = "sk-very-secret"


async def close(wire: Wire) -> None:
    """Take a connection and end it."""
    wire.close()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_end_before_the_first_byte_is_a_reset(ask: Ask, peer: MakePeer, how: str) -> None:
    """A peer that takes the request and goes away, in order or not, is `Reset`; it may have acted on the call."""

    async def leave(wire: Wire) -> None:
        await wire.request()
        wire.reset() if how == "reset" else wire.close()

    async with peer(leave) as server:
        with pytest.raises(Reset) as caught:
            await ask(server.url)
        assert caught.value.sent
        assert server.connections == 1


async def test_refused_is_connect_failed(ask: Ask) -> None:
    """A port that nobody listens on is `ConnectFailed`: nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectFailed) as caught:
        await ask(f"http://127.0.0.1:{port}")
    assert not caught.value.sent


async def test_unknown_host_is_connect_failed(ask: Ask) -> None:
    """A name that cannot be resolved is `ConnectFailed`."""
    with pytest.raises(ConnectFailed):
        await ask("http://seawall.invalid")


async def test_handshake_without_an_answer_is_connect_failed(ask: Ask) -> None:
    """A host that swallows the SYN is `ConnectFailed` after the connect timeout, not a first-byte timeout."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            timeouts = Timeouts(connect_s=0.2, first_byte_s=5, idle_s=5)
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            async with asyncio.timeout(3):
                with pytest.raises(ConnectFailed):
                    await ask(url, timeouts=timeouts)
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", CHUNKED])
async def test_silence_before_the_body_is_a_first_byte_timeout(ask: Ask, peer: MakePeer, sent: bytes) -> None:
    """Nothing, half a head, or a head without a body: `FirstByteTimeout`, and the connection is closed."""
    left = asyncio.Event()

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.send(sent)
        await wire.gone()
        left.set()

    async with peer(silent) as server, asyncio.timeout(3):
        with pytest.raises(FirstByteTimeout):
            await ask(server.url, timeouts=HASTY)
        await left.wait()


async def test_silence_in_the_body_is_an_idle_timeout(ask: Ask, peer: MakePeer) -> None:
    """After chunks that came, silence is `IdleTimeout`; the chunks were delivered."""
    left = asyncio.Event()

    async def stop(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        await wire.chunk(b"one")
        await wire.chunk(b"two")
        await wire.gone()
        left.set()

    got: list[bytes] = []
    async with peer(stop) as server, asyncio.timeout(3):
        with pytest.raises(IdleTimeout):
            await ask(server.url, timeouts=HASTY, got=got)
        await left.wait()
    assert b"".join(got) == b"onetwo"


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_cut_body_delivers_what_came_and_then_says_so(
    transport: Transport, call_to: CallTo, peer: MakePeer, how: str, count: int
) -> None:
    """A chunked body that ends early is `TruncatedBody`, or `Reset` when it was one, after every chunk before it."""
    received = asyncio.Event()

    async def cut(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        for n in range(count):
            await wire.chunk(b"%d" % n)
        if how == "reset":
            # A reset discards what the other side has not read yet; that is TCP, not the transport.
            await received.wait()
            wire.reset()
        else:
            wire.close()

    got = b""
    async with peer(cut) as server, transport.send(call_to(server.url)) as answer:
        with pytest.raises(Reset if how == "reset" else TruncatedBody):  # noqa: PT012 - what came before is kept
            async for chunk in answer.body:
                got += chunk
                if len(got) == count:
                    received.set()
    assert got == b"0123456789"[:count]


async def test_body_shorter_than_its_length_is_truncated(ask: Ask, peer: MakePeer) -> None:
    """With a content-length, too, an early end is `TruncatedBody`, after what came."""

    async def short(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        wire.close()

    got: list[bytes] = []
    async with peer(short) as server:
        with pytest.raises(TruncatedBody):
            await ask(server.url, got=got)
    assert b"".join(got) == b"hello"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"NOPE\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n",
        CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"f" * 40 + b"\r\n",
    ],
)
async def test_nonsense_is_a_transport_error(ask: Ask, peer: MakePeer, nonsense: bytes) -> None:
    """Whatever the peer sends that is no HTTP, or without bounds, comes out as a named error."""

    async def babble(wire: Wire) -> None:
        await wire.request()
        await wire.send(nonsense)
        wire.close()

    async with peer(babble) as server, asyncio.timeout(5):
        with pytest.raises(TransportError):
            await ask(server.url)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://127.0.0.1:99999", ""),
        ("http://[::1", ""),
        ("http://127.0.0.1:1/\n", ""),
        ("gopher://127.0.0.1:1", ""),
        ("http://", ""),
        ("", ""),
        ("{url}", f"Bearer {SECRET}\r\nx: y"),
        ("{url}", f"Bearer {SECRET}\n"),
        ("{url}", f"Bearer {SECRET}\u20ac"),
    ],
)
async def test_a_call_that_cannot_be_sent_is_connect_failed(ask: Ask, peer: MakePeer, url: str, header: str) -> None:
    """An address or a header that HTTP has no form for is `ConnectFailed`, and no message repeats the header."""
    async with peer(close) as server:
        headers = (("authorization", header),) if header else ()
        call = Call(method="POST", url=url.format(url=server.url), headers=headers, body=b"", timeouts=PATIENT)
        with pytest.raises(ConnectFailed) as caught:
            await ask(call)
        shown = f"{caught.value!s} {caught.value!r} {caught.value.__cause__!r}"
        assert SECRET not in shown

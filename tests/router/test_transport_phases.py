"""
What every implementation of `router.transport.Transport` promises about the phases of a call: whose fault an end is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import pytest

from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout, Reset, TransportError
from router.transport import Call, Timeouts, Transport
from seawall.transports.httptools_transport import HttptoolsTransport
from seawall.transports.pyreqwest_transport import PyreqwestTransport

Wire = Any  # one connection as the peer holds it: see conftest.py
Ask = Callable[..., Awaitable[bytes]]
CallTo = Callable[..., Call]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@contextmanager
def _deaf() -> Iterator[str]:
    """Yield the address of a host that swallows every attempt to connect."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        try:
            yield f"http://127.0.0.1:{full.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize(
    "timeouts", [Timeouts(connect_s=0.2, first_byte_s=9, idle_s=9), Timeouts(connect_s=9, first_byte_s=0.3, idle_s=9)]
)
async def test_no_connection_is_never_a_first_byte_timeout(ask: Ask, timeouts: Timeouts) -> None:
    """Whichever of the two timeouts is the shorter: where no connection was made nothing was sent, and that is said."""
    with _deaf() as url:
        async with asyncio.timeout(3):
            with pytest.raises(ConnectFailed) as caught:
                await ask(url, timeouts=timeouts)
    assert not caught.value.sent


async def test_each_timeout_counts_in_its_phase_only(ask: Ask, peer: MakePeer) -> None:
    """A head after 0.2 s and chunks 0.2 s apart keep a first-byte timeout of 0.5 s and an idle timeout of 0.5 s."""

    async def slow(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(0.2)
        await wire.send(CHUNKED)
        for _ in range(4):
            await asyncio.sleep(0.2)
            await wire.chunk(b"x")
        await wire.send(b"0\r\n\r\n")

    async with peer(slow) as server:
        assert await ask(server.url, timeouts=Timeouts(connect_s=5, first_byte_s=0.5, idle_s=0.5)) == b"xxxx"


@pytest.mark.parametrize(
    ("sent", "error", "idle_s", "first_byte_s"),
    [(CHUNKED, FirstByteTimeout, 0.1, 0.5), (CHUNKED + b"1\r\nx\r\n", IdleTimeout, 0.5, 0.1)],
)
async def test_the_right_timeout_fires(
    ask: Ask, peer: MakePeer, sent: bytes, error: type[TransportError], idle_s: float, first_byte_s: float
) -> None:
    """Before the first chunk the idle timeout does not count; after it, the first-byte timeout does not."""

    async def stop(wire: Wire) -> None:
        await wire.request()
        await wire.send(sent)
        await wire.gone()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5), peer(stop) as server:
        start_s = loop.time()
        with pytest.raises(error) as caught:
            await ask(server.url, timeouts=Timeouts(connect_s=5, first_byte_s=first_byte_s, idle_s=idle_s))
        assert loop.time() - start_s >= 0.45
        assert caught.value.sent


async def test_a_cancelled_caller_is_not_told_of_a_timeout(ask: Ask, peer: MakePeer) -> None:
    """Whoever cancels at the very moment at which a timeout fires gets his cancellation."""

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.gone()

    async with asyncio.timeout(5), peer(silent) as server:
        loop = asyncio.get_running_loop()
        for _ in range(5):
            task = asyncio.ensure_future(ask(server.url, timeouts=Timeouts(connect_s=5, first_byte_s=0.1, idle_s=5)))
            await asyncio.sleep(0)
            loop.call_later(0.1, task.cancel)
            with pytest.raises((asyncio.CancelledError, FirstByteTimeout)) as caught:
                await task
            assert task.cancelled() or caught.type is FirstByteTimeout
            assert task.cancelling() == 0 or task.cancelled()


async def test_a_cancellation_is_not_lost_in_a_flood(ask: Ask, peer: MakePeer) -> None:
    """A call that is cancelled while chunks pour in ends, however close the next chunk is."""

    async def pour(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        while True:
            await wire.chunk(b"drop")
            await asyncio.sleep(0)

    async with asyncio.timeout(20), peer(pour) as server:
        for n in range(60):
            got: list[bytes] = []
            task = asyncio.ensure_future(ask(server.url, got=got))
            while len(got) < 3 + n % 5:  # noqa: ASYNC110 - as close to the next chunk as can be
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_peer_that_closes_its_side_of_sending_is_a_reset(ask: Ask, peer: MakePeer) -> None:
    """Half-closed before an answer is as good as closed: `Reset`, at once, and not a timeout."""

    async def half(wire: Wire) -> None:
        await wire.request()
        wire.writer.write_eof()
        await wire.gone()

    async with asyncio.timeout(3), peer(half) as server:
        with pytest.raises(Reset) as caught:
            await ask(server.url)
        assert caught.value.sent


async def test_a_peer_that_half_closed_while_idle_is_not_called_again(ask: Ask, peer: MakePeer) -> None:
    """After an answer and a half-close the next call goes over a new connection, and the old one is let go."""
    left = asyncio.Event()

    async def last(wire: Wire) -> None:
        await wire.request()
        await wire.send(WHOLE)
        wire.writer.write_eof()
        await wire.gone()
        left.set()

    async with asyncio.timeout(3), peer(last) as server:
        for n in range(1, 4):
            assert await ask(server.url) == b"hello"
            await asyncio.sleep(0.05)
            assert server.connections == n
        await left.wait()


async def test_many_calls_that_are_left_at_once_all_end(ask: Ask, peer: MakePeer) -> None:
    """Fifty calls cancelled together before any answer: the peer sees fifty ends; the next call is served."""
    waiting = 0
    all_there, all_gone = asyncio.Event(), asyncio.Event()

    async def wait(wire: Wire) -> None:
        nonlocal waiting
        await wire.request()
        if all_there.is_set():
            await wire.send(WHOLE)
            return
        waiting += 1
        if waiting == 50:
            all_there.set()
        await wire.gone()
        waiting -= 1
        if not waiting:
            all_gone.set()

    async with asyncio.timeout(10), peer(wait) as server:
        tasks = [asyncio.ensure_future(ask(server.url)) for _ in range(50)]
        await all_there.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await all_gone.wait()
        assert await ask(server.url) == b"hello"


@pytest.mark.parametrize("make", [PyreqwestTransport, HttptoolsTransport])
async def test_a_call_on_a_closed_transport_is_connect_failed(
    make: Callable[[], Transport], call_to: CallTo, peer: MakePeer
) -> None:
    """Who calls a fast transport after `aclose` learns that nothing was sent; calls under way ended with an error."""
    reached = asyncio.Event()

    async def wait(wire: Wire) -> None:
        await wire.request()
        reached.set()
        await wire.gone()

    async def call() -> None:
        async with transport.send(call_to(server.url)):
            pass

    transport = make()
    async with asyncio.timeout(5), peer(wait) as server:
        task = asyncio.create_task(call())
        await reached.wait()
        await transport.aclose()
        with pytest.raises(Reset):
            await task
        with pytest.raises(ConnectFailed):
            await call()
        assert server.connections == 1

"""
What every implementation of `router.transport.Transport` promises about TLS: verified, or `TlsError` and nothing sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import trustme

from router.errors import ConnectFailed, TlsError
from router.httpx_transport import HttpxTransport
from router.transport import Timeouts, Transport
from seawall.transports.httptools_transport import HttptoolsTransport
from seawall.transports.pyreqwest_transport import PyreqwestTransport

Wire = Any  # one connection as the peer holds it: see conftest.py
Ask = Callable[..., Awaitable[bytes]]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


async def greet(wire: Wire) -> None:
    """Answer every request of a connection with `hello`."""
    while True:
        await wire.request()
        await wire.send(WHOLE)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return who signs the certificates of these tests."""
    return trustme.CA()


def _trusts(name: str, authority: trustme.CA) -> Transport:
    if name == "pyreqwest":
        return PyreqwestTransport(roots_pem=authority.cert_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if name == "httptools":
        return HttptoolsTransport(tls=context)
    return HttpxTransport(httpx.AsyncHTTPTransport(verify=context, trust_env=False))


@pytest.fixture(params=["httpx", "pyreqwest", "httptools"])
async def transport(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[Transport]:
    """Return a transport of each implementation that trusts the authority."""
    made = _trusts(request.param, authority)
    yield made
    await made.aclose()


def _server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_certificate_of_the_authority_is_trusted(ask: Ask, peer: MakePeer, authority: trustme.CA) -> None:
    """With the right certificate calls go through, and one connection carries them all."""
    async with peer(greet, tls=_server_side(authority.issue_cert("127.0.0.1"))) as server:
        for _ in range(3):
            assert await ask(server.url.replace("http", "https")) == b"hello"
        assert server.connections == 1


async def test_cancellation_closes_a_tls_connection(ask: Ask, peer: MakePeer, authority: trustme.CA) -> None:
    """A call that is cancelled while the peer still thinks ends its connection under TLS too."""
    reached, left = asyncio.Event(), asyncio.Event()

    async def wait(wire: Wire) -> None:
        await wire.request()
        reached.set()
        await wire.gone()
        left.set()

    async with asyncio.timeout(5), peer(wait, tls=_server_side(authority.issue_cert("127.0.0.1"))) as server:
        task = asyncio.ensure_future(ask(server.url.replace("http", "https")))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


@pytest.mark.parametrize("fault", ["wrong authority", "wrong host", "expired"])
async def test_a_certificate_that_is_not_right_is_a_tls_error(
    ask: Ask, peer: MakePeer, authority: trustme.CA, fault: str
) -> None:
    """Signed by nobody we know, for another host, or of last year: refused, and the peer never sees the request."""
    first, last = datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    certificate = {
        "wrong authority": lambda: trustme.CA().issue_cert("127.0.0.1"),
        "wrong host": lambda: authority.issue_cert("elsewhere.example"),
        "expired": lambda: authority.issue_cert("127.0.0.1", not_before=first, not_after=last),
    }[fault]()
    async with peer(greet, tls=_server_side(certificate)) as server:
        with pytest.raises(TlsError) as caught:
            await ask(server.url.replace("http", "https"))
        assert not caught.value.sent
        assert server.connections == 0


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_tls_to_a_plain_port_is_a_tls_error(ask: Ask, peer: MakePeer, words: bytes) -> None:
    """A peer that does not speak TLS, or leaves in the handshake, is `TlsError`: nothing of the call was sent."""

    async def plain(wire: Wire) -> None:
        await wire.reader.read(5)
        await wire.send(words)

    async with peer(plain) as server:
        with pytest.raises((TlsError, ConnectFailed)) as caught:
            await ask(server.url.replace("http", "https"))
        assert isinstance(caught.value, TlsError) or not words
        assert not caught.value.sent


async def test_a_handshake_that_hangs_is_connect_failed(ask: Ask, peer: MakePeer) -> None:
    """A peer that takes the connection and says nothing to our TLS costs the connect timeout, and was sent nothing."""

    async def dumb(wire: Wire) -> None:
        await wire.gone()

    timeouts = Timeouts(connect_s=0.2, first_byte_s=5, idle_s=5)
    async with asyncio.timeout(3), peer(dumb) as server:
        with pytest.raises(ConnectFailed) as caught:
            await ask(server.url.replace("http", "https"), timeouts=timeouts)
        assert not caught.value.sent

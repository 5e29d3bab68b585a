"""What the emulator keeps of pings: when each came, and when its client closed, which proves a late close."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from seawall.emulators.client import EmulatorClient, EmulatorError
from seawall.emulators.config import Config
from seawall.emulators.pings import PingLog, PingRecord
from seawall.emulators.server import EmulatorServer
from seawall.emulators.steps import Healthy

TOKEN = "a-secret-word"


@pytest.fixture
async def server() -> AsyncIterator[EmulatorServer]:
    """A running server with two providers."""
    one = EmulatorServer(Config(providers={"gemini": Healthy(), "claude": Healthy()}), TOKEN)
    await one.start()
    yield one
    await one.stop()


async def ping(server: EmulatorServer, query: str = "", *, times: int = 1) -> asyncio.StreamWriter:
    """Ping gemini over one connection and return it, open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["gemini"])
    for _ in range(times):
        writer.write(f"POST /_seawall/ping{query} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(64)
    return writer


async def seen(server: EmulatorServer, provider: str = "gemini") -> list[PingRecord]:
    """Return the pings as the admin port tells them."""
    client = EmulatorClient(f"http://127.0.0.1:{server.admin_port}", TOKEN)
    return await asyncio.to_thread(client.pings, provider)


async def ended(server: EmulatorServer, which: int = -1) -> list[PingRecord]:
    """Return the pings when the connection of this one has ended."""
    async with asyncio.timeout(5):
        while (found := await seen(server))[which].fin_ns is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def last_fins(server: EmulatorServer) -> dict[str, int | None]:
    """Return the latest FIN of each provider."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.admin_port)
    head = f"GET /pings/last_fin HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return json.loads(body)


async def test_close_of_a_ping_is_seen_when_it_happens(server: EmulatorServer) -> None:
    """While the client keeps its connection there is no FIN; when it closes, its time is between before and after."""
    before_ns = time.monotonic_ns()
    writer = await ping(server, "?id=one")
    (open_one,) = await seen(server)
    assert (open_one.id, open_one.fin_ns) == ("one", None)
    assert await last_fins(server) == {"gemini": None, "claude": None}
    await asyncio.sleep(0.05)
    closing_ns = time.monotonic_ns()
    writer.close()
    (closed,) = await ended(server)
    assert closed.fin_ns is not None
    assert before_ns <= closed.arrival_ns <= closing_ns <= closed.fin_ns <= time.monotonic_ns()
    assert await last_fins(server) == {"gemini": closed.fin_ns, "claude": None}


async def test_pings_that_overlap_are_told_apart(server: EmulatorServer) -> None:
    """Each ping has the end of its own connection, whatever the order; two on one connection share it."""
    first, second = await ping(server, "?id=a&reply_bytes=64"), await ping(server, "?id=b", times=2)
    second.close()
    assert (await ended(server))[0].fin_ns is None
    first.close()
    found = await ended(server, 0)
    assert [one.id for one in found] == ["a", "b", "b"]
    a, *both = [one.fin_ns for one in found]
    assert both[0] is not None
    assert a is not None
    assert abs(both[0] - (both[1] or 0)) < 10_000_000
    assert a > both[0]
    assert (await last_fins(server))["gemini"] == a


async def test_ping_needs_no_id_and_an_odd_one_does_no_harm(server: EmulatorServer) -> None:
    """Pings of before are answered as ever; an id over 64 characters is cut."""
    for query in ("", "?id=", f"?id={'x' * 100}"):
        (await ping(server, query)).close()
    assert [one.id for one in await ended(server)] == [None, None, "x" * 64]


async def test_unknown_provider_is_an_error(server: EmulatorServer) -> None:
    """A provider that is not served has no pings, and says so."""
    with pytest.raises(EmulatorError, match="no provider 'openai'"):
        await seen(server, "openai")


def test_log_is_bounded() -> None:
    """Only the last pings are kept: a long run costs no memory."""
    log = PingLog()
    for n in range(2000):
        log.add(PingRecord(id=str(n), arrival_ns=n, fin_ns=n))
    assert len(log.all()) == 512
    assert (log.all()[-1].id, log.last_fin_ns) == ("1999", 1999)

"""The server on real sockets, in this process: what leaves, when, and what is recorded of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from seawall.answers import judge_text
from seawall.draws import lognormal_s, unit
from seawall.emulators.config import Config
from seawall.emulators.server import EmulatorServer
from seawall.emulators.steps import Behaviour, Healthy
from seawall.journal.writer import EventWriter

SLOW = Healthy(first_token_p50_s=0.02, first_token_p99_s=0.02, tokens_per_second=20, tokens=6)
QUICK = Healthy(first_token_p50_s=0.001, first_token_p99_s=0.001, tokens_per_second=5000, tokens=8)
PROVIDERS = ("claude", "gemini", "local", "openai")


class Rig:
    """A server with its journal, and the few words of HTTP that the tests speak."""

    def __init__(self, folder: Path) -> None:
        self.writer = EventWriter(folder, "emulator")
        providers = {"openai": SLOW, "claude": QUICK, "gemini": QUICK, "local": QUICK}
        self.server = EmulatorServer(Config(providers=providers, seed=1), "token", self.writer)

    async def connect(self, provider: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to a provider."""
        return await asyncio.open_connection("127.0.0.1", self.server.ports[provider], limit=4 * 1024 * 1024)

    def install(self, provider: str, behaviour: Behaviour) -> None:
        """Put a behaviour in force."""
        self.server._stations[provider].behaviours[behaviour.fault_id] = behaviour

    async def calls(self, count: int) -> list[dict[str, Any]]:
        """Return the calls recorded, when there are `count` of them."""
        async with asyncio.timeout(5):
            while len(found := [json.loads(line) for line in self.writer.path.read_text().splitlines()]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert len(found) == count
        return found


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running server, stopped and closed at the end."""
    one = Rig(tmp_path)
    await one.server.start()
    yield one
    await one.server.stop()
    one.writer.close()


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return status and headers."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), {name.lower(): value for name, value in pairs}


async def read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[tuple[float, bytes]]:
    """Yield the chunks of a chunked body with the time of their arrival, in seconds."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield time.monotonic(), (await reader.readexactly(size + 2))[:-2]
    assert await reader.readexactly(2) == b"\r\n"


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer, chunked or not."""
    status, headers = await read_head(reader)
    if "content-length" in headers:
        return status, headers, await reader.readexactly(int(headers["content-length"]))
    return status, headers, b"".join([chunk async for _, chunk in read_chunks(reader)])


async def leave(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait for it."""
    writer.close()
    await asyncio.wait({asyncio.ensure_future(_closed(writer))}, timeout=2)


async def _closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
async def test_one_connection_serves_many_calls(
    rig: Rig, chat: Callable, text_in: Callable, provider: str, stream: bool
):
    """Calls on a kept-open connection are answered whole, one after the other, each with a record that fits."""
    reader, writer = await rig.connect(provider)
    bodies: list[bytes] = []
    for n in range(2):
        writer.write(chat(provider, f"[sw:{n}] hi", stream=stream).bytes())
        status, headers, body = await read_answer(reader)
        assert status == 200
        assert "connection" not in headers
        bodies.append(body)
        assert judge_text(text_in(provider, body, stream=stream), str(n)).whole
    await leave(writer)
    for n, record in enumerate(await rig.calls(2)):
        tokens = 6 if provider == "openai" else 8
        assert (record["kind"], record["provider"], record["request_id"]) == ("call", provider, str(n))
        assert (record["behaviour"], record["status"], record["completed"]) == ("healthy", 200, True)
        assert (record["stream"], record["bytes"], record["completion_tokens"]) == (stream, len(bodies[n]), tokens)
        assert record["arrival_ns"] < record["first_byte_ns"] <= record["end_ns"] <= record["mono_ns"]


async def test_pipelined_requests_are_answered_in_order(rig: Rig, chat: Callable, text_in: Callable):
    """Requests sent without waiting are answered one at a time in order, whatever pieces they arrive in."""
    reader, writer = await rig.connect("gemini")
    wire = b"".join(chat("gemini", f"[sw:{n}] hi").bytes() for n in range(3))
    for at in range(0, len(wire), 100):
        writer.write(wire[at : at + 100])
        await asyncio.sleep(0)
    for n in range(3):
        _, _, body = await read_answer(reader)
        assert judge_text(text_in("gemini", body, stream=False), str(n)).whole
    await leave(writer)


async def test_tokens_arrive_one_by_one(rig: Rig, chat: Callable):
    """A stream's chunks are one event each and arrive at the provider's pace, not together at the end."""
    reader, writer = await rig.connect("openai")
    writer.write(chat("openai", "[sw:1] hi", stream=True).bytes())
    await read_head(reader)
    chunks = [chunk async for chunk in read_chunks(reader)]
    assert len(chunks) == 1 + 6 + 1
    assert all(chunk.count(b"data: ") == 1 for _, chunk in chunks[:-1])
    gaps = [after - before for (before, _), (after, _) in pairwise(chunks[1:7])]
    assert median(gaps) > 0.02
    # Sleeps are counted from the start: five pauses of 50 ms do not add up their lateness.
    assert sum(gaps) == pytest.approx(0.25, abs=0.08)
    await leave(writer)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_is_a_reset_after_what_was_promised(rig: Rig, chat: Callable, stream: bool):
    """A cut delivers everything before it, then a TCP reset (not an orderly end), and is recorded as incomplete."""
    rig.install("claude", Behaviour(fault_id="cut", cut_after_chunks=3))
    reader, writer = await rig.connect("claude")
    writer.write(chat("claude", "[sw:1] hi", stream=stream).bytes())
    received = b""
    with pytest.raises(ConnectionResetError) as caught:  # noqa: PT012 - what came before the reset is kept
        while data := await reader.read(65_536):
            received += data
    assert caught.value.errno in (None, errno.ECONNRESET)
    assert received.count(b"claude:1:") == (3 if stream else received.count(b"claude:1:"))
    (record,) = await rig.calls(1)
    assert (record["behaviour"], record["completed"], record["status"]) == ("cut", False, 200)
    assert received.endswith(b"\r\n" if stream else received[-1:])
    assert record["completion_tokens"] == (3 if stream else 4)
    await leave(writer)


async def test_a_cut_waits_for_a_slow_client(rig: Rig, chat: Callable):
    """A client that reads late still gets every token before the cut: megabytes wait for it, none is dropped."""
    rig.server._stations["claude"]._healthy = Healthy(tokens=50_000, tokens_per_second=1e6)
    rig.install("claude", Behaviour(fault_id="cut", cut_after_chunks=30_000))
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    wire.connect(("127.0.0.1", rig.server.ports["claude"]))
    reader, writer = await asyncio.open_connection(sock=wire)
    writer.transport.pause_reading()
    writer.write(chat("claude", "[sw:1] hi", stream=True, max_tokens=50_000).bytes())
    await asyncio.sleep(0.5)
    (connection,) = rig.server._connections
    assert connection._transport.get_write_buffer_size() < 1024  # not even the rest of one event piles up here
    writer.transport.resume_reading()
    received = bytearray()
    with pytest.raises(ConnectionResetError):  # noqa: PT012 - what came before the reset is kept
        while data := await reader.read(1024 * 1024):
            received += data
    assert received.count(b"claude:1:") == 30_000
    assert (await rig.calls(1))[0]["completion_tokens"] == 30_000
    await leave(writer)


async def test_hang_is_silence_on_an_open_connection(rig: Rig, chat: Callable):
    """A hanging provider sends nothing and closes nothing until the client leaves; then the call is recorded."""
    rig.install("gemini", Behaviour(fault_id="hang", hang=True))
    reader, writer = await rig.connect("gemini")
    writer.write(chat("gemini", "[sw:1] hi").bytes())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    assert rig.writer.path.read_text() == ""
    await leave(writer)
    (record,) = await rig.calls(1)
    assert (record["behaviour"], record["completed"], record["status"]) == ("hang", False, None)
    assert (record["bytes"], record["first_byte_ns"]) == (0, None)


async def test_a_client_that_leaves_ends_the_call(rig: Rig, chat: Callable):
    """When the client goes in the middle of a stream the steps stop at once and the record says what had left."""
    reader, writer = await rig.connect("openai")
    writer.write(chat("openai", "[sw:1] hi", stream=True).bytes())
    await reader.readuntil(b"openai:1:2/6")
    left_ns = time.monotonic_ns()
    await leave(writer)
    (record,) = await rig.calls(1)
    assert not record["completed"]
    assert record["completion_tokens"] in (2, 3)
    assert record["end_ns"] - left_ns < 150_000_000  # the rest of the stream would take 200 ms


async def test_an_answer_larger_than_the_buffers_waits_for_its_client(rig: Rig):
    """A client that reads slowly gets every byte; the server waits for it instead of piling up."""
    reader, writer = await rig.connect("openai")
    writer.transport.pause_reading()
    writer.write(b"POST /_seawall/ping?reply_bytes=1048576 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" * 8)
    await asyncio.sleep(0.1)
    writer.transport.resume_reading()
    for _ in range(8):
        status, _, body = await read_answer(reader)
        assert (status, len(body)) == (200, 1_048_576)
    await leave(writer)


@pytest.mark.parametrize("size", [0, 1, 64, 4096, 1_048_576])
async def test_pings_have_exactly_the_size_that_was_asked_for(rig: Rig, size: int):
    """A ping's reply has the bytes that were asked for, its body is ignored, and the connection stays open."""
    rig.install("gemini", Behaviour(fault_id="hang", hang=True))
    reader, writer = await rig.connect("gemini")
    for _ in range(2):
        head = f"POST /_seawall/ping?reply_bytes={size} HTTP/1.1\r\nhost: x\r\ncontent-length: 1048576\r\n\r\n"
        writer.write(head.encode() + b"u" * 1_048_576)
        status, headers, body = await read_answer(reader)
        assert (status, len(body)) == (200, size)
        assert "connection" not in headers
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    await leave(writer)
    assert rig.writer.path.read_text() == ""


@pytest.mark.parametrize(
    ("query", "status", "size"),
    [("", 200, 64), ("?reply_bytes=-1", 400, None), ("?reply_bytes=x", 400, None), ("?reply_bytes=1048577", 400, None)],
)
async def test_ping_sizes_are_checked(rig: Rig, query: str, status: int, size: int | None):
    """Without a size a ping replies with 64 bytes; a size that cannot be is refused."""
    reader, writer = await rig.connect("local")
    writer.write(f"POST /_seawall/ping{query} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
    got, _, body = await read_answer(reader)
    assert got == status
    assert size is None or len(body) == size
    await leave(writer)


async def test_close_is_honoured(rig: Rig, chat: Callable):
    """With `connection: close` the reply is whole and then the connection ends in order, for pings and calls."""
    ping = b"POST /_seawall/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    for wire in (ping, chat("claude", "[sw:1] hi", stream=True).bytes(connection="close")):
        reader, writer = await rig.connect("claude")
        writer.write(wire)
        status, headers, _ = await read_answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await reader.read() == b""
        await leave(writer)


async def test_http_1_0_streams_end_with_the_connection(rig: Rig, chat: Callable, text_in: Callable):
    """A client that cannot read chunks gets the bare stream and then the end of the connection."""
    reader, writer = await rig.connect("local")
    writer.write(chat("local", "[sw:1] hi", stream=True).bytes().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    _, headers = await read_head(reader)
    assert "transfer-encoding" not in headers
    assert judge_text(text_in("local", await reader.read(), stream=True), "1").whole
    await leave(writer)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_body_over_the_limit_is_413(rig: Rig, chat: Callable, provider: str):
    """A body over 1 MiB is refused with 413 in the vendor's format, and one at the limit is read."""
    asked = chat(provider, "hi")
    for size, expected in ((1_048_577, 413), (1_048_576, 400)):
        reader, writer = await rig.connect(provider)
        lines = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items())
        head = f"POST {asked.url} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {size}\r\n\r\n"
        writer.write(head.encode() + b"x" * size)
        status, _, body = await read_answer(reader)
        assert status == expected
        assert b'"error"' in body
        await leave(writer)
    assert [record["status"] for record in await rig.calls(2)] == [413, 400]


async def test_what_is_no_http_is_refused(rig: Rig):
    """Bytes that are no HTTP, and headers without end, get a 400 and the end of the connection."""
    for wire in (b"\x16\x03\x01 hello\r\n\r\n", b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000):
        reader, writer = await rig.connect("local")
        writer.write(wire)
        assert (await read_head(reader))[0] == 400
        await leave(writer)
    assert rig.writer.path.read_text() == ""


async def test_gets_are_neither_recorded_nor_taken_by_faults(rig: Rig):
    """A health check is answered while a fault takes every call, and leaves no record."""
    rig.install("openai", Behaviour(fault_id="f", status=500))
    reader, writer = await rig.connect("openai")
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n\r\n")
    assert (await read_answer(reader))[0] == 200
    await leave(writer)
    assert rig.writer.path.read_text() == ""


async def test_a_refused_call_is_recorded(rig: Rig, chat: Callable):
    """A POST that is no call, and one that a fault answers, are recorded with the status that they got."""
    rig.install("openai", Behaviour(fault_id="busy", status=429, retry_after_s=2))
    reader, writer = await rig.connect("openai")
    asked = chat("openai", "[sw:1] hi")
    writer.write(asked._replace(headers={}).bytes() + asked.bytes())
    assert (await read_answer(reader))[0] == 401
    status, headers, _ = await read_answer(reader)
    assert (status, headers["retry-after"]) == (429, "2")
    await leave(writer)
    keyless, busy = await rig.calls(2)
    assert (keyless["status"], keyless["request_id"], keyless["behaviour"]) == (401, None, "healthy")
    assert (busy["status"], busy["request_id"], busy["behaviour"], busy["completed"]) == (429, "1", "busy", True)


async def test_each_call_of_a_request_draws_anew(rig: Rig, chat: Callable):
    """The n-th call of a request waits as the n-th draw says, also after calls of other requests in between."""
    healthy = Healthy(first_token_p50_s=0.02, first_token_p99_s=0.4, tokens_per_second=5000, tokens=1)

    def wait_s(request_id: str, nth: int) -> float:
        return lognormal_s(0.02, 0.4, unit(1, "local", request_id, nth, "first_token"))

    rig.server._stations["local"]._healthy = healthy
    slow_then_quick = next(
        name for name in map(str, range(10_000)) if wait_s(name, 1) > 0.15 and wait_s(name, 2) < 0.02
    )
    quick = next(name for name in map(str, range(10_000)) if wait_s(name, 1) < 0.02)
    reader, writer = await rig.connect("local")
    for name in (slow_then_quick, quick, slow_then_quick):
        writer.write(chat("local", f"[sw:{name}] hi", stream=True).bytes())
        await read_answer(reader)
    await leave(writer)
    waits = [(record["first_byte_ns"] - record["arrival_ns"]) / 1e9 for record in await rig.calls(3)]
    assert waits[0] > 0.149
    assert max(waits[1:]) < 0.14


async def test_stop_cuts_what_is_open(rig: Rig, chat: Callable):
    """Stopping accepts nothing more, breaks open connections, and records the calls that were under way."""
    reader, writer = await rig.connect("openai")
    writer.write(chat("openai", "[sw:1] hi", stream=True).bytes())
    await reader.readuntil(b"openai:1:1/6")
    began = time.monotonic()
    await rig.server.stop()
    assert time.monotonic() - began < 0.5
    (record,) = await rig.calls(1)
    assert not record["completed"]
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readuntil(b"openai:1:6/6")
    with pytest.raises(ConnectionRefusedError):
        await rig.connect("openai")
    await leave(writer)

"""The short way of chat requests from the socket to their endpoint: HTTP stays HTTP on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from seawall.gateway.chat import Out
from seawall.gateway.protocol import GatewayProtocol

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\n"
PIECE = b"x" * 65_536


class Endpoint:
    """Says back what it is asked, as one that takes its time, streams for ever or breaks where the body says so."""

    body_bytes_max = 1000

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.pieces = 0

    async def serve(self, headers: Mapping[bytes, bytes], body: bytes | None, out: Out) -> None:
        if body is None:
            await out.whole(413, b"", b"too long")
            return
        if body == b"break":
            raise RuntimeError("a defect")
        try:
            self.begun.set()
            if body == b"slow":
                await asyncio.sleep(0.1)
            if body == b"wait":
                await asyncio.sleep(30)
            if body == b"flood":
                await out.begin(200, b"")
                while True:
                    await out.write(PIECE)
                    self.pieces += 1
        except asyncio.CancelledError:
            self.left.set()
            raise
        await out.whole(200, b"x-name: %b\r\n" % headers.get(b"x-name", b"none"), b"said " + body)


class App:
    """An ASGI app with a chat endpoint: all else it answers itself."""

    def __init__(self) -> None:
        self.chat = Endpoint()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = [(b"content-length", b"%d" % (len(body) + 5))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"asgi " + body})


class Connection:
    """A client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App, server: Any) -> None:
        self.reader, self.writer, self.endpoint, self.server = reader, writer, app.chat, server

    def ask(self, body: bytes, head: bytes = HEAD) -> None:
        self.writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async def answer(self) -> tuple[bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
        return head, await self.reader.readexactly(int(length.split()[1]))


@asynccontextmanager
async def connected(protocol: type[GatewayProtocol] = GatewayProtocol) -> AsyncIterator[Connection]:
    """Serve an App and connect to it."""
    app = App()
    server = uvicorn.Server(
        uvicorn.Config(
            app, lifespan="off", log_level="critical", http=protocol, ws="none", port=0, timeout_keep_alive=60
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(20):
            yield Connection(reader, writer, app, server)
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def test_a_chat_request_goes_to_its_endpoint_and_all_else_to_the_app() -> None:
    """One connection carries both, one after the other; header names are in lower case, their first value counts."""
    async with connected() as wire:
        for _ in range(2):
            wire.ask(b"hello", HEAD + b"X-Name: a\r\nx-name: b\r\n")
            head, body = await wire.answer()
            assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"said hello")
            assert b"\r\nx-name: a\r\n" in head
            for other in (
                HEAD.replace(b"POST", b"PUT"),
                HEAD.replace(b"chat/", b""),
                HEAD.replace(b" HTTP", b"?a HTTP"),
            ):
                wire.ask(b"hello", other)
                assert (await wire.answer())[1] == b"asgi hello"


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    """The second waits for the first, however fast it is, whichever way each of them goes."""
    async with connected() as wire:
        wire.ask(b"slow")
        wire.ask(b"two")
        wire.ask(b"three", HEAD.replace(b"POST", b"PUT"))
        wire.ask(b"four")
        assert [(await wire.answer())[1] for _ in range(4)] == [b"said slow", b"said two", b"asgi three", b"said four"]


async def test_a_body_may_come_in_pieces_or_in_chunks() -> None:
    """Byte by byte, and without a length: the endpoint is asked when it is whole."""
    async with connected() as wire:
        for byte in HEAD + b"content-length: 5\r\n\r\nhello":
            wire.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.answer())[1] == b"said hello"
        wire.writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n")
        await asyncio.sleep(0.02)
        wire.writer.write(b"2\r\nlo\r\n0\r\n\r\n")
        assert (await wire.answer())[1] == b"said hello"


async def test_a_body_over_the_limit_is_refused_before_it_is_whole() -> None:
    """By its length, or by what has come of it; the rest is not kept, and the connection goes on after it."""
    async with connected() as wire:
        wire.writer.write(HEAD + b"content-length: 2000\r\n\r\n")
        assert (await wire.answer())[1] == b"too long"
        wire.writer.write(b"y" * 2000)
        wire.ask(b"next")
        assert (await wire.answer())[1] == b"said next"
        wire.writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n7d0\r\n" + b"y" * 2000 + b"\r\n")
        assert (await wire.answer())[1] == b"too long"
        wire.writer.write(b"0\r\n\r\n")
        wire.ask(b"next")
        assert (await wire.answer())[1] == b"said next"


async def test_who_expects_leave_to_send_gets_it() -> None:
    """`Expect: 100-continue` is answered before the body is sent."""
    async with connected() as wire:
        wire.writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.writer.write(b"hello")
        assert (await wire.answer())[1] == b"asgi hello"


@pytest.mark.parametrize("body", [b"wait", b"flood"])
async def test_a_client_that_leaves_ends_what_is_done_for_it(body: bytes) -> None:
    """The work is cancelled at once, in the middle of an answer too, and the server waits for nobody."""
    async with connected() as wire:
        wire.ask(body)
        await wire.endpoint.begun.wait()
        assert wire.server.server_state.tasks
        wire.writer.transport.abort()
        await wire.endpoint.left.wait()
        await asyncio.sleep(0)
        assert not wire.server.server_state.tasks


async def test_who_does_not_read_is_not_written_to() -> None:
    """A stream waits until its client has taken what was sent: no buffer grows."""
    async with connected() as wire:
        wire.ask(b"flood")
        await wire.endpoint.begun.wait()
        seen = -1
        while wire.endpoint.pieces != seen:
            seen = wire.endpoint.pieces
            await asyncio.sleep(0.3)
        assert seen * len(PIECE) < 32_000_000
        await wire.reader.readexactly(20 * len(PIECE))
        while wire.endpoint.pieces == seen:  # noqa: ASYNC110 - within the limit of the connection
            await asyncio.sleep(0.01)


async def test_a_connection_closes_when_either_side_wants_it() -> None:
    """After an answer to `Connection: close`, and while the server drains, which the answer says."""
    async with connected() as wire:
        wire.ask(b"bye", HEAD + b"connection: close\r\n")
        head, body = await wire.answer()
        assert (b"\r\nconnection: close\r\n" in head, body) == (True, b"said bye")
        assert await wire.reader.read() == b""
    async with connected() as wire:
        wire.ask(b"slow")
        await wire.endpoint.begun.wait()
        state = wire.server.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        head, body = await wire.answer()
        assert (head.count(b"connection: close"), body) == (1, b"said slow")
        assert await wire.reader.read() == b""


async def test_a_defect_costs_one_answer() -> None:
    """An endpoint that breaks makes a 500 and the end of the connection, not of the server."""
    async with connected() as wire:
        wire.ask(b"break")
        head, body = await wire.answer()
        assert head.startswith(b"HTTP/1.1 500 ")
        assert body == b"Internal Server Error"
        assert await wire.reader.read() == b""
        assert wire.server.started


async def test_a_connection_with_another_app_asks_that_one() -> None:
    """A protocol that refuses its client by an app of its own is not passed by."""

    class Guarded(GatewayProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.app = App()

    async with connected(Guarded) as wire:
        wire.ask(b"hello")
        assert (await wire.answer())[1] == b"asgi hello"


class Counting(GatewayProtocol):
    """Counts the heads that the parser has read."""

    heads = 0

    def on_headers_complete(self) -> None:
        """See httptools."""
        type(self).heads += 1
        super().on_headers_complete()


class Forgetful(GatewayProtocol):
    """Remembers no head."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unlike = 1000


async def test_a_repeated_head_is_parsed_once() -> None:
    """Bodies of any length up to the limit, one after the other; a longer one is refused as it was."""
    Counting.heads = 0
    async with connected(Counting) as wire:
        for body in (b"a", b"bcd", b"", b"e" * 1000, b"f" * 1001, b"g"):
            wire.ask(body)
            assert (await wire.answer())[1] == (b"said " + body if len(body) <= 1000 else b"too long")
    assert Counting.heads == 1


@pytest.mark.parametrize(
    "second",
    [
        HEAD + b"content-length: 3\r\n\r\ntwo" + HEAD + b"content-length: 5\r\n\r\nthree",
        HEAD + b"content-length: 3\r\n\r\ntwo" + HEAD[:20],
        HEAD + b"content-length: 6\r\n\r\nhello",
        HEAD + b"content-length: 4\r\n\r\nhello",
        HEAD + b"content-length: +5\r\n\r\nhello",
        HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        HEAD + b"content-length: 5\r\nhost: other\r\n\r\nhello",
        HEAD + b"content-length: 5\r\nconnection: close\r\n\r\nhello",
        HEAD.replace(b"POST", b"PUT") + b"content-length: 5\r\n\r\nhello",
        b"\r\n" + HEAD + b"content-length: 5\r\n\r\nhello",
        HEAD + b"content-length: 5\r\n\r\nbreak",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_follows_a_known_head_is_answered_as_ever(second: bytes) -> None:
    """Whatever a connection gets after it, it answers the bytes that one answers that remembers nothing."""
    said: list[bytes] = []
    for protocol in (GatewayProtocol, Forgetful):
        async with connected(protocol) as wire:
            for _ in range(2):
                wire.ask(b"first")
                assert (await wire.answer())[1] == b"said first"
            wire.writer.write(second)
            answer = b""
            while True:
                try:
                    data = await asyncio.wait_for(wire.reader.read(65_536), 0.25)
                except TimeoutError:
                    break
                answer += data
                if not data:
                    break
            said.append(b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"date: ")))
    assert said[0] == said[1]

"""What the gateway writes within one turn of the event loop leaves together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from seawall.gateway.corked import CorkedProtocol

_REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


@pytest.fixture
async def connection() -> AsyncIterator[socket.socket]:
    """A client's socket to a server of one app that answers in four writes."""
    config = uvicorn.Config(_app, lifespan="off", log_level="warning", http=CorkedProtocol, ws="none")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    client = socket.create_connection(listener.getsockname())
    client.setblocking(False)
    yield client
    client.close()
    server.should_exit = True
    await serving


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for word in (b"one", b"two"):
        await send({"type": "http.response.body", "body": word, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_an_answer_in_four_writes_arrives_in_one_piece(connection: socket.socket) -> None:
    """Head, two events and the end are one segment, in their order; and so is the next answer on the connection."""
    loop = asyncio.get_running_loop()
    for _ in range(2):
        await loop.sock_sendall(connection, _REQUEST)
        answer = await loop.sock_recv(connection, 65_536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_connection_that_is_closed_has_said_everything(connection: socket.socket) -> None:
    """An answer with `connection: close` is whole before the end of the connection."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, _REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    answer = b""
    while data := await loop.sock_recv(connection, 65_536):
        answer += data
    assert answer.endswith(b"0\r\n\r\n")

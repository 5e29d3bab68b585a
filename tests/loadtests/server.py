"""
A gateway of the tests, run as a process: answers well or badly, as the last part of the path says.

`/mixed` takes the behaviours in turn, by the number of the request. `leave` answers well and closes the connection
without notice. `GET /seen` tells which requests came in. The port is printed first. The backlog is large, or a frozen
server would turn a burst into SYN retries.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys

from seawall.answers import answer_tokens

MIXED = (
    "whole",
    "cut",
    "undone",
    "html",
    "unavailable",
    "reset",
    "hang",
    "other",
    "error_event",
    "refused_plain",
)
seen: list[dict[str, object]] = []


def chunk(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(value: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def plain(status: str, kind: str, body: bytes, extra: str = "") -> bytes:
    """Return a response with a length."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


def stream_of(request_id: str, behaviour: str) -> list[bytes]:
    """Return the pieces of a stream; all but the last are followed by a pause."""
    tokens = answer_tokens("gemini", request_id, 8)
    events = [event({"choices": [{"delta": {"content": token}}]}) for token in tokens]
    if behaviour == "cut":
        return [chunk(piece) for piece in events[:4]]
    if behaviour == "error_event":
        broke = event({"error": {"code": "provider_error", "message": "the provider broke"}})
        return [chunk(piece) for piece in [*events[:4], broke]] + [b"0\r\n\r\n"]
    end = [event({"choices": [], "seawall": {"provider": "gemini"}})]
    end += [] if behaviour == "undone" else [event(b"[DONE]")]
    return [chunk(piece) for piece in [*events, *end]] + [b"0\r\n\r\n"]


async def answer(writer: asyncio.StreamWriter, behaviour: str, request_id: str, stream: bool) -> None:
    """Play one behaviour. Raises ConnectionError to have the connection closed."""
    if behaviour == "html":
        writer.write(plain("200 OK", "text/html", b"<html><body>Welcome</body></html>"))
    elif behaviour == "unavailable":
        body = json.dumps({"error": {"code": "all_clouds_down", "message": "All Clouds Down"}}).encode()
        writer.write(plain("503 Service Unavailable", "application/json", body, "retry-after: 7\r\n"))
    elif behaviour == "refused_plain":
        writer.write(plain("502 Bad Gateway", "text/plain", b"bad gateway"))
    elif behaviour == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionError
    elif behaviour == "hang":
        await asyncio.sleep(3600)
    elif stream:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in stream_of(request_id if behaviour != "other" else "elsewhere", behaviour):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)
        if behaviour == "cut":
            raise ConnectionError
    else:
        told = request_id if behaviour != "other" else "elsewhere"
        count = 4 if behaviour == "cut" else 8
        text = "".join(answer_tokens("claude", told, 8)[:count])
        body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        writer.write(plain("200 OK", "application/json", body, "x-seawall-provider: claude\r\n"))
    await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection to its end."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            if first.startswith("GET /seen"):
                writer.write(plain("200 OK", "application/json", json.dumps(seen).encode()))
                continue
            request = json.loads(await reader.readexactly(int(headers["content-length"])))
            request_id = headers["x-request-id"]
            key = headers.get("authorization")
            seen.append(
                {"id": request_id, "key": key, **{name: request[name] for name in request if name != "messages"}}
            )
            behaviour = first.split(" ")[1].rsplit("/", 1)[1]
            if behaviour == "mixed":
                behaviour = MIXED[int(request_id) % len(MIXED)]
            await answer(writer, behaviour, request_id, request["stream"])
            if behaviour == "leave":
                return
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Listen on a free port until killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

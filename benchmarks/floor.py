"""
The floor under every Python gateway: raw ASGI on uvicorn (uvloop, httptools), pyreqwest, bytes passed through.

It decides nothing, reads nothing and forgets everything: what a router adds is measured against it.
`python -m benchmarks.floor UPSTREAM_URL` prints the port.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from pyreqwest.client import Client, ClientBuilder

__all__ = ["Floor", "main", "serve_app"]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Floor:
    """Pass each request on to `url` and its answer back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        self._client = self._client or ClientBuilder().follow_redirects(False).no_proxy().build()
        request = self._client.post(self._url).headers(_HEADERS).body_bytes(body)
        if b'"stream":true' in body:
            async with request.streamed_read_buffer_limit(0).build_streamed() as answer:
                await send({"type": "http.response.start", "status": answer.status, "headers": _SSE})
                reader = answer.body_reader
                while (chunk := await reader.read_chunk()) is not None:
                    await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = await request.build().send()
        content = bytes(await answer.bytes())
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


_HEADERS = {"content-type": "application/json", "authorization": "Bearer benchmark", "accept-encoding": "identity"}
_SSE = [(b"content-type", b"text/event-stream")]


def serve_app(app: Any) -> None:
    """Serve an ASGI app on a free port of loopback, printing the port, until the process is ended."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        lifespan="off",
        loop="uvloop",
        http="httptools",
        ws="none",
    )
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


def main(url: str) -> int:
    """Serve the floor in front of `url`."""
    serve_app(Floor(url))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))

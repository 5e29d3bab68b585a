"""Providers that tell whoever listens what key they were sent, and a client that asks them for everything."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from canaries import Canaries

__all__ = ["MODES", "REPEATING", "Echo", "asked"]

REPEATING = ("400", "422", "in the middle")
"""How a provider behaves when its own words go to the client."""
MODES = ("401", "403", "404", "429", "500", "html", "no JSON", "redirect", "good")
MODELS = {"openai": "gpt-4o", "claude": "claude-haiku", "gemini": "gemini"}


class Echo:
    """Three providers that tell whoever listens what key they were sent: in errors, in headers, in the middle."""

    def __init__(self, canaries: Canaries) -> None:
        self.mode = ""
        self.port = 0
        self.seen: list[bytes] = []
        self._canaries = canaries

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Echo]:
        """Listen on a free port."""
        clients: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            clients.add(task)
            task.add_done_callback(clients.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in [*clients]:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
                self.seen.append(head)
                status, kind, told = self._answer(head, body)
                line = b"HTTP/1.1 %d Told\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, kind, len(told))
                key = re.search(rb"(?i)(?:key|authorization): (?:bearer )?([^\r]+)", head)
                line += b"x-key: %b\r\nretry-after: %b\r\n" % (key[1] if key else b"", key[1] if key else b"")
                writer.write(line + b"\r\n" + told)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def _answer(self, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
        if b"/v1/traces" in head:
            return 200, b"application/x-protobuf", b""
        key = re.search(rb"(?i)(?:key|authorization): (?:bearer )?([^\r]+)", head)
        sent = (key[1] if key else b"").decode("latin-1") + " in " + head.decode("latin-1")
        shown = self._shown(sent, body)
        if shown is not None:
            return shown
        error = {"message": f"Incorrect key {sent}", "type": sent, "code": sent, "status": sent}
        return int(self.mode or 401), b"application/json", json.dumps({"type": "error", "error": error}).encode()

    def _shown(self, sent: str, body: bytes) -> tuple[int, bytes, bytes] | None:
        """Return the answers that are not an error in JSON."""
        first = {"model": "m", "choices": [{"index": 0, "delta": {"content": "Hel"}}]}
        events = [first, {"error": {"message": sent, "code": sent, "type": sent}}]
        said = f"say {self._canaries.control}"
        answer = {"role": "assistant", "content": said if said.encode() in body else "nothing"}
        good = {"id": "x", "model": "m", "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]}
        return {
            "html": (502, b"text/html", f"<html><pre>{sent}</pre></html>".encode()),
            "in the middle": (
                200,
                b"text/event-stream",
                b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events),
            ),
            "no JSON": (200, b"application/json", f"{{{sent}".encode()),
            "redirect": (302, b"text/plain", sent.encode()),
            "good": (200, b"application/json", json.dumps(good).encode()),
        }.get(self.mode)


async def asked(base: str, echo: Echo, canaries: Canaries, modes: tuple[str, ...]) -> list[bytes]:
    """Ask for everything that there is, in every mode of the providers; return heads and bodies of the answers."""
    told: list[bytes] = []
    known = canaries.secrets["SEAWALL_API_KEYS"]
    wrong = canaries.new("a wrong key of a client")

    def keep(answer: httpx.Response) -> None:
        told.append(str(answer.headers.raw).encode() + answer.content)

    async with httpx.AsyncClient(base_url=base, verify=False, timeout=20, trust_env=False) as client:  # noqa: S501
        sent = {"authorization": f"Bearer {known}"}
        number = 0
        for mode in modes:
            echo.mode = mode
            for model in MODELS.values():
                for stream in (False, True):
                    number += 1
                    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello?"}]}
                    if mode == "good":
                        body["messages"] = [{"role": "user", "content": f"say {canaries.control}"}]
                    named = sent | {"x-request-id": f"{canaries.control}-{number}", "x-seawall-subject": "anna"}
                    keep(await client.post("/v1/chat/completions", json=body, headers=named))
        for header in (f"Bearer {wrong}", f"Basic {wrong}", wrong):
            keep(await client.post("/v1/chat/completions", json={}, headers={"authorization": header}))
        for path in ("/v1/models", "/v1/router/status", "/metrics", "/openapi.json", "/readyz", f"/x?api_key={wrong}"):
            keep(await client.get(path, headers=sent))
            keep(await client.get(path, headers={"authorization": f"Bearer {wrong}"}))
    return told

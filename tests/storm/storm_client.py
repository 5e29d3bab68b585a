"""
A client as its user sees it: keep-alive connections to a gateway, chat completions, whole or streamed.

Bare sockets and as little of the machine as possible, for the gateway shares it. Each connection knows which worker it
reached, and keeps it.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from seawall.answers import judge_text, marked

PATIENCE_S = 20.0
"""A client that waits longer than this counts as hung."""
IDLE_S = 4.0
"""A connection idle for longer is not used again, as most clients have it: its server may be closing it."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of one request. Times in seconds of the monotonic clock."""

    request_id: str
    worker: str
    start_s: float
    end_s: float
    status: int | None
    """None: no answer, or one that broke off."""
    provider: str | None
    """Who began to answer, as the gateway told."""
    text: str
    done: bool
    """Whether the answer was told to be complete: a JSON body, or a stream's `[DONE]`."""
    code: str | None
    """The stable code of an error, in a body or as an event in the stream."""
    retry_after_s: int | None
    problem: str | None = None

    @property
    def took_s(self) -> float:
        """How long the client waited."""
        return self.end_s - self.start_s

    def is_whole(self, tokens: int) -> bool:
        """Whether the text is the emulators' known one, all of it and nothing else."""
        judged = judge_text(self.text, self.request_id)
        return self.status == 200 and self.done and judged.whole and judged.tokens == tokens

    def __str__(self) -> str:
        told = self.problem or self.code or judge_text(self.text, self.request_id).problem
        return f"{self.request_id}: {self.status} {told} after {self.took_s:.3f} s, {self.text[:80]!r}"


class Connection:
    """One keep-alive connection to the gateway on `port`."""

    worker = ""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._used_s = 0.0

    @classmethod
    async def to(cls, port: int) -> Self:
        """Return a connection that knows its worker."""
        made = cls(port)
        await made._connect()
        return made

    async def ask(self, request_id: str, *, stream: bool, model: str = "seawall") -> Seen:
        """Send one chat completion and return what came of it. After a broken answer the connection is a new one."""
        if time.monotonic() - self._used_s > IDLE_S:
            await self.close()
            await self._connect()
        start_s = time.monotonic()
        found: dict[str, Any] = {"status": None, "provider": None, "code": None, "retry_after_s": None}
        text, done, problem = "", False, None
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._writer.write(_request(request_id, stream=stream, model=model))
                status, headers = await self._head()
                found |= {"status": status, "provider": headers.get("x-seawall-provider")}
                if "retry-after" in headers:
                    found["retry_after_s"] = int(headers["retry-after"])
                body = await self._body(headers)
            text, done, found["code"] = _read_stream(body) if stream and status == 200 else _read_json(body)
        except TimeoutError:
            problem = f"hung for {PATIENCE_S:g} s"
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            found["status"], problem = None, f"broken: {error!r}"
        end_s = self._used_s = time.monotonic()
        seen = Seen(
            request_id=request_id,
            worker=self.worker,
            start_s=start_s,
            end_s=end_s,
            text=text,
            done=done,
            problem=problem,
            **found,
        )
        if problem is not None:
            await self.close()
            await self._connect()
        return seen

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _connect(self) -> None:
        """Connect, to the same worker as before where there was one."""
        while True:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(b"GET /healthz HTTP/1.1\r\nhost: storm\r\n\r\n")
            _, headers = await self._head()
            await self._body(headers)
            worker = headers.get("x-seawall-worker", "the only one")
            if worker == (self.worker or worker):
                break
            await self.close()
        self.worker, self._used_s = worker, time.monotonic()

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        parts: list[bytes] = []
        while size := int(await self._reader.readline(), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readline()
        return b"".join(parts)


def _request(request_id: str, *, stream: bool, model: str) -> bytes:
    messages = [{"role": "user", "content": marked(request_id, "What does a seawall do?")}]
    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: storm\r\ncontent-type: application/json\r\n"
        f"x-request-id: {request_id}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _read_json(body: bytes) -> tuple[str, bool, str | None]:
    answer = json.loads(body)
    if "error" in answer:
        return "", False, answer["error"]["code"]
    return answer["choices"][0]["message"]["content"], True, None


def _read_stream(body: bytes) -> tuple[str, bool, str | None]:
    text, done, code = "", False, None
    for event in body.decode().split("\n\n"):
        data = event.removeprefix("data: ")
        if data == "[DONE]":
            done = True
        elif data:
            found = json.loads(data)
            if "error" in found:
                code = found["error"]["code"]
            text += "".join(choice["delta"].get("content") or "" for choice in found.get("choices", ()))
    return text, done, code

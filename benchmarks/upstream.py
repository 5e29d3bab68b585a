"""
The upstream of the speed benchmark: an OpenAI provider that answers ~500 bytes at once, or a stream of 51 events.

As cheap as Python can be, so that the gateway is what is measured: no HTTP library, answers made beforehand. Each event
of a stream leaves in a `write` and a pass of the event loop of its own. A prompt that contains `[paced]` is streamed as
a model would: the first token after 50 ms, then one every 10 ms.
`python -m benchmarks.upstream` prints the port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

__all__ = ["CYCLE_S", "EVENTS", "TEXT", "json_body", "serve", "stream_writes"]

EVENTS = 51
"""Events with text in one stream; the end with usage and `[DONE]` come as one write more."""
FIRST_S, GAP_S = 0.05, 0.01
CYCLE_S = FIRST_S + EVENTS * GAP_S
"""How long a stream at a model's pace takes."""
_WORDS = [f"word{n} " for n in range(EVENTS)]
TEXT = "".join(_WORDS)
_USAGE = {"prompt_tokens": 12, "completion_tokens": 60, "total_tokens": 72}


def json_body() -> bytes:
    """Return the body of the whole answer."""
    message = {"role": "assistant", "content": TEXT[:250]}
    return json.dumps(
        {
            "id": "chatcmpl-benchmark",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": _USAGE,
        }
    ).encode()


def stream_writes() -> list[bytes]:
    """Return the events of the streamed answer as they are written, without the framing of HTTP."""
    end = _event({}, "stop") + _event({}, choices=[], usage=_USAGE) + b"data: [DONE]\n\n"
    return [*(_event({"content": word}) for word in _WORDS), end]


def _json_answer() -> bytes:
    body = json_body()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(delta: dict[str, str], finish_reason: str | None = None, **more: object) -> bytes:
    data = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **more,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_ANSWER = _json_answer()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WRITES = [_chunk(write) for write in stream_writes()]
_WRITES[-1] += b"0\r\n\r\n"


class _Upstream(asyncio.Protocol):
    """One connection: requests one after the other, each answered as soon as its body is whole."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._data:
            data = self._data + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _content_length(data[:head]):
            self._data = data
            return
        self._data = b""
        if b'"stream":true' in data or b'"stream": true' in data:
            self._transport.write(_HEAD)
            if b"[paced]" in data:
                self._timer = self._loop.call_later(FIRST_S, self._paced, 0)
            else:
                self._timer = self._loop.call_soon(self._next, 0)
        else:
            self._transport.write(_ANSWER)

    def _next(self, n: int) -> None:
        self._transport.write(_WRITES[n])
        if n + 1 < len(_WRITES):
            self._timer = self._loop.call_soon(self._next, n + 1)

    def _paced(self, n: int) -> None:
        self._transport.write(_WRITES[n])
        if n + 1 < len(_WRITES):
            self._timer = self._loop.call_later(GAP_S, self._paced, n + 1)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


async def serve() -> None:
    """Serve on a free port of loopback, printing it, until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())

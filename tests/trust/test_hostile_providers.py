"""Hostile providers: whatever they answer costs bounded memory and time, and the next provider answers instead."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import httpx
import pytest

from router.transport import Call, Timeouts
from seawall.transports import transport_named

pytestmark = pytest.mark.real

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
JSON = HEAD + b"application/json\r\n"
SSE = HEAD + b"text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
BIG = b"x" * (1 << 20)
TIMES = {"FIRST_BYTE_TIMEOUT": "1.5s", "IDLE_TIMEOUT": "1s", "TOTAL_TIMEOUT": "3s", "LATENCY_LIMIT": "0"}
FAST = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000"}


def completion(usage: Any = None, text: str = "the evil answer") -> bytes:
    """Return a whole answer of OpenAI's."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return json.dumps({"model": "gpt-4o", "choices": choices, "usage": usage}).encode()


def sized(body: bytes, head: bytes = JSON) -> bytes:
    """Return an answer with its length."""
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# name → (is it a stream, its beginning, what comes again and again, seconds between these)
ENDLESS: dict[str, tuple[bool, bytes, bytes, float]] = {
    "a body of 1 GB": (False, JSON + b"content-length: 1000000000\r\n\r\n", BIG, 0),
    "an endless body": (False, JSON + CHUNKED + b"\r\n", chunk(BIG), 0),
    "an endless error": (False, b"HTTP/1.1 500 No\r\n" + CHUNKED + b"\r\n", chunk(BIG), 0),
    "an endless error in bytes": (False, b"HTTP/1.1 500 No\r\n" + CHUNKED + b"\r\n", chunk(b"x") * 1000, 0),
    "an endless line": (True, SSE + CHUNKED + b"\r\ndata: ", chunk(BIG), 0),
    "an endless line in pieces": (True, SSE + CHUNKED + b"\r\n", chunk(b"x" * 500), 0.0005),
    "endless comments": (True, SSE + CHUNKED + b"\r\n", chunk(b": hello\n\n" * 1000), 0),
    "endless data of one event": (True, SSE + CHUNKED + b"\r\n", chunk(b"data: x\n" * 8000), 0),
    "an endless header": (False, JSON + b"x-a: ", BIG, 0),
    "endless headers": (False, JSON, b"x-a: b\r\n" * 10_000, 0),
    "endless interim answers": (False, b"", b"HTTP/1.1 103 Early Hints\r\nx-a: b\r\n\r\n" * 1000, 0),
    "an endless trailer": (False, JSON + CHUNKED + b"\r\n0\r\n", b"x-a: b\r\n" * 10_000, 0),
    "an endless chunk extension": (False, JSON + CHUNKED + b"\r\n5;a=", BIG, 0),
    "one byte a while, of a body": (False, JSON + b"content-length: 1000\r\n\r\n{", b" ", 0.3),
    "one byte a while, of a head": (False, JSON, b"x", 0.3),
    "one comment a while": (True, SSE + CHUNKED + b"\r\n", chunk(b":\n\n"), 0.3),
}
BOMB = gzip.compress(bytes(50 << 20), 9)
OTHER = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/stolen\r\ncontent-length: 0\r\n\r\n"
# Answers that are whole and wrong.
WRONG: dict[str, bytes] = {
    "no UTF-8": sized(completion(text="A").replace(b"A", b"\xff\xfe\xfa")),
    "no JSON": sized(b"<html>"),
    "deep JSON": sized(b'{"choices":' + b"[" * 300_000),
    "deep JSON where nobody looks": sized(b'{"x":' + b"[" * 300_000 + b"]" * 300_000 + b"}"),
    "a bomb": sized(BOMB, JSON + b"content-encoding: gzip\r\n"),
    "a bomb that hides": sized(BOMB),
    "length and chunked": JSON + CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": JSON + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}    ",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n" * 10,
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
    "another status": b"HTTP/1.1 999 Hm\r\ncontent-length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "another type": sized(completion(), HEAD + b"text/html\r\n"),
}


async def ask(gateway: Any, *, stream: bool = False, model: str = "gpt-4o") -> httpx.Response:
    """Ask for an answer of the hostile provider's; another one may take over."""
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        return await client.post(f"{gateway.url}/v1/chat/completions", json=asked)


async def test_endless_answers_end(start_gateway: Any, provider: Any) -> None:
    """Each endless body, head, line and drip is given up within bounds, and another provider's answer comes instead."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        _, begin, part, pause_s = ENDLESS[now[0]]
        writer.write(begin)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    now = [""]
    async with provider(answer).serving() as hostile, start_gateway(hostile, **TIMES, **FAST) as gateway:
        for name, (stream, *_) in ENDLESS.items():
            now[0] = name
            async with gateway.attacked(name, grows_mb=110):  # three answers at a time, each up to its limit
                begun = time.monotonic()
                answers = await asyncio.gather(*[ask(gateway, stream=stream) for _ in range(3)])
                took_s = time.monotonic() - begun
            drips = name.startswith("one ") or name.endswith("in pieces")
            assert took_s < 9, (name, took_s)
            for each in answers:
                # A drip uses up the time of the whole request: then there is none left for anybody else.
                assert each.status_code == 200 or (drips and each.status_code in (503, 504)), (name, each.text[:200])
                assert drips or "the good answer" in each.text, (name, each.text[:300])
        assert gateway.descriptors() < 40


async def test_wrong_answers_are_nobody_elses(start_gateway: Any, provider: Any) -> None:
    """Each broken, packed, redirecting or misplaced answer is refused: the next provider answers."""
    stolen: list[bytes] = []

    async def thief(body: bytes, writer: asyncio.StreamWriter) -> None:
        stolen.append(body)
        writer.write(sized(completion(text="stolen")))

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(now[0])
        await writer.drain()

    now = [b""]
    async with (
        provider(thief).serving() as other,
        provider(answer).serving() as hostile,
        start_gateway(hostile, **TIMES, **FAST) as gateway,
        gateway.attacked("wrong answers"),
    ):
        redirects = {f"redirect {n}": OTHER.replace(b"302", b"%d" % n) % other.port for n in (301, 302, 303, 307, 308)}
        for name, said in {**WRONG, **redirects}.items():
            now[0] = said
            got = await ask(gateway)
            assert got.status_code == 200, (name, got.text[:300])
            assert "evil" not in got.text, name
            assert "the good answer" in got.text, name
        assert not stolen


async def test_usage_that_cannot_be_true_costs_nothing_absurd(start_gateway: Any, provider: Any) -> None:
    """NaN, negative, huge and misshapen usage neither breaks an answer nor lifts or empties the budget."""
    told: list[Any] = [
        {"prompt_tokens": -5, "completion_tokens": -(10**9)},
        {"prompt_tokens": 10**15, "completion_tokens": 10**15},
        {"prompt_tokens": 10**30, "completion_tokens": 1},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": "many", "completion_tokens": None},
        [],
        "none",
        None,
    ]

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sized(completion(told[0])))
        await writer.drain()

    async with (
        provider(answer).serving() as hostile,
        start_gateway(hostile, **TIMES, **FAST) as gateway,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        spent = 0.0
        while told:
            got = await ask(gateway)
            assert got.status_code == 200, (told[0], got.text)
            usage = got.json()["usage"]
            assert 0 <= usage["completion_tokens"] <= 1024, told[0]
            assert 0 <= usage["prompt_tokens"] < 10_000, told[0]
            status = await client.get(f"{gateway.url}/v1/router/status")
            assert status.status_code == 200, (told[0], status.text)
            now = status.json()["spent_usd"]
            assert spent <= now < spent + 0.1, (told[0], spent, now)
            spent = now
            told.pop(0)


@pytest.mark.parametrize("name", ["httptools", "pyreqwest", "httpx"])
async def test_an_answer_to_somebody_else_reaches_nobody(name: str, provider: Any) -> None:
    """What comes unasked, with an answer or after it, is never taken for the answer to the next call."""
    late_s = [0.0]

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sized(b"to " + body))
        if body == b"evil":
            if late_s[0]:
                await asyncio.sleep(late_s[0])
            writer.write(sized(b"to somebody else"))
        await writer.drain()

    timeouts = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
    transport = transport_named(name)
    try:
        async with provider(answer).serving() as hostile:
            for late_s[0] in (0.0, 0.02):
                for n in range(10):
                    for body in (b"evil", b"good %d" % n):
                        url = f"http://127.0.0.1:{hostile.port}/"
                        call = Call(method="POST", url=url, headers=(), body=body, timeouts=timeouts)
                        async with transport.send(call) as got:
                            said = b"".join([part async for part in got.body])
                        assert said == b"to " + body
                        if body == b"evil" and late_s[0]:
                            await asyncio.sleep(0.05)
    finally:
        await transport.aclose()

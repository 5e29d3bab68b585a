"""The end of a gateway: no client notices it, and what cannot be finished is told properly."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from seawall.answers import judge_text

pytestmark = pytest.mark.real

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
CHAT = "/v1/chat/completions"


async def streamed(client: openai.AsyncOpenAI, body: dict[str, Any], began: asyncio.Event) -> str:
    """Return a stream's text; set `began` when its first chunk has come."""
    text = ""
    async for chunk in await client.chat.completions.create(**body):
        began.set()
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    return text


async def test_streams_of_32_clients_end_whole_after_the_signal(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked
) -> None:
    """Whatever streams when the signal comes, streams on to its end; then the gateway exits with 0."""
    models = ("gemini", "claude", "openai", "local")
    requests = [asked(models[n % 4], stream=True) for n in range(32)]
    with start_gateway(slow_emulators) as gateway:
        async with gateway.async_client() as client:
            begun = [asyncio.Event() for _ in requests]
            work = [
                asyncio.create_task(streamed(client, body, began))
                for (_, body), began in zip(requests, begun, strict=True)
            ]
            for began in begun:
                await began.wait()
            gateway.process.send_signal(signal.SIGTERM)
            assert not any(task.done() for task in work)
            texts = await asyncio.gather(*work)
        assert await asyncio.to_thread(gateway.process.wait, 5) == 0
    for (request_id, _), text in zip(requests, texts, strict=True):
        assert judge_text(text, request_id).whole


def test_request_that_comes_just_after_the_signal_is_served(
    emulators: Emulators, start_gateway: Any, asked: Asked
) -> None:
    """For DRAIN_DELAY `/readyz` says 503, and new and idle connections are served all the same, for the last time."""
    with (
        start_gateway(emulators, DRAIN_DELAY="1.5") as gateway,
        httpx.Client(base_url=gateway.url, timeout=10) as idle,
        httpx.Client(base_url=gateway.url, timeout=10) as fresh,
    ):
        assert "connection" not in idle.get("/readyz").headers
        gateway.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while idle.get("/readyz").status_code == 200:
            assert time.monotonic() - began < 1
        time.sleep(0.2)  # a signal is acted on within a tick of the server
        for client in (idle, fresh):
            request_id, body = asked()
            answer = client.post(CHAT, json=body)
            assert answer.headers["connection"] == "close"
            assert judge_text(answer.json()["choices"][0]["message"]["content"], request_id).whole
        assert gateway.process.wait(5) == 0
        assert time.monotonic() - began < 4


def test_answers_beyond_the_drain_timeout_are_cut_and_told(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked
) -> None:
    """A stream gets an error event and no [DONE], a JSON answer 503, no log a traceback; parts of seconds count."""
    hanging, streaming = asked("claude"), asked("gemini", stream=True, max_tokens=20)
    with (
        slow_emulators.misbehaving("claude", hang=True),
        start_gateway(slow_emulators, DRAIN_TIMEOUT="0.2", DRAIN_DELAY="0.05") as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as wire,
        httpx.stream("POST", gateway.url + CHAT, json=streaming[1], timeout=10) as stream,
    ):
        gateway.says = "answers cut off: 2; DRAIN_TIMEOUT is 0.2 s"
        lines = stream.iter_lines()
        assert next(lines)
        data = json.dumps(hanging[1]).encode()
        wire.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        time.sleep(0.2)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        *_, last = [line.removeprefix("data: ") for line in lines if line]
        with wire.makefile("rb") as file:
            refused = file.read()
        assert gateway.process.wait(8) == 0
        assert time.monotonic() - began < 1.5
    assert json.loads(last)["error"]["code"] == "shutting_down"
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"shutting_down"' in refused
    for request_id, _ in (hanging, streaming):
        assert not slow_emulators.calls(request_id, 1)[0]["completed"]


def test_client_who_does_not_read_does_not_hold_up_the_end(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked
) -> None:
    """A connection that was never asked anything, half a request, and an answer that nobody reads: all are ended."""
    with start_gateway(slow_emulators, DRAIN_TIMEOUT="0.3") as gateway:
        wires = [socket.create_connection(("127.0.0.1", gateway.port), timeout=10) for _ in range(3)]
        wires[1].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le")
        wires[2].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        time.sleep(0.2)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(8) == 0
        assert time.monotonic() - began < 4
        for wire in wires:
            wire.close()


def test_second_interrupt_ends_the_drain(slow_emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """Who presses Ctrl-C twice does not want to wait; the client is told all the same."""
    _, body = asked("gemini", stream=True)
    with (
        start_gateway(slow_emulators) as gateway,
        httpx.stream("POST", gateway.url + CHAT, json=body, timeout=10) as stream,
    ):
        gateway.says = "answers cut off: 1;"
        lines = stream.iter_lines()
        assert next(lines)
        gateway.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        gateway.process.send_signal(signal.SIGINT)
        *_, last = [line for line in lines if line]
        assert gateway.process.wait(5) == 0
    assert "shutting_down" in last

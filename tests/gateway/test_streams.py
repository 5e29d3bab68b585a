"""Answers under way: clients who leave, providers who break off, a gateway that is told to stop, many at once."""

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
TOKENS = 6


def events_of(body: str) -> list[str]:
    """Return the data of each server-sent event."""
    assert body.endswith("\n\n")
    return [event.removeprefix("data: ") for event in body.split("\n\n") if event]


async def whole(client: openai.AsyncOpenAI, body: dict[str, Any], began: asyncio.Event | None = None) -> str:
    """Return the text of an answer, JSON or stream as it is asked for; `began` is set at a stream's first chunk."""
    answer = await client.chat.completions.create(**body)
    if not body.get("stream"):
        return answer.choices[0].message.content
    text = ""
    async for chunk in answer:
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        if began is not None:
            began.set()
    return text


@pytest.mark.parametrize("clients", [8, 32])
async def test_many_clients_at_once_all_get_whole_answers(gateway: Gateway, asked: Asked, clients: int) -> None:
    """JSON and streams mixed, to all four providers: nobody gets another one's answer, or a part of it."""
    models = ["gemini", "claude", "openai", "local"]
    requests = [asked(models[n % 4], stream=n % 8 < 4) for n in range(clients)]
    async with gateway.async_client() as client:
        for _ in range(2):
            texts = await asyncio.gather(*(whole(client, body) for _, body in requests))
            for (request_id, body), text in zip(requests, texts, strict=True):
                assert judge_text(text, request_id).providers == (body["model"],)
                assert judge_text(text, request_id).whole


@pytest.mark.parametrize("cut_after", [1, 3, 5])
@pytest.mark.parametrize("provider", ["gemini", "claude", "openai", "local"])
def test_cut_stream_is_whole_for_the_client(
    emulators: Emulators, gateway: Gateway, asked: Asked, provider: str, cut_after: int
) -> None:
    """A provider that breaks off in mid-stream is followed by another, and the end says who wrote what."""
    request_id, body = asked(provider, stream=True)
    with emulators.misbehaving(provider, cut_after_chunks=cut_after):
        events = events_of(httpx.post(gateway.url + CHAT, json=body, timeout=20).text)
    # The breaker of the shared gateway must not open over these: one good answer sets it back.
    httpx.post(gateway.url + CHAT, json=asked(provider)[1], timeout=20)
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    judgement = judge_text(text, request_id)
    assert judgement.whole
    told = chunks[-1]["seawall"]
    assert [*told["continued"], told["provider"]] == list(judgement.providers)
    assert told["attempts"] == 2


def test_cut_stream_is_an_error_event_when_asked_for(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """With MIDSTREAM=error: the tokens that came, an error event, no [DONE]; OpenAI's SDK raises it."""
    request_id, body = asked("claude", stream=True)
    with (
        start_gateway(emulators, MIDSTREAM="error") as gateway,
        emulators.misbehaving("claude", cut_after_chunks=3),
        gateway.client() as client,
    ):
        answer = httpx.post(gateway.url + CHAT, json=body, timeout=20)
        with pytest.raises(openai.APIError) as caught:
            list(client.chat.completions.create(**body))
    assert answer.status_code == 200
    *events, last = [json.loads(event) for event in events_of(answer.text)]
    text = "".join(event["choices"][0]["delta"]["content"] for event in events)
    assert judge_text(text, request_id).problem == "cut"
    assert last["error"]["code"] in ("reset", "truncated_body")
    assert "[DONE]" not in answer.text
    assert caught.value.code == last["error"]["code"]


def test_failure_before_the_first_token_is_a_status_and_no_stream(
    emulators: Emulators, start_gateway: Any, asked: Asked
) -> None:
    """As long as nothing was sent a stream fails over freely, with MIDSTREAM=error too."""
    request_id, body = asked("claude", stream=True)
    with (
        start_gateway(emulators, MIDSTREAM="error") as gateway,
        emulators.misbehaving("claude", cut_after_chunks=0),
    ):
        answer = httpx.post(gateway.url + CHAT, json=body, timeout=20)
    assert answer.headers["x-seawall-provider"] == "gemini"
    assert f"gemini:{request_id}:{TOKENS}/{TOKENS}" in answer.text


@pytest.mark.parametrize("provider", ["gemini", "claude", "openai", "local"])
def test_client_who_leaves_a_stream_ends_the_upstream_call(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked, provider: str
) -> None:
    """The provider sees its client go long before the answer would have ended."""
    request_id, body = asked(provider, stream=True)
    with start_gateway(slow_emulators) as gateway:
        with httpx.stream("POST", gateway.url + CHAT, json=body, timeout=20) as answer:
            assert next(answer.iter_lines())
        (call,) = slow_emulators.calls(request_id, 1)
        assert not call["completed"]
        assert call["completion_tokens"] < 20
        # Leaving says nothing about the provider.
        status = httpx.get(f"{gateway.url}/v1/router/status").json()["providers"][provider]
        assert (status["breaker"], status["last_error"]) == ("closed", None)


@pytest.mark.parametrize("stream", [False, True])
def test_client_who_leaves_before_the_first_token_ends_the_upstream_call(
    emulators: Emulators, gateway: Gateway, asked: Asked, stream: bool
) -> None:
    """A client that gives up on a hanging provider, JSON or stream, frees it, and nobody else is asked."""
    request_id, body = asked("openai", stream=stream)
    with emulators.misbehaving("openai", hang=True):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(gateway.url + CHAT, json=body, timeout=0.3)
        (call,) = emulators.calls(request_id, 1)
    assert (call["behaviour"], call["completed"]) == ("fault", False)


def test_client_who_leaves_in_the_middle_of_its_body_is_forgotten(gateway: Gateway) -> None:
    """A request that never becomes whole is dropped without a word in the log."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as wire:
        wire.sendall(b"POST " + CHAT.encode() + b' HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"messages"')
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_answers_under_way_end_whole_after_the_signal(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked, how: signal.Signals
) -> None:
    """Told to stop, the gateway takes nothing new, lets streams and JSON answers finish, and exits with 0."""
    models = ("gemini", "claude", "local")
    plain = [asked(model) for model in models]
    streams = [asked(model, stream=True) for model in models]
    with start_gateway(slow_emulators) as gateway:
        async with gateway.async_client() as client:
            work = [asyncio.create_task(whole(client, body)) for _, body in plain]
            await asyncio.sleep(0.1)
            # What has brought its first chunk is under way for sure, and so is what was sent before it.
            under_way = [asyncio.Event() for _ in streams]
            for (_, body), event in zip(streams, under_way, strict=True):
                work.append(asyncio.create_task(whole(client, body, event)))
            for event in under_way:
                await event.wait()
            gateway.process.send_signal(how)
            assert not any(task.done() for task in work[-3:])
            texts = await asyncio.gather(*work)
            with pytest.raises(OSError), socket.create_connection(("127.0.0.1", gateway.port), timeout=1):
                pass
        for (request_id, _), text in zip([*plain, *streams], texts, strict=True):
            assert judge_text(text, request_id).whole
        assert await asyncio.to_thread(gateway.process.wait, 5) == 0
    for request_id, _ in [*plain, *streams]:
        assert slow_emulators.calls(request_id, 1)[0]["completed"]


def test_idle_connections_do_not_hold_up_the_end(emulators: Emulators, start_gateway: Any) -> None:
    """Keep-alive connections with nothing under way are closed at once."""
    with start_gateway(emulators) as gateway, httpx.Client(base_url=gateway.url) as http:
        http.get("/healthz")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(5) == 0
        assert time.monotonic() - began < 3

"""The app in this process, on scripted providers: what no real client can show on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router.models import ModelType
from router.testing import Answering, ScriptedTransport, scripted_router
from seawall.gateway.app import create_app
from seawall.gateway.config import GatewaySettings

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def app_on(script: ScriptedTransport, is_draining: Callable[[], bool] = lambda: False) -> FastAPI:
    """Return the gateway's app in front of scripted providers."""
    return create_app(lambda: scripted_router(script), GatewaySettings(), is_draining=is_draining)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """Return a client that calls the app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://gateway")


def scope_of(path: str = CHAT) -> dict[str, Any]:
    """Return the ASGI scope of a POST."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
    }


async def test_gateway_that_was_told_to_stop_is_not_ready() -> None:
    """`/readyz` is 503 from the signal on, so that nobody sends more; `/healthz` stays 200, for it lives."""
    draining = False
    async with client_of(app_on(ScriptedTransport({}), lambda: draining)) as client:
        assert (await client.get("/readyz")).status_code == 200
        draining = True
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        assert (await client.get("/healthz")).status_code == 200


async def test_end_of_the_app_closes_the_router() -> None:
    """The transport is closed when the server ends the app's life."""
    closed: list[bool] = []

    class Closing(ScriptedTransport):
        async def aclose(self) -> None:
            closed.append(True)

    app = app_on(Closing({}))
    async with app.router.lifespan_context(app):
        assert not closed
    assert closed == [True]


async def test_defect_of_ours_is_500_without_a_word_of_it() -> None:
    """What is no error of ours is told as 500, and nothing of its words reaches the client."""
    script = ScriptedTransport({})
    script._script = {ModelType.GEMINI: []}  # an IndexError in the middle of a request
    async with client_of(app_on(script)) as client:
        answer = await client.post(CHAT, json=BODY)
    assert answer.status_code == 500
    assert "Index" not in answer.text


async def test_client_who_leaves_before_its_body_is_whole_is_not_answered() -> None:
    """Nothing is sent, and nobody is asked."""
    script, sent = ScriptedTransport({}), []
    messages = iter([{"type": "http.request", "body": b'{"mess', "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await app_on(script)(scope_of(), receive, send)
    assert not sent
    assert not script.calls


@pytest.mark.parametrize("stream", [False, True])
async def test_server_that_cancels_a_request_ends_the_upstream_call(stream: bool) -> None:
    """A request whose task is cancelled, as at the end of the drain, leaves no call open."""
    script = ScriptedTransport({"gemini": [Answering(delay_s=60.0)]})
    body = json.dumps({**BODY, "stream": stream}).encode()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    task = asyncio.create_task(app_on(script)(scope_of(), receive, send))
    async with asyncio.timeout(5):
        while not script.open_calls:  # noqa: ASYNC110 - the script has no event to wait for
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.open_calls == 0


async def test_filtered_stream_without_a_text_is_a_stream_all_the_same() -> None:
    """A last chunk that is the first one, too, is well formed and ends in [DONE]."""
    event = b'data: {"choices": [{"delta": {}, "finish_reason": "content_filter"}]}\n\ndata: [DONE]\n\n'
    async with client_of(app_on(ScriptedTransport({"openai": [Answering(body=event)]}))) as client:
        answer = await client.post(CHAT, json={**BODY, "model": "openai", "stream": True})
    first, done = [part.removeprefix("data: ") for part in answer.text.split("\n\n") if part]
    assert json.loads(first)["choices"][0]["finish_reason"] == "content_filter"
    assert done == "[DONE]"

"""
Answers as the vendors publish them, written down by hand from their documentation and played by respx.

Each is more than a text: tool calls, refusals, cached tokens, thoughts, errors with a pause in every form.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import respx
from vendor_answers import CALLED, OPENAI_USAGE, openai_chunk, sse

from router import AllCloudsDownError, Chunk, HybridRouter, Message, ModelType, Request, RequestError
from router.httpx_transport import HttpxTransport
from router.models import Tool
from router.testing import test_settings

HOSTS = {"gemini": "127.0.0.1", "claude": "127.0.0.2", "openai": "127.0.0.3", "local": "127.0.0.4"}
TOOL = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
WALL_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.fixture
def vendors() -> respx.MockRouter:
    """Every vendor, each at its address; a request that no test expects is an error."""
    return respx.MockRouter(using=None, assert_all_called=False)


@pytest.fixture
async def router(vendors: respx.MockRouter) -> AsyncIterator[HybridRouter]:
    """A router whose every call goes to `vendors`."""
    transport = HttpxTransport(httpx.MockTransport(vendors.async_handler))
    settings = test_settings(ollama_model="llama3.1", retry_after_max="86400s")
    async with HybridRouter(settings, transport=transport, wall=lambda: WALL_S) as made:
        yield made


def answering(vendors: respx.MockRouter, provider: str, body: bytes, *, stream: bool) -> None:
    """Have a vendor answer with `body`."""
    kind = "application/json"
    if stream:
        kind = "application/x-ndjson" if provider == "local" else "text/event-stream"
    vendors.post(host=HOSTS[provider]).respond(200, content=body, content_type=kind)


async def streamed(router: HybridRouter, request: Request) -> tuple[list[Chunk], Chunk]:
    """Return the chunks of a stream, and the last of them."""
    async with aclosing(router.stream(request)) as chunks:
        found = [chunk async for chunk in chunks]
    return found, found[-1]


def ask(provider: str, **more: Any) -> Request:
    """Return a request that prefers `provider`."""
    return Request(messages=(Message(role="user", content="How is the weather in Oslo?" * 10),), model=provider, **more)


@pytest.mark.parametrize(("provider", "stream"), list(CALLED))
async def test_tool_calls_are_read(
    vendors: respx.MockRouter, router: HybridRouter, provider: str, stream: bool
) -> None:
    """Two calls, one without arguments: numbered from 0, with ids, arguments that are JSON, and no thoughts."""
    answering(vendors, provider, CALLED[provider, stream], stream=stream)
    request = ask(provider, tools=(TOOL,), max_tokens=100)
    if stream:
        chunks, told = await streamed(router, request)
        deltas = [call for chunk in chunks for call in chunk.tool_calls]
        numbers = sorted({call.index for call in deltas if call.index is not None})
        ids = [call.id for call in deltas if call.name]
        names = [call.name for call in deltas if call.name]
        arguments = ["".join(call.arguments for call in deltas if call.index == n) for n in numbers]
        text = "".join(chunk.text for chunk in chunks)
        assert numbers == [0, 1]
    else:
        told = await router.complete(request)
        text, ids = told.text, [call.id for call in told.tool_calls]
        names, arguments = [call.name for call in told.tool_calls], [call.arguments for call in told.tool_calls]
    assert (text, told.stop_reason, told.provider) == ("", "tool_calls", provider)
    assert names == ["get_weather", "get_weather"]
    assert [json.loads(each) for each in arguments] == [{"city": "Oslo"}, {}]
    assert all(ids)
    assert len(set(ids)) == 2
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.estimated) == (70, 17, False)
    assert told.usage.cached_tokens == (0 if provider == "local" else 64)


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_s_refusal_is_told_apart(vendors: respx.MockRouter, router: HybridRouter, stream: bool) -> None:
    """What the model says instead of an answer in the wanted form is a refusal, not a text, and not a failure."""
    refused = {"role": "assistant", "content": None, "refusal": "I will not."}
    whole = {"choices": [{"index": 0, "message": refused, "finish_reason": "stop"}], "usage": OPENAI_USAGE}
    pieces = sse(
        openai_chunk({"role": "assistant", "content": ""}),
        openai_chunk({"refusal": "I will "}),
        openai_chunk({"refusal": "not."}),
        openai_chunk({}, "stop"),
        "[DONE]",
    )
    answering(vendors, "openai", pieces if stream else json.dumps(whole).encode(), stream=stream)
    if stream:
        chunks, last = await streamed(router, ask("openai"))
        assert "".join(chunk.refusal for chunk in chunks) == "I will not."
        assert (last.stop_reason, "".join(chunk.text for chunk in chunks)) == ("stop", "")
    else:
        reply = await router.complete(ask("openai"))
        assert (reply.refusal, reply.text, reply.provider) == ("I will not.", "", ModelType.OPENAI)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_openai_writes_into_its_cache_costs_a_quarter_more(
    vendors: respx.MockRouter, router: HybridRouter, stream: bool
) -> None:
    """80 tokens of 200 are written, at 1.25 USD a million instead of 1, and one answered at 5: 225 micro-dollars."""
    details = {"cached_tokens": 0, "cache_write_tokens": 80}
    usage = {"prompt_tokens": 200, "completion_tokens": 1, "prompt_tokens_details": details}
    whole = {"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}], "usage": usage}
    pieces = sse(openai_chunk({"content": "ok"}), openai_chunk({}, "stop"), {"choices": [], "usage": usage}, "[DONE]")
    answering(vendors, "openai", pieces if stream else json.dumps(whole).encode(), stream=stream)
    request = ask("gpt-6.1-terra")
    told = (await streamed(router, request))[1] if stream else await router.complete(request)
    assert told.usage is not None
    assert told.usage.written_tokens == 80
    assert told.cost_usd == pytest.approx(0.000225)


QUOTA = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
        ],
    }
}
PAUSES: list[tuple[str, dict[str, str], Any, float]] = [
    ("openai", {"retry-after-ms": "1500", "retry-after": "2"}, {}, 1.5),
    ("openai", {"retry-after": "20"}, {}, 20.0),
    ("openai", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, {}, 360.0),
    ("openai", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2.5s"}, {}, 62.5),
    (
        "openai",
        {
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "250ms",
            "x-ratelimit-remaining-requests": "7",
            "x-ratelimit-reset-requests": "1h",
        },
        {},
        0.25,
    ),
    (
        "claude",
        {
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:30Z",
        },
        {},
        30.0,
    ),
    ("gemini", {}, QUOTA, 37.5),
    ("gemini", {"retry-after": "10"}, QUOTA, 10.0),
]


@pytest.mark.parametrize(("provider", "headers", "body", "pause_s"), PAUSES)
async def test_every_vendor_s_pause_is_heeded(
    vendors: respx.MockRouter, router: HybridRouter, provider: str, headers: dict[str, str], body: Any, pause_s: float
) -> None:
    """However a vendor says when to come back, it is not called before then."""
    route = vendors.post(host=HOSTS[provider]).respond(429, json=body, headers=headers)
    vendors.route().respond(503)
    with pytest.raises(AllCloudsDownError):
        await router.complete(ask(provider))
    cooling = router.status()[provider]["cooling_down_s"]
    assert pause_s - 1 < cooling <= pause_s
    with pytest.raises(AllCloudsDownError):
        await router.complete(ask(provider))
    assert route.call_count == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"},
        {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2023-11-14"},
        {"retry-after-ms": "-5"},
    ],
)
async def test_what_says_no_time_makes_no_pause(
    vendors: respx.MockRouter, router: HybridRouter, headers: dict[str, str]
) -> None:
    """A limit that is not used up, and a time that is none, are no reason to stay away."""
    vendors.post(host=HOSTS["openai"]).respond(429, json={}, headers=headers)
    vendors.route().respond(503)
    with pytest.raises(AllCloudsDownError):
        await router.complete(ask("openai"))
    assert router.status()["openai"]["cooling_down_s"] == 0


ERRORS: list[tuple[str, int, Any, str]] = [
    ("openai", 401, {"error": {"message": "bad", "code": "invalid_api_key"}}, "authentication_failed"),
    ("openai", 429, {"error": {"message": "quota", "code": "insufficient_quota"}}, "rate_limited"),
    ("openai", 404, {"error": {"message": "no", "code": "model_not_found"}}, "model_not_found"),
    ("claude", 400, {"error": {"message": "Your credit balance is too low to use"}}, "authentication_failed"),
    ("claude", 402, {"error": {"type": "billing_error", "message": "pay"}}, "invalid_answer"),
    ("claude", 529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, "provider_overloaded"),
    ("gemini", 400, {"error": {"status": "FAILED_PRECONDITION", "message": "place"}}, "authentication_failed"),
    ("gemini", 503, [{"error": {"status": "UNAVAILABLE", "message": "busy"}}], "provider_overloaded"),
    ("local", 400, {"error": "registry.ollama.ai/library/x does not support tools"}, "unsupported"),
    ("local", 404, {"error": "model 'x' not found"}, "model_not_found"),
]


@pytest.mark.parametrize(("provider", "status", "body", "code"), ERRORS)
async def test_error_bodies_are_told_apart(
    vendors: respx.MockRouter, router: HybridRouter, provider: str, status: int, body: Any, code: str
) -> None:
    """What is our account's or the model's fault moves on; only what is the request's own goes to the caller."""
    vendors.post(host=HOSTS[provider]).respond(status, json=body)
    vendors.route().respond(503)
    with pytest.raises(AllCloudsDownError) as caught:
        await router.complete(ask(provider))
    assert (caught.value.attempts[0].error, caught.value.attempts[0].status) == (code, status)


async def test_vendor_s_words_reach_the_caller(vendors: respx.MockRouter, router: HybridRouter) -> None:
    """A refused request comes with the vendor's reason, and nobody else is bothered with it."""
    vendors.post(host=HOSTS["openai"]).respond(400, json={"error": {"message": "context_length_exceeded: too long"}})
    with pytest.raises(RequestError, match="openai answered 400: context_length_exceeded: too long"):
        await router.complete(ask("openai"))
    assert vendors.calls.call_count == 1

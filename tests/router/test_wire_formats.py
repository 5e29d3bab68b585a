"""What vendors answer besides a healthy text: errors in every place, filters, other people's usage, other bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router import AllCloudsDownError, Chunk, HybridRouter, Message, ModelType, Reply, Request, RequestError
from router.adapters import ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter, Prompt
from router.adapters.failures import error_of, retry_after_s
from router.errors import ProviderError, Reset
from router.settings import Secret
from router.testing import Answering, CapturedEvents, ScriptedTransport, scripted_router, test_settings
from router.transport import Timeouts

TIMEOUTS = Timeouts(connect_s=1, first_byte_s=1, idle_s=1)
WRONG_KEY = msgspec.json.encode(
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        }
    }
)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this machine stand nine hours east of UTC."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def ask(model: str) -> Request:
    """Return a request for `model`."""
    return Request(messages=(Message(role="user", content="hi"),), model=model)


def sse(*events: Any) -> bytes:
    """Return server-sent events, named where the vendor names them."""
    parts: list[bytes] = []
    for event in events:
        name = event.get("type") if isinstance(event, dict) else None
        data = event if isinstance(event, bytes) else msgspec.json.encode(event)
        parts.append((f"event: {name}\n".encode() if isinstance(name, str) else b"") + b"data: " + data + b"\n\n")
    return b"".join(parts)


def lines(*objects: Any) -> bytes:
    """Return JSON lines."""
    return b"".join(msgspec.json.encode(each) + b"\n" for each in objects)


def first(model: str, *answers: Answering) -> tuple[HybridRouter, ScriptedTransport]:
    """Return a router whose provider `model` plays these answers; everybody else is healthy and says `next`."""
    script = {name: [Answering(text="next")] for name in ModelType} | {ModelType(model): list(answers)}
    transport = ScriptedTransport(script)
    return scripted_router(transport, sink=CapturedEvents()), transport


async def streamed(router: HybridRouter, request: Request) -> tuple[str, Chunk]:
    """Return a stream's text and its last chunk."""
    async with aclosing(router.stream(request)) as chunks:
        found = [chunk async for chunk in chunks]
    return "".join(chunk.text for chunk in found), found[-1]


async def either(router: HybridRouter, request: Request, *, stream: bool) -> tuple[str, Chunk | Reply]:
    """Return text and teller of a stream or of a JSON answer."""
    if stream:
        return await streamed(router, request)
    reply = await router.complete(request)
    return reply.text, reply


def gemini(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one response of Gemini."""
    candidate = ({"content": {"parts": [{"text": text}]}} if text is not None else {}) | (
        {"finishReason": finish} if finish else {}
    )
    return {"candidates": [candidate]} | more


FILTERED = {
    ("gemini", False): msgspec.json.encode(gemini(finish="SAFETY")),
    ("gemini", True): sse(gemini("so"), gemini(finish="PROHIBITED_CONTENT")),
    ("claude", False): b'{"content": [], "stop_reason": "refusal", "usage": {"input_tokens": 1, "output_tokens": 0}}',
    ("claude", True): sse({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {}}),
    ("openai", False): b'{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}',
    ("openai", True): sse({"choices": [{"delta": {}, "finish_reason": "content_filter"}]}, b"[DONE]"),
}


@pytest.mark.parametrize(("provider", "stream"), FILTERED)
async def test_content_filter_is_an_answer(provider: str, stream: bool) -> None:
    """A filtered answer, even without a text, is told as such: nobody else is asked, and it is no failure."""
    router, transport = first(provider, Answering(body=FILTERED[provider, stream]))
    text, told = await either(router, ask(provider), stream=stream)
    assert (told.provider, told.stop_reason, text) == (provider, "content_filter", "so" if "so" in text else "")
    assert len(transport.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_blocked_prompt_is_a_filtered_answer(stream: bool) -> None:
    """Gemini refuses a prompt with no candidate but a reason: no client can open its breaker that way."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    body = sse(blocked) if stream else msgspec.json.encode(blocked)
    router, transport = first("gemini", Answering(body=body))
    for _ in range(4):
        text, told = await either(router, ask("gemini"), stream=stream)
        assert (text, told.provider, told.stop_reason) == ("", "gemini", "content_filter")
    assert len(transport.calls) == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_wrong_key_at_gemini_moves_on_and_raises_the_alarm(stream: bool) -> None:
    """Gemini answers 400 to a wrong key: that is our setting and not the caller's request."""
    router, _ = first("gemini", Answering(status=400, body=WRONG_KEY))
    text, _ = await either(router, ask("gemini"), stream=stream)
    assert text == "next"
    assert router.status()["gemini"]["alarm"] == "authentication_failed"
    assert router.status()["gemini"]["breaker"] == "closed"


def test_only_gemini_says_wrong_key_with_400() -> None:
    """The same words from somebody else, or in another place, are the request's own fault."""
    assert isinstance(error_of(ModelType.OPENAI, 400, {}, WRONG_KEY), RequestError)
    quoted = msgspec.json.encode({"error": {"message": "no field API_KEY_INVALID", "details": "API_KEY_INVALID"}})
    assert isinstance(error_of(ModelType.GEMINI, 400, {}, quoted), RequestError)


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_of_gemini_s_thoughts_are_paid_for(stream: bool) -> None:
    """Thinking is billed as output and told beside the answer's tokens: both count."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 500}
    whole = gemini("hi", "STOP", usageMetadata=usage)
    router, _ = first("gemini", Answering(body=sse(whole) if stream else msgspec.json.encode(whole)))
    _, told = await either(router, ask("gemini"), stream=stream)
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (10, 502)


_TEXT = "A wall that keeps the sea out."
USAGELESS = {
    ("gemini", False): msgspec.json.encode(gemini(_TEXT, "STOP")),
    ("gemini", True): sse(gemini(_TEXT, "STOP")),
    ("claude", False): msgspec.json.encode({"content": [{"type": "text", "text": _TEXT}], "stop_reason": "end_turn"}),
    ("claude", True): sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 5}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": _TEXT}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ),
    ("openai", False): msgspec.json.encode({"choices": [{"message": {"content": _TEXT}, "finish_reason": "stop"}]}),
    ("openai", True): sse({"choices": [{"delta": {"content": _TEXT}, "finish_reason": "stop"}]}),
    ("local", False): msgspec.json.encode({"message": {"content": _TEXT}, "done": True}),
    ("local", True): lines({"message": {"content": _TEXT}, "done": True}),
}


@pytest.mark.parametrize(("provider", "stream"), USAGELESS)
async def test_answer_without_usage_is_estimated(provider: str, stream: bool) -> None:
    """A whole answer whose provider does not say what it used, or says none, is whole, and not free of charge."""
    router, _ = first(provider, Answering(body=USAGELESS[provider, stream]))
    text, told = await either(router, ask(provider), stream=stream)
    assert (text, told.provider) == (_TEXT, provider)
    assert told.usage is not None
    assert told.usage.estimated
    assert told.usage.completion_tokens == 8  # 30 bytes at 4 bytes a token
    assert told.usage.prompt_tokens > 0
    assert (told.cost_usd > 0) is (provider != "local")


BROKEN = {
    ("gemini", False): [
        b"{}",
        b'{"error": {"code": 500}}',
        msgspec.json.encode(gemini("a", "STRANGE")),
        b"[]",
        b"null",
    ],
    ("gemini", True): [
        sse({"error": {"code": 503}}),
        sse(gemini("")),
        sse(b"{"),
        sse(gemini("", "STOP")),
        b"data: \xff\n\n",
    ],
    ("claude", False): [b"{}", b'{"content": [], "stop_reason": "tool_use", "usage": {}}', b'{"type": "error"}'],
    ("claude", True): [
        sse({"type": "error", "error": {"type": "overloaded_error"}}),
        sse({"type": "error", "error": {"type": "api_error"}}),
        sse({"type": "error"}),
        sse({"type": "message_stop"}),
        sse({"no": "type"}),
        sse({"type": "message_start"}, {"type": "content_block_delta"}, {"type": "message_delta"}),
    ],
    ("openai", False): [
        b"{}",
        b'{"error": {"message": "x"}}',
        b'{"choices": [{"finish_reason": "strange"}]}',
        b"hello",
    ],
    ("openai", True): [
        sse({"error": {"message": "x"}}),
        b"event: error\ndata: {}\n\n",
        sse(b"[DONE]"),
        sse({"choices": []}),
        sse({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    ],
    ("local", False): [b'{"error": "out of memory"}', b'{"message": {"content": "a"}}', b"{}"],
    ("local", True): [lines({"error": "out of memory"}), lines({"message": {"content": ""}}), b"{]\n", b"\n\n"],
}


@pytest.mark.parametrize(
    ("provider", "stream", "body"), [(*key, body) for key, bodies in BROKEN.items() for body in bodies]
)
async def test_what_is_no_answer_moves_on_and_counts(provider: str, stream: bool, body: bytes) -> None:
    """An error inside a 200, an unknown ending, or no sense at all: the next answers, and the breaker counts it."""
    router, transport = first(provider, Answering(body=body))
    for _ in range(3):
        text, told = await either(router, ask(provider), stream=stream)
        assert text == "next"
        assert told.attempts[0].outcome == "failed"
    assert router.status()[provider]["breaker"] == "open"
    assert len(transport.calls_to(provider)) == 3


async def test_overload_inside_a_stream_is_told_as_such() -> None:
    """Claude's `overloaded_error` in a stream is the 529 that it could not send any more."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    router, _ = first("claude", Answering(body=sse(error)))
    _, told = await streamed(router, ask("claude"))
    assert (told.attempts[0].error, told.attempts[0].status) == ("provider_overloaded", 529)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_answer_over_the_limit_is_refused(provider: ModelType, stream: bool) -> None:
    """A body without end is left at ANSWER_BYTES_MAX."""
    script = {name: [Answering(text="next")] for name in ModelType} | {provider: [Answering(text="word " * 500)]}
    router = scripted_router(
        ScriptedTransport(script), settings=test_settings(answer_bytes_max=1024, midstream="error")
    )
    if stream:
        with pytest.raises(ProviderError, match="longer than 1024 bytes"):
            await streamed(router, ask(provider))
    else:
        assert (await router.complete(ask(provider))).text == "next"


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
async def test_compressed_answer_that_nobody_asked_for_is_refused(encoding: str) -> None:
    """Every call asks for identity; what comes packed all the same is no answer."""
    router, transport = first("gemini", Answering(text="hi", headers=(("content-encoding", encoding),)))
    assert (await router.complete(ask("gemini"))).text == "next"
    assert ("accept-encoding", "identity") in transport.calls[0][1].headers


async def test_json_with_parameters_of_its_type_is_taken() -> None:
    """`application/json; charset=UTF-8` is JSON."""
    router, _ = first("gemini", Answering(text="hi", content_type="Application/JSON; charset=UTF-8"))
    assert (await router.complete(ask("gemini"))).text == "hi"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_refused_request_costs_nothing(status: int) -> None:
    """A provider does not bill what it refuses, and a client cannot use up the budget with nonsense."""
    router, _ = first("openai", Answering(status=status))
    for _ in range(3):
        with pytest.raises(RequestError):
            await router.complete(ask("openai"))
    await router.aclose()
    assert await router.spent_usd() == 0.0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"text"', b'{"error": 7}', b"\xff", b"<html>", b'{"error": {"message": 7}}']
)
@pytest.mark.parametrize("status", [302, 400, 401, 404, 408, 418, 429, 500, 529])
def test_any_error_body_makes_an_error(status: int, body: bytes) -> None:
    """Whatever stands in the body of an error, the status decides."""
    error = error_of(ModelType.OPENAI, status, {}, body)
    assert isinstance(error, ProviderError | RequestError)
    assert str(status) in str(error)


def test_vendor_s_words_are_kept_short_and_a_refused_key_is_never_quoted() -> None:
    """A message is bounded; vendors quote a wrong key, so what they say to one is left out."""
    long = msgspec.json.encode({"error": {"message": "x" * 10_000}})
    assert len(str(error_of(ModelType.CLAUDE, 500, {}, long))) < 300
    quoting = msgspec.json.encode({"error": {"message": "Incorrect API key provided: sk-secret"}})
    assert "sk-secret" not in str(error_of(ModelType.OPENAI, 401, {}, quoting))


async def test_error_body_without_an_end_is_read_in_part() -> None:
    """An error page of any length, or one that breaks off, still moves on by its status."""
    long, short = Answering(status=500, body=b"x" * 1_000_000), Answering(status=500, text="", error=Reset("reset"))
    for answer in (long, short):
        router, _ = first("gemini", answer)
        reply = await router.complete(ask("gemini"))
        assert (reply.text, reply.attempts[0].status) == ("next", 500)


@hypothesis_settings(max_examples=300)
@given(
    text=st.text(max_size=30)
    | st.text("0123456789.eE+- ", max_size=12)
    | st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Tue", "Xyz"]),
        st.integers(-1, 99),
        st.sampled_from(["Nov", "Feb", "Foo"]),
        st.integers(0, 99_999),
        st.integers(-1, 99),
        st.integers(0, 99),
        st.integers(0, 99),
        st.sampled_from(["GMT", "-0000", "+9999", "EST", ""]),
    )
)
@example(text="nan")
@example(text="-1")
@example(text="1e400")
def test_any_retry_after_is_a_pause_or_nothing(text: str) -> None:
    """Whatever a provider writes there, the pause is a number of seconds from 0 up, or there is none."""
    pause_s = retry_after_s((text,), lambda: 1_700_000_000.0)
    assert pause_s is None or 0 <= pause_s < float("inf")


@pytest.mark.parametrize(
    ("values", "pause_s"),
    [
        (("5",), 5.0),
        ((" 1.5 ",), 1.5),
        (("Tue, 14 Nov 2023 22:13:50 GMT",), 30.0),
        (("Tue, 14 Nov 2023 22:13:50 -0000",), 30.0),
        (("Tue, 14 Nov 2023 22:13:10 GMT",), 0.0),
        (("soon", "7"), 7.0),
        (("soon",), None),
        ((), None),
    ],
)
def test_retry_after_is_read_in_both_forms(values: tuple[str, ...], pause_s: float | None, in_tokyo: None) -> None:
    """Seconds or an HTTP date, which is UTC wherever we are; a moment that is over is no pause."""
    assert retry_after_s(values, lambda: 1_700_000_000.0) == pause_s


@pytest.mark.parametrize("make", [ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter])
def test_key_travels_in_a_header_only(make: Any) -> None:
    """No URL and no body holds the key: those are what logs keep."""
    adapter = make("http://host", Secret("sk-secret"))
    message = Message(role="user", content="hi")
    for stream in (False, True):
        prompt = Prompt(messages=(message,), model="a/b?c", max_tokens=1, stream=stream)
        for call in (adapter.call(prompt, TIMEOUTS), adapter.health_call(TIMEOUTS)):
            assert "sk-secret" not in call.url
            assert b"sk-secret" not in call.body
            assert call.url.startswith("http://host/")
            assert all(name == name.lower() for name, _ in call.headers)
    assert make is OllamaAdapter or any("sk-secret" in value for _, value in adapter._headers)


def test_model_name_cannot_leave_its_place_in_gemini_s_path() -> None:
    """A model's name is one segment of the path, whatever characters it has."""
    prompt = Prompt(messages=(), model="../x?y#z", max_tokens=1, stream=False)
    path, _ = GeminiAdapter("http://host", Secret("k")).target(prompt)
    assert path == "/v1beta/models/..%2Fx%3Fy%23z:generateContent"


async def test_nobody_with_a_key_says_so() -> None:
    """Without a key and without a local model there is nobody to ask, and the error says which setting is missing."""
    script = ScriptedTransport({"local": [Answering(text=None, error=Reset("reset"))]})
    keys = dict.fromkeys(("gemini_api_key", "anthropic_api_key", "openai_api_key"), "")
    with pytest.raises(AllCloudsDownError, match="gemini no_key"):
        await scripted_router(script, settings=test_settings(**keys)).complete(ask("gemini"))


async def test_health_check_is_bounded() -> None:
    """A provider that does not answer within the bound is not reachable, and its call is closed."""
    script = ScriptedTransport({"gemini": [Answering(delay_s=60.0)]})
    router = scripted_router(script)
    async with asyncio.timeout(10):
        found = await router.health_check()
    assert found["gemini"]["reachable"] is False
    assert script.open_calls == 0

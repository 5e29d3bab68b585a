"""OpenAI's own client against the gateway: it works unchanged, and gets our errors as its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from seawall.answers import judge_text

pytestmark = pytest.mark.real

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
TOKENS = 6
MODELS = ["seawall", "gemini", "claude", "openai", "local", "gpt-4o", "claude-haiku", "gemini-pro", "llama3:8b"]


def text_of(chunks: list[Any]) -> str:
    """Return the text of a stream's chunks."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("model", MODELS)
def test_json_answer_is_a_chat_completion(emulators: Emulators, gateway: Gateway, asked: Asked, model: str) -> None:
    """Every kind of model name: the text is whole, usage is the provider's, the headers say who answered."""
    request_id, body = asked(model)
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(**body)
    completion = raw.parse()
    (call,) = emulators.calls(request_id, 1)
    judgement = judge_text(completion.choices[0].message.content or "", request_id)
    assert judgement.whole
    assert judgement.providers == (call["provider"],)
    assert completion.object == "chat.completion"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.role == "assistant"
    assert completion.model == call["model"]
    assert completion.usage is not None
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (call["prompt_tokens"], TOKENS)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert raw.headers["x-seawall-provider"] == call["provider"]
    assert raw.headers["x-seawall-model"] == call["model"]
    assert raw.headers["x-seawall-attempts"] == "1"
    assert (float(raw.headers["x-seawall-cost-usd"]) > 0) is (call["provider"] != "local")


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("model", ["seawall", "gemini", "claude", "openai", "local"])
def test_stream_is_chat_completion_chunks(
    emulators: Emulators, gateway: Gateway, asked: Asked, model: str, include_usage: bool
) -> None:
    """The stream is whole and ends with its reason; usage comes in a last chunk, and only where it was asked for."""
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    request_id, body = asked(model, stream=True, **options)
    with gateway.client() as client, client.chat.completions.create(**body) as stream:
        headers = stream.response.headers
        chunks = list(stream)
    (call,) = emulators.calls(request_id, 1)
    assert judge_text(text_of(chunks), request_id).whole
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(usages) == include_usage
    if include_usage:
        assert chunks[-1].choices == []
        assert (usages[0].prompt_tokens, usages[0].completion_tokens) == (call["prompt_tokens"], TOKENS)
    assert headers["content-type"] == "text/event-stream"
    assert headers["x-seawall-provider"] == call["provider"]


async def test_asynchronous_client_works_too(gateway: Gateway, asked: Asked) -> None:
    """JSON and stream through `AsyncOpenAI`."""
    async with gateway.async_client() as client:
        request_id, body = asked("claude")
        completion = await client.chat.completions.create(**body)
        assert judge_text(completion.choices[0].message.content or "", request_id).whole
        request_id, body = asked("claude", stream=True)
        chunks = [chunk async for chunk in await client.chat.completions.create(**body)]
        assert judge_text(text_of(chunks), request_id).whole


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_limit_of_tokens_is_kept_and_told(gateway: Gateway, asked: Asked, name: str, stream: bool) -> None:
    """Both names of the limit reach the provider, and the answer says that it was cut by it."""
    request_id, body = asked("openai", stream=stream, **{name: 2})
    with gateway.client() as client:
        answer = client.chat.completions.create(**body)
        chunks = list(answer) if stream else [answer]
    text = text_of(chunks) if stream else chunks[0].choices[0].message.content
    assert judge_text(text, request_id).tokens == 2
    assert chunks[-1].choices[0].finish_reason == "length"


def test_models_are_listed_and_every_one_can_be_asked(gateway: Gateway, asked: Asked) -> None:
    """Whatever `models.list()` names is a model that the chat route takes."""
    with gateway.client() as client:
        names = [model.id for model in client.models.list()]
        assert {"seawall", "gemini", "claude-haiku", "gpt-4o"} <= set(names)
        for name in names:
            request_id, body = asked(name)
            completion = client.chat.completions.create(**body)
            assert judge_text(completion.choices[0].message.content or "", request_id).whole


def test_texts_in_parts_and_the_developer_role_are_taken(emulators: Emulators, gateway: Gateway, asked: Asked) -> None:
    """Content may be a list of text parts; `developer` is the newer name of `system`."""
    request_id, body = asked("claude")
    parts = [{"type": "text", "text": body["messages"][0]["content"]}, {"type": "text", "text": " Be brief."}]
    messages = [{"role": "developer", "content": "You are terse."}, {"role": "user", "content": parts}]
    with gateway.client() as client:
        completion = client.chat.completions.create(**{**body, "messages": messages})
    assert judge_text(completion.choices[0].message.content or "", request_id).whole
    assert len(emulators.calls(request_id, 1)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "kind", "code", "words"),
    [
        ({"model": "gpt-99"}, openai.NotFoundError, "bad_request", "unknown model 'gpt-99'"),
        ({"messages": []}, openai.BadRequestError, "bad_request", "messages is empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "bad_request", "tool_call_id"),
        ({"max_tokens": 0}, openai.BadRequestError, "bad_request", "max_tokens is 0"),
        ({"n": 2}, openai.BadRequestError, "bad_request", "n is 2"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "bad_request", "tools[0] is of type"),
        ({"temperature": "hot"}, openai.BadRequestError, "bad_request", "temperature"),
    ],
)
def test_bad_request_is_the_sdk_s_own_error(
    gateway: Gateway,
    asked: Asked,
    stream: bool,
    change: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    words: str,
) -> None:
    """What is wrong with a request comes as the SDK's class for it, with our code and clear words."""
    _, body = asked(stream=stream)
    with gateway.client() as client, pytest.raises(kind) as caught:
        client.chat.completions.create(**{**body, **change})
    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"
    assert words in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_everybody_down_is_503_with_the_time_to_come_back(
    emulators: Emulators, start_gateway: Any, asked: Asked, stream: bool
) -> None:
    """Four failing providers are 503; with all breakers open it comes at once and with Retry-After."""
    with (
        start_gateway(emulators, CIRCUIT_BREAKER_FAILURE_THRESHOLD="1") as gateway,
        gateway.client() as client,
        emulators.misbehaving("gemini", "claude", "openai", "local", status=503),
    ):
        for calls in (4, 0):
            request_id, body = asked(stream=stream)
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(**body)
            assert (caught.value.status_code, caught.value.code) == (503, "all_clouds_down")
            assert "All Clouds Down" in str(caught.value)
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 67
            emulators.calls(request_id, calls)


@pytest.mark.parametrize("stream", [False, True])
def test_named_cloud_under_the_air_gap_is_403(
    emulators: Emulators, start_gateway: Any, asked: Asked, stream: bool
) -> None:
    """Sovereign mode: who names a cloud is refused, who names nothing is served by the local model."""
    with start_gateway(emulators, AIRGAP_MODE="True") as gateway, gateway.client() as client:
        for name in ("gemini", "gpt-4o"):
            refused, body = asked(name, stream=stream)
            with pytest.raises(openai.PermissionDeniedError) as caught:
                client.chat.completions.create(**body)
            assert caught.value.code == "airgap"
            emulators.calls(refused, 0)
        served, body = asked()
        completion = client.chat.completions.create(**body)
        assert judge_text(completion.choices[0].message.content or "", served).providers == ("local",)


def test_budget_used_up_is_served_locally_or_402(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """Over the limit the local model answers; where it cannot, the error names the budget."""
    settings = {"DAILY_SPEND_LIMIT_USD": "0", "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1"}
    with start_gateway(emulators, **settings) as gateway, gateway.client() as client:
        request_id, body = asked()
        completion = client.chat.completions.create(**body)
        assert judge_text(completion.choices[0].message.content or "", request_id).providers == ("local",)
        with emulators.misbehaving("local", status=503):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(**body)
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(**body)
        assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")


def test_api_key_is_asked_for_where_one_is_set(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """With SEAWALL_API_KEYS only these keys pass, whole and exact; they are known to the process as hashes."""
    with start_gateway(emulators, SEAWALL_API_KEYS="sk-one, sk-two") as gateway:
        for key in ("sk-one", "sk-two"):
            request_id, body = asked()
            with gateway.client(key) as client:
                completion = client.chat.completions.create(**body)
            assert judge_text(completion.choices[0].message.content or "", request_id).whole
        for key in ("sk-on", "sk-one2", "SK-ONE", "sk-one, sk-two", "x"):
            request_id, body = asked()
            with gateway.client(key) as client, pytest.raises(openai.AuthenticationError) as caught:
                client.chat.completions.create(**body)
            assert caught.value.code == "invalid_api_key"
            assert key not in str(caught.value) or key == "x"
            emulators.calls(request_id, 0)

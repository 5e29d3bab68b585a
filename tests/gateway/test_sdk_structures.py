"""Tools, JSON and images through the gateway with OpenAI's SDK, unchanged: every provider answers in OpenAI's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.real

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Tell the weather.", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time", "description": "Tell the time.", "parameters": CITY}},
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
PROVIDERS = ["gemini", "claude", "openai", "llama3.1"]


def _prompt(body: dict[str, Any], more: str) -> None:
    body["messages"][0]["content"] += more


def test_tools_are_called_and_answered(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """A turn of tool calls, JSON and stream alike, and the turn with their results that ends in a text."""
    with start_gateway(emulators, OLLAMA_MODEL="llama3.1") as gateway, gateway.client() as client:
        for provider in PROVIDERS:
            _, body = asked(provider, tools=TOOLS, tool_choice="auto")
            _prompt(body, " Call get_weather and get_time.")
            message = client.chat.completions.create(**body).choices[0].message
            with client.chat.completions.stream(**body) as stream:
                streamed = stream.get_final_completion().choices[0]
            calls = message.tool_calls or []
            assert [call.function.name for call in calls] == ["get_weather", "get_time"]
            assert streamed.finish_reason == "tool_calls"
            told = [call.function.arguments for call in streamed.message.tool_calls or []]
            assert [json.loads(each) for each in told] == [json.loads(call.function.arguments) for call in calls]
            assert all("city" in json.loads(each) for each in told)
            results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
            turns = [*body["messages"], message.model_dump(exclude_none=True), *results]
            last = client.chat.completions.create(**{**body, "messages": turns}).choices[0]
            assert (last.finish_reason, last.message.tool_calls) == ("stop", None)
            assert last.message.content


def test_json_fits_its_schema(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """An answer in JSON is JSON of the wanted form, whoever writes it, whole and streamed."""
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": CITY, "strict": True}}
    with start_gateway(emulators) as gateway, gateway.client() as client:
        for provider in ("gemini", "claude", "openai", "local"):
            _, body = asked(provider, response_format=form)
            whole = client.chat.completions.create(**body).choices[0].message.content or ""
            chunks = client.chat.completions.create(**body, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert list(json.loads(whole)) == list(json.loads(streamed)) == ["city"]


def test_images_are_taken(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """An image as base64 beside a text reaches every provider, which counts it."""
    with start_gateway(emulators, OLLAMA_MODEL="llama3.2-vision") as gateway, gateway.client() as client:
        for provider in ("gemini", "claude", "openai", "local"):
            _, body = asked(provider)
            plain = client.chat.completions.create(**body).usage
            content = [{"type": "text", "text": body["messages"][0]["content"]}, IMAGE]
            seen = client.chat.completions.create(**{**body, "messages": [{"role": "user", "content": content}]})
            assert plain is not None
            assert seen.usage is not None
            assert seen.usage.prompt_tokens > plain.prompt_tokens + 100
            assert seen.choices[0].message.content


def test_what_nobody_can_do_is_400_with_the_reason(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """Behind the air gap an image by URL has nobody: the SDK's own error, which says who cannot do what."""
    _, body = asked()
    image = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}]
    with (
        start_gateway(emulators, AIRGAP_MODE="True") as gateway,
        gateway.client() as client,
        pytest.raises(openai.BadRequestError, match="local cannot do an image by URL"),
    ):
        client.chat.completions.create(**{**body, "messages": messages})

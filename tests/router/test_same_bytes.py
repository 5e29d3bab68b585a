"""
Our adapters beside the vendors' own SDKs: the same request on the wire, the same answer read from it.

Both ask the same emulated provider in the same situation; what it heard of each is compared as JSON. Differences that
mean nothing are taken away first, each for a reason that stands in `unlike`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai
from google.genai import types as genai_types
from vendor_situations import CLAUDE, GEMINI, LOCAL, MODELS, OPENAI, SITUATIONS

from router import HybridRouter, ModelType, Request, Settings
from seawall.emulators.config import Config
from seawall.emulators.server import EmulatorServer
from seawall.emulators.steps import Healthy
from seawall.emulators.wire import HttpRequest

pytestmark = pytest.mark.real

Said = tuple[str, list[tuple[str, Any]]]
"""The text of an answer, and its tool calls: name and arguments."""


def unlike(provider: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a request without what may differ between an SDK and us."""
    body = dict(body)
    if provider in ("openai", "claude") and not body.get("stream"):
        body.pop("stream", None)  # false is the default: we say it
    if provider == "local" and not body.get("tools"):
        body.pop("tools", None)  # the SDK sends an empty list
    if provider == "local":
        # The SDK leaves out what is empty, the content of a turn that only calls tools among it.
        body["messages"] = [{k: v for k, v in message.items() if v != ""} for message in body["messages"]]
    if provider == "gemini":
        body = _camel(body)
        body.get("systemInstruction", {}).pop("role", None)  # it is no turn: its role is ignored
    return body


def _camel(value: Any) -> Any:
    """Return Google's JSON with the names in one of the two ways that it takes them, and base64 in one of its two."""
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, each in value.items():
        first, *rest = name.split("_")
        camel = first + "".join(word.capitalize() for word in rest)
        found[camel] = each if camel in ("args", "parametersJsonSchema", "responseJsonSchema") else _camel(each)
        if camel == "data":
            found[camel] = each.translate(str.maketrans("-_", "+/"))
    return found


class Listening:
    """Emulators in this process, what they heard, and everybody's clients."""

    def __init__(self) -> None:
        healthy = Healthy(first_token_p50_s=0.001, first_token_p99_s=0.002, tokens_per_second=5000, tokens=4)
        self.heard: list[dict[str, Any]] = []
        config = Config(seed=3, providers=dict.fromkeys(MODELS, healthy))
        self.server = EmulatorServer(config, "token", heard=self._hear)

    def _hear(self, provider: str, request: HttpRequest) -> None:
        if request.method == "POST":
            path = request.path.replace("/v1/models/", "/v1beta/models/")  # Google's SDK may ask for either version
            self.heard.append({"path": path, "body": unlike(provider, json.loads(request.body))})

    def url(self, provider: str) -> str:
        """Return where a provider listens."""
        return f"http://127.0.0.1:{self.server.ports[provider]}"

    def router(self) -> HybridRouter:
        """Return a router in front of these."""
        urls = {
            "gemini_base_url": self.url("gemini"),
            "anthropic_base_url": self.url("claude"),
            "openai_base_url": self.url("openai"),
            "ollama_host": self.url("local"),
            "ollama_model": MODELS["local"],
        }
        keys = dict.fromkeys(("gemini_api_key", "anthropic_api_key", "openai_api_key"), "k")
        return HybridRouter(Settings.from_mapping(urls | keys))


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    """Start all four providers in this process."""
    made = Listening()
    await made.server.start()
    yield made
    await made.server.stop()


async def ours(router: HybridRouter, request: Request, *, stream: bool) -> Said:
    """Return what our adapter makes of the answer."""
    if not stream:
        reply = await router.complete(request)
        return reply.text, [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    text, names, arguments = "", dict[int, str](), dict[int, str]()
    async for chunk in router.stream(request):
        text += chunk.text
        for call in chunk.tool_calls:
            assert call.index is not None
            if call.name:
                assert call.id
                names[call.index] = call.name
            arguments[call.index] = arguments.get(call.index, "") + call.arguments
    return text, [(name, json.loads(arguments[n])) for n, name in sorted(names.items())]


async def of_openai(url: str, situation: str, *, stream: bool) -> Said:
    """Ask with OpenAI's SDK."""
    asked = OPENAI[situation] | {"model": MODELS["openai"], "max_completion_tokens": 64}
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
        if not stream:
            message = (await client.chat.completions.create(**asked)).choices[0].message
        else:
            # The SDK's own accumulator puts the pieces of the tool calls together.
            async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                message = (await events.get_final_completion()).choices[0].message
    return message.content or "", [
        (call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()
    ]


async def of_claude(url: str, situation: str, *, stream: bool) -> Said:
    """Ask with Anthropic's SDK."""
    asked = CLAUDE[situation] | {"model": MODELS["claude"], "max_tokens": 64}
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:
        if not stream:
            message = await client.messages.create(**asked)
        else:
            async with client.messages.stream(**asked) as events:
                message = await events.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    return text, [(block.name, block.input) for block in message.content if block.type == "tool_use"]


async def of_gemini(url: str, situation: str, *, stream: bool) -> Said:
    """Ask with Google's SDK."""
    contents, config = GEMINI[situation]
    options = genai_types.HttpOptions(base_url=url)
    asked: dict[str, Any] = {"model": MODELS["gemini"], "contents": contents}
    asked["config"] = genai_types.GenerateContentConfig(max_output_tokens=64, **config)
    client = genai.Client(api_key="k", http_options=options).aio
    try:
        if stream:
            answers = [each async for each in await client.models.generate_content_stream(**asked)]
        else:
            answers = [await client.models.generate_content(**asked)]
    finally:
        await client.aclose()
    parts = [part for answer in answers for part in answer.candidates[0].content.parts or ()]  # type: ignore[index,union-attr]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    return "".join(part.text or "" for part in parts), calls  # type: ignore[return-value]


async def of_ollama(url: str, situation: str, *, stream: bool) -> Said:
    """Ask with Ollama's SDK."""
    asked = {**LOCAL[situation], "model": MODELS["local"], "stream": stream}
    asked["options"] = {"num_predict": 64, **asked.get("options", {})}
    async with ollama.AsyncClient(host=url) as client:
        found = await client.chat(**asked)
        messages = [each.message async for each in found] if stream else [found.message]
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    return "".join(message.content or "" for message in messages), [(c.name, dict(c.arguments)) for c in calls]


SDKS = {"openai": of_openai, "claude": of_claude, "gemini": of_gemini, "local": of_ollama}
CASES = [
    (provider, situation)
    for provider, known in (("openai", OPENAI), ("claude", CLAUDE), ("gemini", GEMINI), ("local", LOCAL))
    for situation in known
]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("provider", "situation"), CASES)
async def test_sdk_and_adapter_say_and_hear_the_same(
    listening: Listening, provider: str, situation: str, stream: bool
) -> None:
    """The vendor's SDK and our adapter send the same request, and read the same text and tool calls."""
    asked = dict(SITUATIONS[situation])
    if provider == "local" and situation == "tools":
        del asked["tool_choice"]  # Ollama has no word for it
    model = "local" if provider == "local" else MODELS[provider]
    theirs = await SDKS[provider](listening.url(provider), situation, stream=stream)
    async with listening.router() as router:
        mine = await ours(router, Request(model=model, max_tokens=64, **asked), stream=stream)
    sdk, adapter = listening.heard
    assert adapter == sdk
    # The call's number is part of the text's token, never of the token count.
    assert mine == theirs
    if situation in ("tools", "forced"):
        assert [name for name, _ in mine[1]] == (["get_time"] if situation == "forced" else ["get_weather", "get_time"])
    else:
        assert mine[0]
        assert not mine[1]


def test_every_situation_is_tried_wherever_a_provider_can_do_it() -> None:
    """What is left out is what the capability table says cannot be done."""
    left_out = {(provider, situation) for provider in SDKS for situation in SITUATIONS} - set(CASES)
    assert left_out == {("claude", "json"), ("local", "forced"), ("local", "image_url")}
    assert {ModelType(provider) for provider in SDKS} == set(ModelType)

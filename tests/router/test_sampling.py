"""Models that sample in their own way: they are asked without what they refuse, first or after a failover."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Message, ModelType, Request
from router.adapters import Adapter, ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter, Prompt
from router.adapters.failures import error_of
from router.capabilities import lacking, left_out
from router.catalogue import default_catalogue
from router.errors import RequestError
from router.events import Skip
from router.models import Tool
from router.settings import Secret
from router.testing import Answering, CapturedEvents, ScriptedTransport, scripted_router, test_settings
from router.transport import Timeouts
from seawall.emulators import claude, openai
from seawall.emulators.wire import EmulatedCall, HttpRequest, Reply

USER = (Message(role="user", content="hi"),)
SAMPLING: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9, "top_k": 5}
CLOUDS = [
    (entry.provider, name)
    for name, entry in default_catalogue().models.items()
    if entry.provider is not ModelType.LOCAL
]
TIMEOUTS = Timeouts(connect_s=1, first_byte_s=1, idle_s=1)
ADAPTERS: dict[ModelType, Adapter] = {
    kind.model_type: kind("http://127.0.0.1:1", Secret("k"))
    for kind in (GeminiAdapter, ClaudeAdapter, OpenAIAdapter, OllamaAdapter)
}
VENDORS = {ModelType.CLAUDE: claude, ModelType.OPENAI: openai}


def sent(provider: ModelType, model: str, **asked: Any) -> dict[str, Any]:
    """Return the body that a provider is asked with; Gemini's parameters by OpenAI's names."""
    prompt = Prompt(messages=USER, model=model, max_tokens=9, stream=False, **asked)
    body: dict[str, Any] = msgspec.json.decode(ADAPTERS[provider].call(prompt, TIMEOUTS).body)
    config = body.get("generationConfig", {})
    names = {"temperature": "temperature", "topP": "top_p", "topK": "top_k"}
    return body | {names[name]: value for name, value in config.items() if name in names}


def asked_of(provider: ModelType, body: dict[str, Any]) -> EmulatedCall | Reply:
    """Return what the emulated vendor makes of a body."""
    prompt = Prompt(messages=USER, model="m", max_tokens=9, stream=False)
    call = ADAPTERS[provider].call(prompt, TIMEOUTS)
    return VENDORS[provider].parse(
        HttpRequest.of("POST", urlsplit(call.url).path, call.headers, msgspec.json.encode(body))
    )


@given(
    which=st.sampled_from(CLOUDS),
    edition=st.sampled_from(["", "-2026-10-07", "-20261007"]),
    asked=st.fixed_dictionaries(
        {},
        optional={"temperature": st.floats(0, 2), "top_p": st.floats(0, 1), "top_k": st.integers(1, 9)},
    ),
)
def test_no_model_is_sent_what_it_does_not_take(
    which: tuple[ModelType, str], edition: str, asked: dict[str, Any]
) -> None:
    """What is sent and what is told as left out are together what was asked, for each edition of each model."""
    provider, model = which[0], which[1] + edition
    body, left = sent(provider, model, **asked), left_out(provider, model, Request(messages=USER, **asked))
    assert set(left) == {name for name in asked if name in default_catalogue().lacks[provider].get(which[1], ())}
    assert not [name for name in left if name in body]
    if not left and provider is not ModelType.OPENAI and asked.get("top_p") != 1:
        assert {name: body[name] for name in asked} == asked
    if "temperature" in left:
        assert not lacking(provider, model, {"temperature_above_1", "temperature_and_top_p", "top_k"})


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-sonnet-5-5", "gpt-6.1-sol"])
async def test_the_model_that_was_named_answers_although_a_temperature_was_sent(model: str) -> None:
    """It is not skipped, nobody else is asked, and the call has none of the three parameters."""
    transport, events = ScriptedTransport({}), CapturedEvents()
    reply = await scripted_router(transport, sink=events).complete(Request(messages=USER, model=model, **SAMPLING))
    ((provider, call),) = transport.calls
    assert (reply.model, provider) == (model, reply.provider)
    assert reply.provider not in {skip.provider for skip in events.of(Skip)}
    assert not SAMPLING.keys() & msgspec.json.decode(call.body).keys()
    assert left_out(reply.provider, reply.attempts[-1].model, Request(messages=USER, **SAMPLING)) == tuple(SAMPLING)


async def test_failover_brings_the_temperature_back_where_it_is_taken() -> None:
    """It is left out for one provider and not for the request: the next one gets it when its model takes it."""
    transport = ScriptedTransport({"claude": [Answering(status=503)], "gemini": [Answering(status=503)]})
    router = scripted_router(transport, settings=test_settings(tiers={"default": {"gemini": "gemini-2.5-flash"}}))
    reply = await router.complete(Request(messages=USER, model="claude", temperature=0.2))
    assert [(name, b"0.2" in call.body) for name, call in transport.calls] == [
        ("claude", False),
        ("gemini", True),
        ("openai", True),
    ]
    assert reply.provider == "openai"


@pytest.mark.parametrize(("provider", "model"), [each for each in CLOUDS if each[0] in VENDORS])
@pytest.mark.parametrize("tools", [(), (Tool(name="f"),)])
def test_emulated_vendors_take_what_the_router_sends(provider: ModelType, model: str, tools: tuple[Tool, ...]) -> None:
    """Each model of the table, with a temperature and with tools, unless the table says that it cannot."""
    if tools and lacking(provider, model, {"tools"}):
        return
    heard = asked_of(provider, sent(provider, model, temperature=0.2, tools=tools))
    assert isinstance(heard, EmulatedCall), heard


@pytest.mark.parametrize(
    ("provider", "body", "words"),
    [
        (
            ModelType.CLAUDE,
            {"model": "claude-haiku-5-5", "temperature": 0.2},
            {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."},
        ),
        (
            ModelType.OPENAI,
            {"model": "gpt-6.1-sol", "temperature": 0.2},
            {
                "message": "Unsupported value: 'temperature' does not support 0.2 with this model. "
                "Only the default (1) value is supported.",
                "type": "invalid_request_error",
                "param": "temperature",
                "code": "unsupported_value",
            },
        ),
        (
            ModelType.OPENAI,
            {"model": "gpt-6-luna", "tools": [{"type": "function", "function": {"name": "f"}}]},
            {
                "message": "Function tools with reasoning_effort are not supported for gpt-6-luna in "
                "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
                "type": "invalid_request_error",
                "param": "reasoning_effort",
                "code": None,
            },
        ),
    ],
)
def test_emulated_vendors_refuse_as_the_true_ones_do(
    provider: ModelType, body: dict[str, Any], words: dict[str, Any]
) -> None:
    """The vendor's own 400: the request is at fault, so nobody else would be asked; a default value is taken."""
    rest = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    heard = asked_of(provider, rest | body)
    assert isinstance(heard, Reply)
    assert (heard.status, msgspec.json.decode(heard.body)["error"]) == (400, words)
    assert isinstance(error_of(provider, 400, {}, heard.body, lambda: 0.0), RequestError)
    assert isinstance(asked_of(provider, rest | {"model": body["model"], "temperature": 1}), EmulatedCall)

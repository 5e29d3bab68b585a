"""
Which fields of the vendors' published formats are covered: `contract.json`, held against our code and their SDKs.

`sent` and `read`: our adapter does. `unsaid`: we never say it, so the vendor's default holds. `unread`: not needed for
an answer. `refused`: the gateway answers 400 to a caller who asks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import ollama
import pytest
from anthropic.types import (
    Message as AnthropicMessage,
)
from anthropic.types import (
    Usage as AnthropicUsage,
)
from anthropic.types.message_create_params import MessageCreateParamsBase
from google.genai import types as genai_types
from ollama import _types as ollama_types
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from router import Message, ModelType, RequestError
from router.adapters import ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter, Prompt, claude, gemini
from router.adapters import ollama as ollama_adapter
from router.adapters import openai as openai_adapter
from router.models import JsonFormat, NamedTool, Tool
from router.settings import Secret
from seawall.gateway.wire import parse_request

CONTRACT: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "contract.json").read_text(encoding="utf-8"))
WORDS = {"sent", "read", "unsaid", "unread", "refused"}
ADAPTERS = {"openai": OpenAIAdapter, "claude": ClaudeAdapter, "gemini": GeminiAdapter, "local": OllamaAdapter}
EVERYTHING = Prompt(
    messages=(Message(role="system", content="s"), Message(role="user", content="u")),
    model="gpt-6-luna",
    max_tokens=9,
    stream=True,
    temperature=0.5,
    top_p=0.5,
    top_k=5,
    stop=("x",),
    seed=1,
    presence_penalty=0.1,
    frequency_penalty=0.1,
    user="me",
    tools=(Tool(name="f"),),
    tool_choice=NamedTool("f"),
    parallel_tool_calls=False,
    json_format=JsonFormat(schema={"type": "object"}),
)
STRUCTS: dict[tuple[str, str], list[type[msgspec.Struct]]] = {
    ("openai", "answer"): [openai_adapter._Completion],
    ("openai", "choice"): [openai_adapter._Choice],
    ("openai", "message"): [openai_adapter._Said],
    ("openai", "usage"): [openai_adapter._Usage],
    ("claude", "answer"): [claude._Message],
    ("claude", "usage"): [claude._Usage],
    ("gemini", "answer"): [gemini._Response],
    ("gemini", "candidate"): [gemini._Candidate],
    ("gemini", "part"): [gemini._Part],
    ("gemini", "usage"): [gemini._UsageMetadata],
    ("local", "answer"): [ollama_adapter._Line],
    ("local", "message"): [ollama_adapter._Said],
}
STOPS = {
    "openai": openai_adapter._STOP,
    "claude": claude._STOP,
    "gemini": gemini._STOP,
    "local": ollama_adapter._STOP,
}


def _camel(names: Iterable[str]) -> set[str]:
    return {re.sub(r"_(\w)", lambda found: found.group(1).upper(), name) for name in names}


def _models(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in kind.model_fields}


PUBLISHED: dict[tuple[str, str], Callable[[], set[str]]] = {
    ("openai", "request"): lambda: {*get_type_hints(CompletionCreateParamsBase), "stream"},
    ("openai", "answer"): lambda: _models(ChatCompletion, ChatCompletionChunk),
    ("openai", "choice"): lambda: _models(Choice, ChunkChoice),
    ("openai", "message"): lambda: _models(ChatCompletionMessage, ChoiceDelta),
    ("openai", "usage"): lambda: _models(CompletionUsage),
    ("claude", "request"): lambda: {*get_type_hints(MessageCreateParamsBase), "stream"},
    ("claude", "answer"): lambda: _models(AnthropicMessage),
    ("claude", "usage"): lambda: _models(AnthropicUsage),
    ("gemini", "config"): lambda: _camel(_models(genai_types.GenerateContentConfig)),
    ("gemini", "answer"): lambda: _camel(_models(genai_types.GenerateContentResponse)),
    ("gemini", "candidate"): lambda: _camel(_models(genai_types.Candidate)),
    ("gemini", "part"): lambda: _camel(_models(genai_types.Part)),
    ("gemini", "usage"): lambda: _camel(_models(genai_types.GenerateContentResponseUsageMetadata)),
    ("gemini", "stop"): lambda: {each.value for each in genai_types.FinishReason},
    ("local", "request"): lambda: _models(ollama_types.ChatRequest),
    ("local", "options"): lambda: _models(ollama.Options),
    ("local", "answer"): lambda: _models(ollama.ChatResponse),
    ("local", "message"): lambda: _models(ollama.Message),
}


def marked(provider: str, section: str, word: str) -> set[str]:
    """Return the fields of a section that bear a word."""
    return {name for name, found in CONTRACT[provider][section].items() if found == word}


def test_contract_names_every_vendor_with_its_pages() -> None:
    """Each provider has links to the vendor's own pages, and each field one of the five words."""
    assert set(CONTRACT) == set(ModelType)
    for vendor in CONTRACT.values():
        assert vendor["pages"]
        assert all(page.startswith("https://") for page in vendor["pages"])
        for section, fields in vendor.items():
            assert section == "pages" or set(fields.values()) <= WORDS, section


@pytest.mark.parametrize("provider", list(ADAPTERS))
def test_what_is_sent_is_what_the_contract_says(provider: str) -> None:
    """A request with everything in it has exactly the fields that are marked as sent."""
    _, body = ADAPTERS[provider]("http://127.0.0.1:1", Secret("k")).target(EVERYTHING)
    sections = {"request": body, "options": body.get("options"), "config": body.get("generationConfig")}
    for section, sent in sections.items():
        if section in CONTRACT[provider]:
            assert marked(provider, section, "sent") == set(sent or ()), section


@pytest.mark.parametrize(("provider", "section"), list(STRUCTS))
def test_what_is_read_is_what_the_contract_says(provider: str, section: str) -> None:
    """What our decoders look for is exactly what is marked as read."""
    fields = {f.encode_name for struct in STRUCTS[provider, section] for f in msgspec.structs.fields(struct)}
    assert marked(provider, section, "read") == fields


@pytest.mark.parametrize("provider", list(ADAPTERS))
def test_stop_reasons_are_those_of_the_contract(provider: str) -> None:
    """Every stop reason that we know is marked as read."""
    assert marked(provider, "stop", "read") == set(STOPS[provider])


@pytest.mark.parametrize(("provider", "section"), list(PUBLISHED))
def test_every_published_field_is_accounted_for(provider: str, section: str) -> None:
    """What the vendor's SDK of today knows is in the contract: a new field is seen when the SDK is renewed."""
    unknown = {name for name in PUBLISHED[provider, section]() if not name.startswith("_")} - set(
        CONTRACT[provider][section]
    )
    assert not unknown


@pytest.mark.parametrize("name", sorted(marked("openai", "request", "refused")))
def test_what_is_marked_as_refused_is_refused(name: str) -> None:
    """The gateway answers 400 to what changes the answer and cannot be done, and names it."""
    value: Any = {"n": 2, "modalities": ["text", "audio"]}.get(name, {"a": 1})
    with pytest.raises(RequestError, match=name):
        parse_request(json.dumps({"messages": [{"role": "user", "content": "x"}], name: value}).encode(), "1")


@pytest.mark.parametrize("name", sorted(marked("openai", "request", "unsaid") - {"max_tokens"}))
def test_what_is_marked_as_unsaid_is_ignored(name: str) -> None:
    """The gateway takes what it does not pass on, whatever it holds (`max_tokens` is an older name of what is sent)."""
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], name: {"any": ["thing"]}}).encode()
    parse_request(body, "1")

"""
What each provider can do of what a request asks, and how it is said to that provider. Pure; the table is the code.

What nobody needs to hear (a seed, an image's detail) is left out for a provider that does not know it. What changes the
answer is never left out: a provider that cannot do it is skipped, as `unsupported`, before any call.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Collection, Mapping

import msgspec

from router.catalogue import lacks_of
from router.models import Asked, JsonFormat, ModelType, NamedTool

__all__ = ["CAPABILITIES", "DROPPED", "Capability", "image_type", "lacking", "needs_of"]

DROPPED = "left out"
"""The provider is asked without it: the answer is as good."""


class Capability(msgspec.Struct, frozen=True):
    """One thing that a request may ask: in words, and the field that says it to each provider; None: it cannot."""

    words: str
    gemini: str | None
    claude: str | None
    openai: str | None
    local: str | None

    def at(self, provider: ModelType) -> str | None:
        """Return the field that says it to `provider`, DROPPED, or None when that provider cannot do it."""
        found: str | None = getattr(self, provider.value)
        return found


_C = Capability
_CONFIG = "generationConfig"
CAPABILITIES: Mapping[str, Capability] = {
    "system": _C("system prompts", "systemInstruction", "system", "messages[].role", "messages[].role"),
    "max_tokens": _C(
        "a limit of tokens", f"{_CONFIG}.maxOutputTokens", "max_tokens", "max_completion_tokens", "options.num_predict"
    ),
    "temperature": _C("a temperature", f"{_CONFIG}.temperature", "temperature", "temperature", "options.temperature"),
    "temperature_above_1": _C(
        "a temperature above 1", f"{_CONFIG}.temperature", None, "temperature", "options.temperature"
    ),
    "top_p": _C("top_p", f"{_CONFIG}.topP", "top_p", "top_p", "options.top_p"),
    "temperature_and_top_p": _C("temperature and top_p (below 1) together", _CONFIG, None, "both", "options"),
    "top_k": _C("top_k", f"{_CONFIG}.topK", "top_k", None, "options.top_k"),
    "stop": _C("stop sequences", f"{_CONFIG}.stopSequences", "stop_sequences", "stop", "options.stop"),
    "stop_blank": _C("a stop sequence of white space", f"{_CONFIG}.stopSequences", None, "stop", "options.stop"),
    "stop_5": _C("more than 4 stop sequences", f"{_CONFIG}.stopSequences", "stop_sequences", None, "options.stop"),
    "stop_6": _C("more than 5 stop sequences", None, "stop_sequences", None, "options.stop"),
    "penalties": _C(
        "presence and frequency penalties",
        f"{_CONFIG}.presencePenalty, .frequencyPenalty",
        None,
        "presence_penalty, frequency_penalty",
        "options.presence_penalty, .frequency_penalty",
    ),
    "seed": _C("a seed", f"{_CONFIG}.seed", DROPPED, "seed", "options.seed"),
    "user": _C("the user's id", DROPPED, DROPPED, "user", DROPPED),
    "tools": _C("tools", "tools[].functionDeclarations", "tools", "tools", "tools"),
    "tool_strict": _C("strict tool arguments", DROPPED, "tools[].strict", "tools[].function.strict", DROPPED),
    "tool_choice_none": _C(
        "tool_choice none", "toolConfig.functionCallingConfig", "tool_choice", "tool_choice", "no tools"
    ),
    "tool_required": _C(
        "a tool that must be called", "toolConfig.functionCallingConfig", "tool_choice", "tool_choice", None
    ),
    "one_tool_call": _C(
        "parallel_tool_calls: false", None, "tool_choice.disable_parallel_tool_use", "parallel_tool_calls", None
    ),
    "json_object": _C("JSON mode", f"{_CONFIG}.responseMimeType", None, "response_format", "format"),
    "json_unsaid": _C(
        "JSON mode without the word JSON in the conversation", f"{_CONFIG}.responseMimeType", None, None, "format"
    ),
    "json_schema": _C(
        "a JSON schema", f"{_CONFIG}.responseJsonSchema", "output_config.format", "response_format", "format"
    ),
    "json_and_tools": _C("JSON and tools at once", None, "both", "both", None),
    "image_data": _C(
        "an image as base64", "parts[].inlineData", "content[].source", "content[].image_url", "messages[].images"
    ),
    "image_url": _C("an image by URL", "parts[].fileData", "content[].source", "content[].image_url", None),
    "image_url_bare": _C(
        "an image by a URL that does not end in its type", None, "content[].source", "content[].image_url", None
    ),
    "image_detail": _C("how closely to look at an image", DROPPED, DROPPED, "content[].image_url.detail", DROPPED),
}
"""What can be asked, by name. The names are those of `lacks` in the models' data file."""

_PLAIN: frozenset[str] = frozenset()


def needs_of(asked: Asked) -> frozenset[str]:
    """Return the names of what a request needs and not everybody can do; nothing, quickly, for plain text."""
    needs: set[str] = set()
    if asked.temperature is not None or asked.top_p is not None or asked.top_k is not None or asked.stop:
        needs |= _of_sampling(asked)
    if asked.presence_penalty or asked.frequency_penalty:
        needs.add("penalties")
    if asked.tools:
        needs |= _of_tools(asked)
    if asked.json_format is not None:
        needs |= _of_json(asked, asked.json_format)
    for message in asked.messages:
        if not isinstance(message.content, str):
            for image in message.images:
                needs |= {"image_data"} if image.inline else _of_url(image.url)
    return frozenset(needs) if needs else _PLAIN


def lacking(provider: ModelType, model: str, needs: Collection[str]) -> tuple[str, ...]:
    """Return, in words and sorted, what of `needs` this model of this provider cannot do."""
    unable = lacks_of(provider, model)
    return tuple(
        sorted(CAPABILITIES[need].words for need in needs if need in unable or CAPABILITIES[need].at(provider) is None)
    )


def image_type(url: str) -> str | None:
    """Return the media type that the end of an image's URL tells, or None."""
    kind, _ = mimetypes.guess_type(url.partition("?")[0].partition("#")[0])
    return kind if kind is not None and kind.startswith("image/") else None


def _of_sampling(asked: Asked) -> set[str]:
    top_p = asked.top_p is not None and asked.top_p < 1
    wanted = {
        "temperature_above_1": asked.temperature is not None and asked.temperature > 1,
        "temperature_and_top_p": asked.temperature is not None and top_p,
        "top_k": asked.top_k is not None,
        "stop_blank": any(not stop.strip() for stop in asked.stop),
        "stop_5": len(asked.stop) > 4,
        "stop_6": len(asked.stop) > 5,
    }
    return {name for name, is_wanted in wanted.items() if is_wanted}


def _of_tools(asked: Asked) -> set[str]:
    wanted = {
        "tools": True,
        "tool_required": asked.tool_choice == "required" or isinstance(asked.tool_choice, NamedTool),
        "one_tool_call": asked.parallel_tool_calls is False,
        "json_and_tools": asked.json_format is not None,
    }
    return {name for name, is_wanted in wanted.items() if is_wanted}


def _of_json(asked: Asked, form: JsonFormat) -> set[str]:
    if form.schema is not None:
        return {"json_schema"}
    said = any("json" in message.text.lower() for message in asked.messages)
    return {"json_object"} if said else {"json_object", "json_unsaid"}


def _of_url(url: str) -> set[str]:
    return {"image_url"} if image_type(url) else {"image_url", "image_url_bare"}

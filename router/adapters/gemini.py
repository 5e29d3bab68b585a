"""Gemini: generateContent (https://ai.google.dev/api/generate-content)."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, given, named, spoken
from router.adapters.calls import arguments_of, tool_names, whole_calls
from router.adapters.failures import said
from router.capabilities import image_type
from router.errors import InvalidAnswer
from router.models import ImagePart, JsonFormat, Message, ModelType, NamedTool, StopReason, Tool, Usage

__all__ = ["GeminiAdapter"]

_STOP: dict[str, StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}


class _FunctionCall(msgspec.Struct, frozen=True):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    text: str = ""
    thought: bool = False
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, frozen=True, rename="camel"):
    content: _Content = _Content()
    finish_reason: str | None = None


class _UsageMetadata(msgspec.Struct, frozen=True, rename="camel"):
    prompt_token_count: Any = 0
    candidates_token_count: Any = 0
    thoughts_token_count: Any = 0
    """Billed as output, and not counted among the candidates' tokens."""
    cached_content_token_count: Any = 0
    """Of the prompt's tokens."""


class _PromptFeedback(msgspec.Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    candidates: list[_Candidate] = []
    usage_metadata: _UsageMetadata | None = None
    prompt_feedback: _PromptFeedback | None = None
    model_version: Any = None
    error: Any = None


class GeminiAdapter(Adapter):
    """The Gemini API. The key travels in a header, never in the URL, so that no log can hold it."""

    model_type: ClassVar[ModelType] = ModelType.GEMINI
    auth = (("x-goog-api-key", "{key}"),)
    health_path = "/v1beta/models"

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter. System turns go to `systemInstruction`; the assistant is called `model`."""
        config = given(
            maxOutputTokens=prompt.max_tokens,
            temperature=prompt.temperature,
            topP=prompt.top_p,
            topK=prompt.top_k,
            stopSequences=list(prompt.stop) or None,
            seed=prompt.seed,
            presencePenalty=prompt.presence_penalty,
            frequencyPenalty=prompt.frequency_penalty,
        )
        if prompt.json_format is not None:
            config |= _format(prompt.json_format)
        system = [{"text": turn.text} for turn in prompt.messages if turn.role == "system"]
        body = given(
            contents=_contents(prompt), generationConfig=config, systemInstruction={"parts": system} if system else None
        )
        if prompt.tools:
            body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in prompt.tools]}]
            body |= given(toolConfig=_choice(prompt))
        method = "streamGenerateContent?alt=sse" if prompt.stream else "generateContent"
        return f"/v1beta/models/{quote(prompt.model, safe='')}:{method}", body

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        piece = _piece(decoded(body, _Response, "the response"), body)
        if piece.stop_reason is None:
            raise InvalidAnswer("the response has no candidate with a known finishReason")
        return piece

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        return _piece(decoded(data, _Response, "an event of the stream"), data)


def _contents(prompt: Prompt) -> list[dict[str, Any]]:
    names = tool_names(prompt.messages)

    def say(turn: Message) -> dict[str, Any]:
        return {"role": "model" if turn.role == "assistant" else "user", "parts": _parts(turn, prompt.model)}

    def result(turn: Message) -> dict[str, Any]:
        name = names.get(turn.tool_call_id, turn.tool_call_id)
        return {"functionResponse": {"id": turn.tool_call_id, "name": name, "response": {"output": turn.text}}}

    return spoken(prompt, "parts", say, result)


def _parts(turn: Message, model: str) -> list[dict[str, Any]]:
    if isinstance(turn.content, str):
        parts: list[dict[str, Any]] = [{"text": turn.content}] if turn.content or not turn.tool_calls else []
    else:
        parts = [_image(part) if isinstance(part, ImagePart) else {"text": part.text} for part in turn.content]
    for call in turn.tool_calls:
        parts.append({"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}})
    if turn.tool_calls and not model.startswith("gemini-2"):
        # Later models want the signature of the thoughts before a call. One that another model made has none, and the
        # formats in between carry none: this word says so (https://ai.google.dev/gemini-api/docs/thought-signatures).
        parts[-len(turn.tool_calls)]["thoughtSignature"] = "skip_thought_signature_validator"
    return parts


def _image(image: ImagePart) -> dict[str, Any]:
    if image.inline is None:
        return {"fileData": given(mimeType=image_type(image.url), fileUri=image.url)}
    media_type, data = image.inline
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _tool(tool: Tool) -> dict[str, Any]:
    return given(name=tool.name, description=tool.description, parametersJsonSchema=tool.parameters)


def _choice(prompt: Prompt) -> dict[str, Any] | None:
    choice = prompt.tool_choice
    if choice is None:
        return None
    if isinstance(choice, NamedTool):
        config: dict[str, Any] = {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    else:
        config = {"mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice]}
    return {"functionCallingConfig": config}


def _format(form: JsonFormat) -> dict[str, Any]:
    return given(responseMimeType="application/json", responseJsonSchema=form.schema)


def _piece(response: _Response, data: bytes) -> Piece:
    if response.error is not None:
        raise InvalidAnswer(f"the answer carried an error object: {said(response.error)}")
    usage = _usage(response.usage_metadata)
    if not response.candidates:
        # A blocked prompt has no candidate. It is the prompt's fault: as a failure it would open the breaker.
        blocked = response.prompt_feedback is not None and response.prompt_feedback.block_reason is not None
        return Piece(usage=usage, stop_reason="content_filter" if blocked else None)
    candidate = response.candidates[0]
    calls = [call for part in candidate.content.parts if (call := part.function_call) is not None]
    return Piece(
        text="".join(part.text for part in candidate.content.parts if not part.thought),
        tool_calls=whole_calls(((call.id, call.name, call.args) for call in calls), data) if calls else (),
        stop_reason=_STOP.get(candidate.finish_reason or ""),
        usage=usage,
        model=named(response.model_version),
    )


def _usage(counts: _UsageMetadata | None) -> Usage | None:
    if counts is None:
        return None
    return Usage(
        prompt_tokens=counted(counts.prompt_token_count),
        completion_tokens=counted(counts.candidates_token_count) + counted(counts.thoughts_token_count),
        cached_tokens=counted(counts.cached_content_token_count),
    )

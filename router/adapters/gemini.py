"""Gemini: generateContent (https://ai.google.dev/api/generate-content)."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, named, turns
from router.errors import InvalidAnswer
from router.models import ModelType, StopReason, Usage

__all__ = ["GeminiAdapter"]

_STOP: dict[str, StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
}


class _Part(msgspec.Struct, frozen=True):
    text: str = ""


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

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter. System turns go to `systemInstruction`; the assistant is called `model`."""
        everything = list(turns(prompt))
        system = [{"text": turn.content} for turn in everything if turn.role == "system"]
        contents = [
            {"role": "model" if turn.role == "assistant" else "user", "parts": [{"text": turn.content}]}
            for turn in everything
            if turn.role != "system"
        ]
        optional = {
            "temperature": prompt.temperature,
            "topP": prompt.top_p,
            "stopSequences": list(prompt.stop) or None,
        }
        config = {"maxOutputTokens": prompt.max_tokens} | {k: v for k, v in optional.items() if v is not None}
        body: dict[str, Any] = {"contents": contents, "generationConfig": config}
        if system:
            body["systemInstruction"] = {"parts": system}
        method = "streamGenerateContent?alt=sse" if prompt.stream else "generateContent"
        return f"/v1beta/models/{quote(prompt.model, safe='')}:{method}", body

    def auth_headers(self) -> tuple[tuple[str, str], ...]:
        """See Adapter."""
        return (("x-goog-api-key", self._api_key.reveal()),)

    def health_path(self) -> str:
        """See Adapter."""
        return "/v1beta/models"

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        piece = _piece(decoded(body, _Response, "the response"))
        if piece.stop_reason is None:
            raise InvalidAnswer("the response has no candidate with a known finishReason")
        return piece

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        return _piece(decoded(data, _Response, "an event of the stream"))


def _piece(response: _Response) -> Piece:
    if response.error is not None:
        raise InvalidAnswer("the answer carried an error object")
    counts = response.usage_metadata
    usage = None
    if counts is not None:
        answered = counted(counts.candidates_token_count) + counted(counts.thoughts_token_count)
        usage = Usage(prompt_tokens=counted(counts.prompt_token_count), completion_tokens=answered)
    if not response.candidates:
        # A blocked prompt has no candidate. It is the prompt's fault: as a failure it would open the breaker.
        blocked = response.prompt_feedback is not None and response.prompt_feedback.block_reason is not None
        return Piece(usage=usage, stop_reason="content_filter" if blocked else None)
    candidate = response.candidates[0]
    text = "".join(part.text for part in candidate.content.parts)
    stop = _STOP.get(candidate.finish_reason or "")
    return Piece(text=text, stop_reason=stop, usage=usage, model=named(response.model_version))

"""OpenAI: Chat Completions (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, named, turns
from router.errors import InvalidAnswer
from router.models import ModelType, StopReason, Usage

__all__ = ["OpenAIAdapter"]

_STOP: dict[str, StopReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


class _Text(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Text = _Text()
    delta: _Text = _Text()
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Any = 0
    completion_tokens: Any = 0


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: Any = None
    error: Any = None


class OpenAIAdapter(Adapter):
    """The OpenAI API, or anything that speaks it."""

    model_type: ClassVar[ModelType] = ModelType.OPENAI

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter."""
        body: dict[str, Any] = {
            "model": prompt.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns(prompt)],
            "max_tokens": prompt.max_tokens,
            "stream": prompt.stream,
        }
        if prompt.stream:
            body["stream_options"] = {"include_usage": True}
        optional = {"temperature": prompt.temperature, "top_p": prompt.top_p, "stop": list(prompt.stop) or None}
        return "/v1/chat/completions", body | {name: value for name, value in optional.items() if value is not None}

    def auth_headers(self) -> tuple[tuple[str, str], ...]:
        """See Adapter."""
        return (("authorization", f"Bearer {self._api_key.reveal()}"),)

    def health_path(self) -> str:
        """See Adapter."""
        return "/v1/models"

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        completion = decoded(body, _Completion, "the completion")
        if completion.error is not None or not completion.choices:
            raise InvalidAnswer("the completion has no choice")
        choice = completion.choices[0]
        stop = _STOP.get(choice.finish_reason or "")
        if stop is None:
            raise InvalidAnswer("the completion has no known finish_reason")
        text, usage = choice.message.content or "", _usage(completion.usage)
        return Piece(text=text, stop_reason=stop, usage=usage, model=named(completion.model))

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        if data == b"[DONE]":
            return None
        completion = decoded(data, _Completion, "an event of the stream")
        if completion.error is not None or name == b"error":
            raise InvalidAnswer("the stream carried an error event")
        usage = _usage(completion.usage)
        if not completion.choices:
            return Piece(usage=usage) if usage else None
        choice = completion.choices[0]
        stop = _STOP.get(choice.finish_reason or "")
        return Piece(text=choice.delta.content or "", stop_reason=stop, usage=usage, model=named(completion.model))


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(prompt_tokens=counted(usage.prompt_tokens), completion_tokens=counted(usage.completion_tokens))

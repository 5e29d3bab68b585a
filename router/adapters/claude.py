"""Claude: the Messages API (https://docs.anthropic.com/en/api/messages, …/messages-streaming)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, named, turns
from router.errors import InvalidAnswer, ProviderOverloaded
from router.models import ModelType, StopReason, Usage

__all__ = ["ClaudeAdapter"]

_VERSION = "2023-06-01"
_STOP: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "refusal": "content_filter",
}


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Any = 0
    output_tokens: Any = 0


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block]
    stop_reason: str | None
    usage: _Usage | None = None
    model: Any = None


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    stop_reason: str | None = None


class _Started(msgspec.Struct, frozen=True):
    usage: _Usage | None = None
    model: Any = None


class _Error(msgspec.Struct, frozen=True):
    type: str = ""


class _Event(msgspec.Struct, frozen=True):
    type: str
    message: _Started | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class ClaudeAdapter(Adapter):
    """The Anthropic API. One adapter serves many streams, so what one stream needs is in its pieces."""

    model_type: ClassVar[ModelType] = ModelType.CLAUDE

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter. System turns go to `system`, the rest to `messages`."""
        everything = list(turns(prompt))
        system = "\n\n".join(turn.content for turn in everything if turn.role == "system")
        body: dict[str, Any] = {
            "model": prompt.model,
            "messages": [{"role": t.role, "content": t.content} for t in everything if t.role != "system"],
            "max_tokens": prompt.max_tokens,
            "stream": prompt.stream,
        }
        optional = {
            "system": system or None,
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "stop_sequences": list(prompt.stop) or None,
        }
        return "/v1/messages", body | {name: value for name, value in optional.items() if value is not None}

    def auth_headers(self) -> tuple[tuple[str, str], ...]:
        """See Adapter."""
        return (("x-api-key", self._api_key.reveal()), ("anthropic-version", _VERSION))

    def health_path(self) -> str:
        """See Adapter."""
        return "/v1/models"

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        message = decoded(body, _Message, "the message")
        stop = _STOP.get(message.stop_reason or "")
        if stop is None:
            raise InvalidAnswer("the message has no known stop_reason")
        text = "".join(block.text for block in message.content if block.type == "text")
        return Piece(text=text, stop_reason=stop, usage=_usage(message.usage), model=named(message.model))

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """
        See Adapter.

        `message_start` tells the prompt's tokens, `message_delta` the answer's: each yields a usage in which the
        other number is 0, and the reader takes the larger of each.
        """
        event = decoded(data, _Event, "an event of the stream")
        match event.type:
            case "error":
                if event.error is not None and event.error.type == "overloaded_error":
                    raise ProviderOverloaded("claude said overloaded in the middle of a stream", upstream_status=529)
                raise InvalidAnswer("the stream carried an error event")
            case "message_start" if event.message is not None:
                asked = counted(event.message.usage.input_tokens) if event.message.usage else 0
                return Piece(usage=Usage(prompt_tokens=asked, completion_tokens=0), model=named(event.message.model))
            case "content_block_delta" if event.delta is not None and event.delta.type == "text_delta":
                return Piece(text=event.delta.text)
            case "message_delta":
                stop = _STOP.get(event.delta.stop_reason or "") if event.delta else None
                tokens = counted(event.usage.output_tokens) if event.usage else 0
                return Piece(stop_reason=stop, usage=Usage(prompt_tokens=0, completion_tokens=tokens))
            case _:
                return None


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(prompt_tokens=counted(usage.input_tokens), completion_tokens=counted(usage.output_tokens))

"""Ollama: /api/chat (https://github.com/ollama/ollama/blob/main/docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, named, turns
from router.errors import InvalidAnswer
from router.models import ModelType, StopReason, Usage

__all__ = ["OllamaAdapter"]

# Ollama has no filter; servers that speak its API in front of one say `content_filter`.
_STOP: dict[str, StopReason] = {"length": "length", "content_filter": "content_filter"}


class _Text(msgspec.Struct, frozen=True):
    content: str = ""


class _Line(msgspec.Struct, frozen=True):
    message: _Text = _Text()
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = 0
    eval_count: Any = 0
    model: Any = None
    error: str | None = None


class OllamaAdapter(Adapter):
    """A local Ollama server. It takes no key; its streams are lines of JSON."""

    model_type: ClassVar[ModelType] = ModelType.LOCAL
    stream_format: ClassVar[Literal["sse", "lines"]] = "lines"
    stream_type: ClassVar[str] = "application/x-ndjson"

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter."""
        optional = {
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "stop": list(prompt.stop) or None,
        }
        options = {"num_predict": prompt.max_tokens} | {k: v for k, v in optional.items() if v is not None}
        return "/api/chat", {
            "model": prompt.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns(prompt)],
            "stream": prompt.stream,
            "options": options,
        }

    def auth_headers(self) -> tuple[tuple[str, str], ...]:
        """See Adapter."""
        return ()

    def health_path(self) -> str:
        """See Adapter."""
        return "/api/version"

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        piece = _piece(decoded(body, _Line, "the answer"))
        if piece.stop_reason is None:
            raise InvalidAnswer("the answer is not marked as done")
        return piece

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        return _piece(decoded(data, _Line, "a line of the stream"))


def _piece(line: _Line) -> Piece:
    if line.error is not None:
        raise InvalidAnswer("ollama reported an error in its answer")
    model = named(line.model)
    if not line.done:
        return Piece(text=line.message.content, model=model)
    stop = _STOP.get(line.done_reason or "", "stop")
    usage = Usage(prompt_tokens=counted(line.prompt_eval_count), completion_tokens=counted(line.eval_count))
    return Piece(text=line.message.content, stop_reason=stop, usage=usage, model=model)

"""What goes in and comes out: providers, requests, replies, chunks. Plain data, no behaviour beyond checks."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from router.events import Attempt

__all__ = [
    "DEFAULT_PREFERRED",
    "FAILOVER_CHAIN",
    "Chunk",
    "Message",
    "ModelType",
    "Reply",
    "Request",
    "StopReason",
    "Usage",
]

StopReason = Literal["stop", "length", "content_filter"]


class ModelType(StrEnum):
    """The providers that the router knows. LOCAL is an Ollama server of one's own."""

    GEMINI = "gemini"
    CLAUDE = "claude"
    OPENAI = "openai"
    LOCAL = "local"

    @property
    def is_cloud(self) -> bool:
        """Whether a call leaves the house and costs money."""
        return self is not ModelType.LOCAL


FAILOVER_CHAIN: tuple[ModelType, ...] = (ModelType.GEMINI, ModelType.CLAUDE, ModelType.OPENAI, ModelType.LOCAL)


class _Default(str):
    """A string that can be told from an equal one by identity: nobody named this model."""

    __slots__ = ()


DEFAULT_PREFERRED: str = _Default("gemini")
"""The default of `preferred_model`. Equals `"gemini"`, but a caller who passes `"gemini"` has *named* a cloud."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """
    One thing asked of the router.

    `model` is a provider (`gemini`), a model or an alias of the tiers table (`gpt-4o`, `claude-haiku`), or `auto`.
    `timeout_s` is the caller's own patience in seconds; running out of it says nothing about a provider.
    """

    messages: tuple[Message, ...]
    model: str = DEFAULT_PREFERRED
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    timeout_s: float | None = None
    request_id: str = ""

    @property
    def names_model(self) -> bool:
        """Whether the caller chose the model, rather than leaving it to the default."""
        return self.model is not DEFAULT_PREFERRED


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer. `estimated` when the provider did not say."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer and how it was had. `cost_usd` is the sum over all attempts of the request."""

    text: str
    provider: ModelType
    model: str
    usage: Usage
    stop_reason: StopReason
    cost_usd: float
    attempts: tuple[Attempt, ...]


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """
    A piece of a streamed answer. The last one has `stop_reason` set, no text, and `usage`, `cost_usd`, `attempts`.

    `continued` names the providers that wrote the text before this one took over, in order.
    """

    text: str
    provider: ModelType
    model: str
    continued: tuple[ModelType, ...] = ()
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    cost_usd: float = 0.0
    attempts: tuple[Attempt, ...] = ()

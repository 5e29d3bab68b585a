"""What goes in and comes out: providers, requests, replies, chunks. Plain data, no behaviour beyond reading it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal

import msgspec

from router.events import Attempt

__all__ = [
    "DEFAULT_PREFERRED",
    "FAILOVER_CHAIN",
    "Asked",
    "Chunk",
    "ImagePart",
    "JsonFormat",
    "Message",
    "ModelType",
    "NamedTool",
    "Reply",
    "Request",
    "StopReason",
    "TextPart",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

StopReason = Literal["stop", "length", "content_filter", "tool_calls"]


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


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of a message's text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """
    An image in a message: an https URL, or `data:image/png;base64,…`.

    `detail` is how closely it is to be looked at; vendors that do not know the word decide themselves.
    """

    url: str
    detail: Literal["auto", "low", "high"] | None = None

    @property
    def inline(self) -> tuple[str, str] | None:
        """The media type and the base64 data of a data URL; None for an image that is only pointed at."""
        head, comma, data = self.url.partition(",")
        if not comma or not head.startswith("data:") or not head.endswith(";base64"):
            return None
        return head.removeprefix("data:").partition(";")[0], data


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the model wants called. `arguments` is JSON as the model wrote it: check it before you use it."""

    id: str
    name: str
    arguments: str


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """
    A piece of a streamed tool call. The first one of a call has `id` and `name`; the arguments' pieces add up to JSON.

    `index` counts the calls of an answer from 0. (From an adapter it is the vendor's own number, None for a call that
    comes whole.)
    """

    index: int | None
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """
    One turn of a conversation.

    `tool_calls` are those that the assistant asked for; a turn of the role `tool` has the result of one of them, named
    by `tool_call_id`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str | tuple[TextPart | ImagePart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """The text, without the images."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images, without the text."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ImagePart))


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may ask to have called. `parameters` is a JSON Schema of an object."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Whether the arguments must fit the schema to the letter, where a vendor can promise that."""


class NamedTool(msgspec.Struct, frozen=True):
    """The choice of one tool that must be called."""

    name: str


class JsonFormat(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in JSON: any object, or one that fits `schema`."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Asked(msgspec.Struct, frozen=True):
    """What is asked, by a caller of the router and by the router of each provider alike. None: not said."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    json_format: JsonFormat | None = None


class Request(Asked, frozen=True, kw_only=True):
    """
    One thing asked of the router.

    `model` is a provider (`gemini`), a model or an alias of the tiers table (`gpt-4o`, `claude-haiku`), or `auto`.
    `timeout_s` is the caller's own patience in seconds; running out of it says nothing about a provider.
    """

    model: str = DEFAULT_PREFERRED
    max_tokens: int | None = None
    timeout_s: float | None = None
    request_id: str = ""
    attempts: int = 0
    """Attempts that gateways in front of this one have already made for it."""
    trace_context: tuple[tuple[str, str], ...] = ()
    """The caller's W3C headers `traceparent` and `tracestate`; of no effect while telemetry is off."""

    @property
    def names_model(self) -> bool:
        """Whether the caller chose the model, rather than leaving it to the default."""
        return self.model is not DEFAULT_PREFERRED


_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "written_tokens")


class Usage(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """Tokens of one answer. `estimated` when the provider did not say."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False
    cached_tokens: int = 0
    """Of the prompt's tokens: those that the provider read from its cache, at a lower price."""
    written_tokens: int = 0
    """Of the prompt's tokens: those that the provider wrote into its cache, for some at a higher price."""

    def joined(self, other: Usage, join: Callable[[int, int], int]) -> Usage:
        """Return the usage whose counts are those of both, joined: `operator.add` of two attempts, `max` of one."""
        counts = {name: join(getattr(self, name), getattr(other, name)) for name in _COUNTS}
        return Usage(estimated=self.estimated or other.estimated, **counts)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer and how it was had. `cost_usd` is the sum over all attempts of the request."""

    text: str
    provider: ModelType
    model: str
    usage: Usage
    stop_reason: StopReason
    cost_usd: float
    attempts: tuple[Attempt, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    """What the model said instead of the answer, where its vendor tells that apart from the text."""


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
    tool_calls: tuple[ToolCallDelta, ...] = ()
    refusal: str = ""

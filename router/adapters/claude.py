"""Claude: the Messages API (https://docs.anthropic.com/en/api/messages, …/messages-streaming)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, given, named, spoken
from router.adapters.calls import arguments_of, whole_calls
from router.adapters.failures import said
from router.errors import InvalidAnswer, ProviderOverloaded, RateLimited
from router.models import ImagePart, Message, ModelType, NamedTool, StopReason, Tool, ToolCallDelta, Usage

__all__ = ["ClaudeAdapter"]

_VERSION = "2023-06-01"
_STOP: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Any = 0
    output_tokens: Any = 0
    cache_read_input_tokens: Any = 0
    cache_creation_input_tokens: Any = 0


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block]
    stop_reason: str | None
    usage: _Usage | None = None
    model: Any = None


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Started(msgspec.Struct, frozen=True):
    usage: _Usage | None = None
    model: Any = None


class _Error(msgspec.Struct, frozen=True):
    type: str = ""
    message: Any = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    index: int | None = None
    message: _Started | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class ClaudeAdapter(Adapter):
    """The Anthropic API. One adapter serves many streams, so what one stream needs is in its pieces."""

    model_type: ClassVar[ModelType] = ModelType.CLAUDE
    auth = (("x-api-key", "{key}"), ("anthropic-version", _VERSION))
    health_path = "/v1/models"

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter. System turns go to `system`, the rest to `messages`."""
        body = given(
            model=prompt.model,
            messages=spoken(prompt, "content", _turn, _result),
            max_tokens=prompt.max_tokens,
            stream=prompt.stream,
            system="\n\n".join(turn.text for turn in prompt.messages if turn.role == "system") or None,
            temperature=prompt.temperature,
            top_p=None if prompt.top_p == 1 else prompt.top_p,  # it does nothing, and forbids a temperature
            top_k=prompt.top_k,
            stop_sequences=list(prompt.stop) or None,
        )
        if prompt.tools:
            body |= given(tools=[_tool(tool) for tool in prompt.tools], tool_choice=_choice(prompt))
        if prompt.json_format is not None and prompt.json_format.schema is not None:
            schema = _closed(prompt.json_format.schema)
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return "/v1/messages", body

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        message = decoded(body, _Message, "the message")
        stop = _STOP.get(message.stop_reason or "")
        if stop is None:
            raise InvalidAnswer("the message has no known stop_reason")
        text = "".join(block.text for block in message.content if block.type == "text")
        used = ((block.id, block.name, block.input) for block in message.content if block.type == "tool_use")
        calls = whole_calls(used, body)
        usage = _usage(message.usage)
        return Piece(text=text, tool_calls=calls, stop_reason=stop, usage=usage, model=named(message.model))

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """
        See Adapter.

        `message_start` tells the prompt's tokens, `message_delta` the answer's: each yields a usage in which the
        other number is 0, and the reader takes the larger of each.
        """
        event = decoded(data, _Event, "an event of the stream")
        match event.type:
            case "error":
                raise _error(event.error)
            case "message_start" if event.message is not None:
                return Piece(usage=_usage(event.message.usage, is_start=True), model=named(event.message.model))
            case "content_block_start" | "content_block_delta":
                return _of_block(event)
            case "message_delta":
                stop = _STOP.get(event.delta.stop_reason or "") if event.delta else None
                tokens = counted(event.usage.output_tokens) if event.usage else 0
                return Piece(stop_reason=stop, usage=Usage(prompt_tokens=0, completion_tokens=tokens))
            case _:
                return None


def _of_block(event: _Event) -> Piece | None:
    block, delta = event.content_block, event.delta
    if block is not None and block.type == "tool_use":
        return Piece(tool_calls=(ToolCallDelta(index=event.index, id=block.id, name=block.name),))
    if delta is not None and delta.type == "text_delta":
        return Piece(text=delta.text)
    if delta is not None and delta.type == "input_json_delta":
        return Piece(tool_calls=(ToolCallDelta(index=event.index, arguments=delta.partial_json),))
    return None


def _turn(turn: Message) -> dict[str, Any]:
    return {"role": turn.role, "content": _content(turn)}


def _result(turn: Message) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": turn.text}


def _content(turn: Message) -> str | list[dict[str, Any]]:
    if isinstance(turn.content, str) and not turn.tool_calls:
        return turn.content
    blocks: list[dict[str, Any]] = []
    if isinstance(turn.content, str):
        blocks += [{"type": "text", "text": turn.content}] if turn.content.strip() else []
    else:
        for part in turn.content:
            if isinstance(part, ImagePart):
                blocks.append(_image(part))
            elif part.text.strip():  # a blank block is refused
                blocks.append({"type": "text", "text": part.text})
    for call in turn.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)})
    return blocks


def _image(image: ImagePart) -> dict[str, Any]:
    if image.inline is None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    media_type, data = image.inline
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _tool(tool: Tool) -> dict[str, Any]:
    schema = tool.parameters or {"type": "object", "properties": {}}
    return given(name=tool.name, description=tool.description, input_schema=schema, strict=tool.strict)


def _choice(prompt: Prompt) -> dict[str, Any] | None:
    choice = prompt.tool_choice
    if isinstance(choice, NamedTool):
        found: dict[str, Any] = {"type": "tool", "name": choice.name}
    elif choice is None and prompt.parallel_tool_calls is not False:
        return None
    else:
        found = {"type": "any" if choice == "required" else choice or "auto"}
    if prompt.parallel_tool_calls is False and choice != "none":
        found["disable_parallel_tool_use"] = True
    return found


def _closed(schema: Any) -> Any:
    """Return `schema` without room for unnamed properties, as Anthropic wants it: what fits it fits the original."""
    if isinstance(schema, list):
        return [_closed(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(each) for name, each in cast("dict[str, Any]", schema).items()}
    if found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def _error(error: _Error | None) -> Exception:
    words = f"the stream carried an error event: {said(error and {'message': error.message})}"
    if error is not None and error.type == "overloaded_error":
        return ProviderOverloaded(words, upstream_status=529)
    if error is not None and error.type == "rate_limit_error":
        return RateLimited(words)
    return InvalidAnswer(words)


def _usage(usage: _Usage | None, *, is_start: bool = False) -> Usage | None:
    """Return the usage; at the start of a stream what is told of the answer is not yet true."""
    if usage is None:
        return Usage(prompt_tokens=0, completion_tokens=0) if is_start else None
    cached = counted(usage.cache_read_input_tokens)
    # Anthropic counts the cache's tokens beside the others, the router among them.
    asked = counted(usage.input_tokens) + cached + counted(usage.cache_creation_input_tokens)
    answered = 0 if is_start else counted(usage.output_tokens)
    return Usage(prompt_tokens=asked, completion_tokens=answered, cached_tokens=cached)

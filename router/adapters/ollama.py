"""Ollama: /api/chat (https://github.com/ollama/ollama/blob/main/docs/api.md)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, given, named, turns
from router.adapters.calls import arguments_of, tool_names, whole_calls
from router.adapters.failures import said
from router.errors import InvalidAnswer
from router.models import Message, ModelType, StopReason, Tool, ToolCallDelta, Usage

__all__ = ["OllamaAdapter"]

# Ollama has no filter; servers that speak its API in front of one say `content_filter`.
_STOP: dict[str, StopReason] = {"length": "length", "content_filter": "content_filter"}


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct, frozen=True):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct, frozen=True):
    content: str = ""
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, frozen=True):
    message: _Said = _Said()
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = 0
    eval_count: Any = 0
    model: Any = None
    error: str | None = None


class OllamaAdapter(Adapter):
    """A local Ollama server. It takes no key; its streams are lines of JSON."""

    model_type: ClassVar[ModelType] = ModelType.LOCAL
    health_path = "/api/version"
    stream_format: ClassVar[Literal["sse", "lines"]] = "lines"
    stream_type: ClassVar[str] = "application/x-ndjson"

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter."""
        names = tool_names(prompt.messages)
        options = given(
            num_predict=prompt.max_tokens,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            top_k=prompt.top_k,
            stop=list(prompt.stop) or None,
            seed=prompt.seed,
            presence_penalty=prompt.presence_penalty,
            frequency_penalty=prompt.frequency_penalty,
        )
        form = prompt.json_format
        return "/api/chat", given(
            model=prompt.model,
            messages=[_message(turn, names) for turn in turns(prompt)],
            stream=prompt.stream,
            options=options,
            # Ollama knows no `tool_choice`: what must not be called is not told.
            tools=[_tool(tool) for tool in prompt.tools] if prompt.tool_choice != "none" and prompt.tools else None,
            format=None if form is None else form.schema or "json",
        )

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        piece = _piece(decoded(body, _Line, "the answer"), body)
        if piece.stop_reason is None:
            raise InvalidAnswer("the answer is not marked as done")
        return piece

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        return _piece(decoded(data, _Line, "a line of the stream"), data)


def _message(turn: Message, names: dict[str, str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.images:
        message["images"] = [image.inline[1] for image in turn.images if image.inline is not None]
    if turn.tool_calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_of(call)}} for call in turn.tool_calls
        ]
    if turn.role == "tool":
        message["tool_name"] = names.get(turn.tool_call_id, turn.tool_call_id)
    return message


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    function = given(name=tool.name, description=tool.description, parameters=parameters)
    return {"type": "function", "function": function}


def _piece(line: _Line, data: bytes) -> Piece:
    if line.error is not None:
        raise InvalidAnswer(f"ollama reported an error in its answer: {said(line.error)}")
    calls: tuple[ToolCallDelta, ...] = ()
    if line.message.tool_calls:
        functions = ((call.id, call.function.name, call.function.arguments) for call in line.message.tool_calls)
        calls = whole_calls(functions, data)
    stop = usage = None
    if line.done:
        stop = _STOP.get(line.done_reason or "", "stop")
        usage = Usage(prompt_tokens=counted(line.prompt_eval_count), completion_tokens=counted(line.eval_count))
    return Piece(text=line.message.content, tool_calls=calls, stop_reason=stop, usage=usage, model=named(line.model))

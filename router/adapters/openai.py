"""OpenAI: Chat Completions (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import msgspec

from router.adapters.base import Adapter, Piece, Prompt, counted, decoded, given, named, turns
from router.adapters.failures import said
from router.catalogue import default_catalogue
from router.errors import InvalidAnswer
from router.models import JsonFormat, Message, ModelType, NamedTool, StopReason, TextPart, Tool, ToolCallDelta, Usage

__all__ = ["OpenAIAdapter"]

_STOP: dict[str, StopReason] = {reason: reason for reason in get_args(StopReason)}  # ours are OpenAI's


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Said = _Said()
    delta: _Said = _Said()
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: Any = 0
    cache_write_tokens: Any = 0


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Any = 0
    completion_tokens: Any = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: Any = None
    error: Any = None


class OpenAIAdapter(Adapter):
    """The OpenAI API, or anything that speaks it."""

    model_type: ClassVar[ModelType] = ModelType.OPENAI
    auth = (("authorization", "Bearer {key}"),)
    health_path = "/v1/models"

    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """See Adapter."""
        body = given(
            model=prompt.model,
            messages=[_message(turn) for turn in turns(prompt)],
            max_completion_tokens=prompt.max_tokens,
            reasoning_effort=default_catalogue().efforts.get(prompt.model),
            stream=prompt.stream,
            stream_options={"include_usage": True} if prompt.stream else None,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            stop=list(prompt.stop) or None,
            seed=prompt.seed,
            presence_penalty=prompt.presence_penalty,
            frequency_penalty=prompt.frequency_penalty,
            user=prompt.user,
        )
        if prompt.tools:
            body |= given(
                tools=[_tool(tool) for tool in prompt.tools],
                tool_choice=_choice(prompt.tool_choice),
                parallel_tool_calls=prompt.parallel_tool_calls,
            )
        if prompt.json_format is not None:
            body["response_format"] = _format(prompt.json_format)
        return "/v1/chat/completions", body

    def parse(self, body: bytes) -> Piece:
        """See Adapter."""
        completion = decoded(body, _Completion, "the completion")
        if completion.error is not None or not completion.choices:
            raise InvalidAnswer(f"the completion has no choice: {said(completion.error)}")
        choice = completion.choices[0]
        stop = _STOP.get(choice.finish_reason or "")
        if stop is None:
            raise InvalidAnswer("the completion has no known finish_reason")
        # Whole calls: what numbers they have, if any, is of no account.
        return _piece(choice.message, stop, completion, calls=_deltas(choice.message, is_whole=True))

    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """See Adapter."""
        if data == b"[DONE]":
            return None
        completion = decoded(data, _Completion, "an event of the stream")
        if completion.error is not None or name == b"error":
            raise InvalidAnswer(f"the stream carried an error event: {said(completion.error)}")
        if not completion.choices:
            usage = _usage(completion.usage)
            return Piece(usage=usage) if usage else None
        choice = completion.choices[0]
        stop = _STOP.get(choice.finish_reason or "")
        return _piece(choice.delta, stop, completion, calls=_deltas(choice.delta, is_whole=False))


def _message(turn: Message) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if not isinstance(turn.content, str):
        message["content"] = [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {"type": "image_url", "image_url": given(url=part.url, detail=part.detail)}
            for part in turn.content
        ]
    if turn.role == "tool":
        message["tool_call_id"] = turn.tool_call_id
    if turn.tool_calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
    return message


def _tool(tool: Tool) -> dict[str, Any]:
    function = given(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return {"type": "function", "function": function}


def _choice(choice: str | NamedTool | None) -> Any:
    return {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedTool) else choice


def _format(form: JsonFormat) -> dict[str, Any]:
    if form.schema is None:
        return {"type": "json_object"}
    schema = given(name=form.name, description=form.description, schema=form.schema, strict=form.strict)
    return {"type": "json_schema", "json_schema": schema}


def _piece(
    answer: _Said, stop: StopReason | None, completion: _Completion, *, calls: tuple[ToolCallDelta, ...]
) -> Piece:
    return Piece(
        text=answer.content or "",
        tool_calls=calls,
        refusal=answer.refusal or "",
        stop_reason=stop,
        usage=_usage(completion.usage),
        model=named(completion.model),
    )


def _deltas(answer: _Said, *, is_whole: bool) -> tuple[ToolCallDelta, ...]:
    if not answer.tool_calls:
        return ()
    return tuple(
        ToolCallDelta(
            index=None if is_whole else call.index,
            id=call.id,
            name=call.function.name,
            arguments=call.function.arguments or "",
        )
        for call in answer.tool_calls
    )


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    details = usage.prompt_tokens_details or _PromptDetails()
    return Usage(
        prompt_tokens=counted(usage.prompt_tokens),
        completion_tokens=counted(usage.completion_tokens),
        cached_tokens=counted(details.cached_tokens),
        written_tokens=counted(details.cache_write_tokens),
    )

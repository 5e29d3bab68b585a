"""
Messages, tools and response formats of OpenAI's requests: how they are written, and what they mean. Pure.

Every complaint is a RequestError that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from router.errors import RequestError
from router.models import ImagePart, JsonFormat, Message, NamedTool, TextPart, Tool, ToolCall

__all__ = ["ChosenTool", "OfferedTool", "ResponseFormat", "Turn", "message_of", "structure_of"]


class _ImageUrl(msgspec.Struct):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _ImageUrl | None = None


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _CalledFunction


class Turn(msgspec.Struct):
    """One message as OpenAI writes it."""

    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(msgspec.Struct):
    """One of `tools`."""

    type: str
    function: _Function | None = None


class _ChosenFunction(msgspec.Struct):
    name: str


class ChosenTool(msgspec.Struct):
    """A `tool_choice` that names a tool."""

    type: str
    function: _ChosenFunction | None = None


class _JsonSchema(msgspec.Struct):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


_Role = Literal["system", "user", "assistant", "tool"]
_ROLES: dict[str, _Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE = re.compile(r"https?://[^\s]+|data:image/[a-z.+-]+;base64,[A-Za-z0-9+/]+={0,2}")


def message_of(n: int, turn: Turn) -> Message:
    """Return the `n`-th message as the router takes it; plain text quickly. Raises RequestError."""
    role = _ROLES.get(turn.role)
    if role is None:
        raise RequestError(f"messages[{n}].role is {turn.role!r}; known are {', '.join(_ROLES)}")
    if isinstance(turn.content, str) and role != "tool" and not turn.tool_calls:
        return Message(role=role, content=turn.content)
    content = turn.content
    if isinstance(content, list):
        content = _parts(f"messages[{n}]", role, content)
    if content is None:
        if turn.refusal is None and not turn.tool_calls:
            raise RequestError(f"messages[{n}].content is missing")
        content = turn.refusal or ""
    if role == "tool" and not turn.tool_call_id:
        raise RequestError(f"messages[{n}].tool_call_id is missing; name the tool call that this answers")
    if turn.tool_calls and role != "assistant":
        raise RequestError(f"messages[{n}].tool_calls: only the assistant calls tools")
    calls = [
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in turn.tool_calls or ()
    ]
    return Message(role=role, content=content, tool_calls=tuple(calls), tool_call_id=turn.tool_call_id or "")


def _parts(where: str, role: _Role, parts: list[_Part]) -> str | tuple[TextPart | ImagePart, ...]:
    """Return a content in parts; as one text where there is nothing else in it."""
    found: list[TextPart | ImagePart] = []
    for n, part in enumerate(parts):
        if part.type == "image_url" and role == "user":
            if part.image_url is None or not _IMAGE.fullmatch(part.image_url.url):
                raise RequestError(
                    f"{where}.content[{n}].image_url.url is no URL; send https://… or data:image/…;base64,…"
                )
            found.append(ImagePart(part.image_url.url, part.image_url.detail))
        elif part.type in ("text", "refusal"):
            text = part.text if part.type == "text" else part.refusal
            if text is None:
                raise RequestError(f"{where}.content[{n}].{part.type} is missing")
            found.append(TextPart(text))
        else:
            taken = "text and image_url" if role == "user" else "text"
            raise RequestError(
                f"{where}.content[{n}] is of type {part.type!r}; this gateway takes {taken} of the {role}"
            )
    if any(isinstance(part, ImagePart) for part in found):
        return tuple(found)
    return "".join(part.text for part in found if isinstance(part, TextPart))


def structure_of(
    turns: Sequence[Turn],
    tools: Sequence[OfferedTool] | None,
    choice: Literal["none", "auto", "required"] | ChosenTool | None,
    form: ResponseFormat | None,
) -> dict[str, Any]:
    """Return the fields of a Request beyond text and numbers; nothing, quickly, for most. Raises RequestError."""
    found: dict[str, Any] = {}
    if tools or choice is not None:
        offered = tuple(_tool(n, tool) for n, tool in enumerate(tools or ()))
        found = {"tools": offered, "tool_choice": _choice(choice, {tool.name for tool in offered})}
    for turn in turns:
        if turn.tool_calls or turn.role == "tool":
            _check_results(turns)
            break
    if form is not None and form.type != "text":
        found["json_format"] = _format(form)
    return found


def _format(form: ResponseFormat) -> JsonFormat:
    if form.type == "json_object":
        return JsonFormat()
    schema = form.json_schema
    if schema is None or schema.schema is None:
        raise RequestError("response_format.json_schema.schema is missing")
    return JsonFormat(schema=schema.schema, name=schema.name, description=schema.description, strict=schema.strict)


def _tool(n: int, tool: OfferedTool) -> Tool:
    if tool.type != "function" or tool.function is None:
        raise RequestError(f"tools[{n}] is of type {tool.type!r}; this gateway takes type 'function' with its function")
    function = tool.function
    if not _TOOL_NAME.fullmatch(function.name):
        raise RequestError(f"tools[{n}].function.name is {function.name!r}; it takes 1 to 64 of A-Z, a-z, 0-9, _ and -")
    return Tool(
        name=function.name,
        description=function.description,
        parameters=function.parameters,
        strict=function.strict,
    )


def _choice(
    choice: Literal["none", "auto", "required"] | ChosenTool | None, known: set[str]
) -> Literal["none", "auto", "required"] | NamedTool | None:
    if isinstance(choice, ChosenTool):
        if choice.function is None or choice.function.name not in known:
            raise RequestError("tool_choice names no function that is in tools")
        return NamedTool(choice.function.name)
    if choice == "required" and not known:
        raise RequestError("tool_choice is 'required', but tools is empty")
    return choice


def _check_results(turns: Sequence[Turn]) -> None:
    """Raise RequestError unless every tool call is answered right after it, and every answer has its call."""
    waiting: dict[str, int] = {}
    for n, turn in enumerate(turns):
        if turn.role == "tool":
            if waiting.pop(turn.tool_call_id or "", None) is None:
                raise RequestError(f"messages[{n}].tool_call_id answers no tool call right before it")
            continue
        if waiting:
            break
        waiting = {call.id: n for call in turn.tool_calls or ()}
    for call_id, n in waiting.items():
        raise RequestError(f"messages[{n}].tool_calls: {call_id!r} has no message of the role tool right after it")

"""
What a healthy provider says where a text will not do: tool calls, and JSON that fits a schema. Pure.

The emulated model calls the tools whose names stand in the prompt, and where it must call one and none does, the first.
To the results of tools it answers with a text. Every string in its JSON is `provider:answer id`, so that it can be seen
who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from seawall.emulators.wire import CallPart, EmulatedCall, OfferedTool, Token

__all__ = ["sample", "structured_tokens"]

_PIECE = 8
"""Characters of JSON in one token."""
_DEPTH_MAX = 16


def structured_tokens(call: EmulatedCall, *, whole_calls: bool) -> tuple[Token, ...]:
    """Return the tokens of an answer that is no text of known tokens: tool calls or JSON; none for all others."""
    called = _called(call)
    if called:
        return tuple(part for n, tool in enumerate(called) for part in _parts(call, n, tool, whole=whole_calls))
    if call.json_schema is None:
        return ()
    text = _json(call, call.json_schema or {"type": "object", "properties": {"answer": {"type": "string"}}})
    return tuple(_pieces(text))


def sample(schema: Any, text: str) -> Any:
    """Return a value that fits a JSON Schema, as far as function parameters use it; its strings are `text`."""
    return _sample(schema, text, schema, 0)


def _called(call: EmulatedCall) -> tuple[OfferedTool, ...]:
    if not call.tools or call.tool_choice == "none" or call.has_results or call.prior_text:
        return ()
    if call.forced_tool is not None:
        return tuple(tool for tool in call.tools if tool.name == call.forced_tool)[:1]
    named = tuple(tool for tool in call.tools if tool.name in call.prompt)
    if not named and call.tool_choice == "required":
        named = call.tools[:1]
    return named[:1] if call.one_tool_call else named


def _parts(call: EmulatedCall, n: int, tool: OfferedTool, *, whole: bool) -> Iterator[CallPart]:
    arguments = _json(call, tool.schema or {"type": "object"})
    if whole:
        yield CallPart(n=n, name=tool.name, arguments=arguments, first=True)
        return
    yield CallPart(n=n, name=tool.name, arguments="", first=True)
    for piece in _pieces(arguments):
        yield CallPart(n=n, name=tool.name, arguments=piece)


def _json(call: EmulatedCall, schema: Any) -> str:
    return msgspec.json.encode(sample(schema, f"{call.provider}:{call.answer_id}")).decode()


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _sample(schema: Any, text: str, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return None
    form = cast("dict[str, Any]", schema)
    if "$ref" in form:
        return _sample(_resolved(str(form["$ref"]), root), text, root, depth + 1)
    found = next((form[name] for name in ("const", "default") if name in form), None)
    if found is not None or form.get("enum"):
        return found if found is not None else form["enum"][0]
    options = form.get("anyOf") or form.get("oneOf") or form.get("allOf")
    return _sample(options[0], text, root, depth + 1) if options else _of_type(form, text, root, depth)


def _of_type(form: dict[str, Any], text: str, root: Any, depth: int) -> Any:
    kinds = form.get("type")
    kind = cast("list[str]", kinds)[0] if isinstance(kinds, list) and kinds else str(cast("object", kinds))
    kind = kind.lower()  # Google's own schemas write STRING
    if kind == "array":
        return [_sample(form.get("items", {"type": "string"}), text, root, depth + 1)]
    plain = {"string": text, "integer": form.get("minimum", 7), "number": form.get("minimum", 7), "boolean": True}
    if kind in plain or kind == "null":
        return plain.get(kind)
    properties: dict[str, Any] = form.get("properties") or {}
    return {name: _sample(each, text, root, depth + 1) for name, each in properties.items()}


def _resolved(pointer: str, root: Any) -> Any:
    found: Any = root
    for name in pointer.removeprefix("#/").split("/"):
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    return found

"""What the gateway's API documentation says in JSON Schema: requests as `wire.ChatRequest` reads them, and answers."""

from __future__ import annotations

from typing import Any

from seawall.gateway.wire import DEFAULT_MODEL

__all__ = ["CHAT_ANSWERS", "CHAT_SCHEMA", "answers"]

_TOKENS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_PENALTY: dict[str, Any] = {"type": "number", "minimum": -2, "maximum": 2}
_FUNCTION: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "description": {"type": "string"},
        "parameters": {"type": "object", "description": "A JSON Schema of an object"},
        "strict": {"type": "boolean"},
    },
}
_PART: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["text", "image_url"]},
        "text": {"type": "string"},
        "image_url": {
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "description": "http(s)://… or data:image/…;base64,…"},
                "detail": {"enum": ["auto", "low", "high"]},
            },
        },
    },
}
_CALL: dict[str, Any] = {
    "type": "object",
    "required": ["id", "function"],
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {"name": {"type": "string"}, "arguments": {"type": "string", "description": "JSON"}},
        },
    },
}
_TURN: dict[str, Any] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]},
        "tool_calls": {"type": "array", "items": _CALL},
        "tool_call_id": {"type": "string"},
        "refusal": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
_NAMED_TOOL: dict[str, Any] = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {
        "type": {"const": "function"},
        "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    },
}
_JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "schema"],
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "schema": {"type": "object"},
        "strict": {"type": "boolean"},
    },
}
CHAT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": "string", "default": DEFAULT_MODEL},
        "messages": {"type": "array", "minItems": 1, "items": _TURN},
        "stream": {"type": "boolean", "default": False},
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean", "default": False}}},
        "max_tokens": _TOKENS,
        "max_completion_tokens": _TOKENS,
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 1},
        "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "seed": {"type": "integer"},
        "presence_penalty": _PENALTY,
        "frequency_penalty": _PENALTY,
        "user": {"type": "string"},
        "tools": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "function"],
                "properties": {"type": {"const": "function"}, "function": _FUNCTION},
            },
        },
        "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, _NAMED_TOOL]},
        "parallel_tool_calls": {"type": "boolean"},
        "response_format": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}, "json_schema": _JSON_SCHEMA},
        },
        "n": {"const": 1},
    },
}

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_NULL_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_ERROR = _object(error=_object(message=_TEXT, type=_TEXT, param={"type": "null"}, code=_TEXT))
_COMPLETION = _object(
    id=_TEXT,
    object={"const": "chat.completion"},
    created=_COUNT,
    model=_TEXT,
    choices={
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": _object(
            index={"const": 0},
            message=_object(role={"const": "assistant"}, content=_NULL_TEXT, refusal=_NULL_TEXT),
            logprobs={"type": "null"},
            finish_reason={"enum": ["stop", "length", "tool_calls", "content_filter"]},
        ),
    },
    usage=_object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT),
)
_MODEL = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
_GOOD: dict[str, dict[str, Any]] = {
    "state": _object(status=_TEXT),
    "models": _object(object={"const": "list"}, data={"type": "array", "items": _MODEL}),
    "status": _object(providers={"type": "object"}, spent_usd={"type": "number"}),
}
_REASONS = {
    400: "The request cannot be served as it is; no other provider would take it",
    401: "The API key is missing or wrong",
    402: "The spend limit of the day is reached",
    403: "The air gap forbids it, or this client may not call",
    408: "The request was not whole in time",
    413: "The body is too long",
    422: "The provider cannot work with the request",
    431: "The head of the request is too long",
    502: "The provider's answer cannot be used",
    503: "Every provider is down or resting, the budget's store is away, or the gateway is full or stopping",
    504: "No provider answered in time",
}


def answers(name: str, *refusals: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a small route for the documentation: the good one by its name, and the errors."""
    good: dict[str, Any] = {"description": "It is so", "content": {"application/json": {"schema": _GOOD[name]}}}
    return {200: good, **{status: _refusal(status) for status in refusals}}


def _refusal(status: int) -> dict[str, Any]:
    return {"description": _REASONS[status], "content": {"application/json": {"schema": _ERROR}}}


CHAT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream` as server-sent events, the last of which is `data: [DONE]`",
        "content": {"application/json": {"schema": _COMPLETION}, "text/event-stream": {"schema": _object(data=_TEXT)}},
    },
    **{status: _refusal(status) for status in _REASONS},
}

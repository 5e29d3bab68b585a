"""Ollama's chat, as its API writes it: one JSON object a line by default, or a single one with `stream: false`."""

from __future__ import annotations

from typing import Any

import msgspec

from seawall.emulators.wire import (
    Answer,
    CallPart,
    EmulatedCall,
    HttpRequest,
    Message,
    OfferedTool,
    Reply,
    Token,
    call_of,
    is_base64,
    reply_json,
    retry_header,
)

__all__ = [
    "OTHER_MODEL",
    "PROVIDER",
    "WHOLE_CALLS",
    "epilogue",
    "error",
    "event",
    "failure",
    "headers",
    "parse",
    "prologue",
    "whole",
]

PROVIDER: str = "local"
OTHER_MODEL: str = "tinyllama:latest"
WHOLE_CALLS: bool = True

_MODELS = ("llama3:latest", "llama3:8b", "mistral:latest", "llama3.2-vision:latest")
_TOOLLESS = ("llama3", "llama2", "tinyllama")
_CREATED_AT = "2025-01-01T00:00:00Z"
_VERSION = "0.12.0"
_GETS = ("/", "/api/tags", "/api/version")
_ERRORS = {
    404: "model not found, try pulling it first",
    413: "http: request body too large",
    429: "too many requests",
    503: "server busy, please try again.  maximum pending requests exceeded",
}


class _Options(msgspec.Struct):
    num_predict: int | None = None


class _Turn(msgspec.Struct):
    role: str = ""
    content: str | None = None
    images: list[str] | None = None


class _Function(msgspec.Struct):
    name: str = ""
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _ChatRequest(msgspec.Struct):
    model: str = ""
    messages: list[_Turn] = []
    stream: bool | None = None
    options: _Options | None = None
    tools: list[_Tool] | None = None
    format: str | dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_ChatRequest).decode


def parse(request: HttpRequest) -> EmulatedCall | Reply:
    """Return the call, or what Ollama tells of itself, or its error. Ollama asks for no key."""
    match request.method, request.path:
        case ("GET", "/"):
            return Reply(status=200, body=b"Ollama is running", headers=(("content-type", "text/plain"),))
        case ("GET", "/api/version"):
            return reply_json(200, {"version": _VERSION})
        case ("GET", "/api/tags"):
            return reply_json(200, {"models": [_tag(name) for name in _MODELS]})
        case ("POST", "/api/chat"):
            return _parse_body(request)
        case (_, path) if path == "/api/chat" or path in _GETS:
            return error(405, "405 method not allowed")
        case _:
            return error(404, "404 page not found")


def _parse_body(request: HttpRequest) -> EmulatedCall | Reply:
    try:
        body = _decode(request.body)
    except msgspec.DecodeError as problem:
        return error(400, f"invalid JSON: {problem}")
    if not body.model:
        return error(400, "model is required")
    if not body.messages:
        return error(400, "messages are required")
    images = [image for turn in body.messages for image in turn.images or ()]
    if not all(is_base64(image) for image in images):
        return error(400, "illegal base64 data at input byte 0")
    if body.tools and body.model.partition(":")[0] in _TOOLLESS:
        return error(400, f"registry.ollama.ai/library/{body.model} does not support tools")
    limit = body.options.num_predict if body.options else None
    more: dict[str, Any] = {
        "tools": tuple(
            OfferedTool(name=tool.function.name, schema=tool.function.parameters) for tool in body.tools or ()
        )
    }
    if body.format:
        more["json_schema"] = body.format if isinstance(body.format, dict) else {}
    return call_of(
        PROVIDER,
        [Message(role=turn.role, content=turn.content) for turn in body.messages],
        model=body.model,
        stream=body.stream is not False,
        # Ollama's -1 and -2 mean "as long as it takes".
        max_tokens=limit if limit is not None and limit > 0 else None,
        images=len(images),
        more=more,
    )


def error(status: int, message: str | None = None, retry_after_s: float | None = None) -> Reply:
    """Return Ollama's error with this HTTP status."""
    default = _ERRORS.get(status, "an error was encountered while running the model")
    return reply_json(status, {"error": message or default}, retry_header(retry_after_s))


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer."""
    return (("content-type", "application/x-ndjson" if answer.call.stream else "application/json; charset=utf-8"),)


def whole(answer: Answer) -> bytes:
    """Return the body of the JSON answer."""
    return msgspec.json.encode({**_message(answer, answer.text, *answer.calls), **_done(answer)})


def prologue(answer: Answer) -> bytes:
    """Return nothing: the first line is the first token's."""
    return b""


def event(answer: Answer, token: Token) -> bytes:
    """Return the line of one token."""
    message = _message(answer, token) if isinstance(token, str) else _message(answer, "", token)
    return msgspec.json.encode({**message, "done": False}) + b"\n"


def epilogue(answer: Answer) -> bytes:
    """Return the line with `done`, its reason, and the counts."""
    return msgspec.json.encode({**_message(answer, ""), **_done(answer)}) + b"\n"


def failure() -> bytes:
    """Return the line with the error of a model that broke down."""
    return error(500).body + b"\n"


def _message(answer: Answer, text: str, *calls: CallPart) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": msgspec.Raw(call.arguments.encode())}} for call in calls
        ]
    return {"model": answer.model, "created_at": _CREATED_AT, "message": message}


def _done(answer: Answer) -> dict[str, Any]:
    total_ns = round(answer.duration_s * 1e9)
    done: dict[str, Any] = {
        # Ollama has no filter of its own; a server that speaks its API and has one says `content_filter`.
        "done_reason": "stop" if answer.finish == "tool_calls" else answer.finish,
        "done": True,
        "total_duration": total_ns,
        "load_duration": 0,
        "prompt_eval_duration": 0,
        "eval_duration": total_ns,
    }
    if answer.usage is not None:
        done |= {"prompt_eval_count": answer.usage[0], "eval_count": answer.usage[1]}
    return done


def _tag(name: str) -> dict[str, Any]:
    family = name.partition(":")[0]
    return {
        "name": name,
        "model": name,
        "modified_at": _CREATED_AT,
        "size": 1,
        "digest": "0" * 64,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": "8B",
            "quantization_level": "Q4_0",
        },
    }

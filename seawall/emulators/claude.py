"""Anthropic's messages, as its API writes them: JSON, and named server-sent events up to `message_stop`."""

from __future__ import annotations

from typing import Any

import msgspec

from seawall.emulators.wire import (
    Answer,
    EmulatedCall,
    HttpRequest,
    Message,
    Part,
    Reply,
    call_of,
    reply_json,
    retry_header,
    server_sent_event,
    text_of,
)

__all__ = ["OTHER_MODEL", "PROVIDER", "epilogue", "error", "event", "failure", "headers", "parse", "prologue", "whole"]

PROVIDER: str = "claude"
OTHER_MODEL: str = "claude-3-haiku-20240307"

_PATHS = {"/v1/messages": "POST", "/v1/models": "GET"}
_MODELS = ("claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5")
_STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    408: ("timeout_error", "The request timed out."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


class _MessagesRequest(msgspec.Struct):
    model: str = ""
    messages: list[Message] = []
    system: str | list[Part] | None = None
    max_tokens: int | None = None
    stream: bool | None = None


_decode = msgspec.json.Decoder(_MessagesRequest).decode


def parse(request: HttpRequest) -> EmulatedCall | Reply:
    """Return the call, or the list of models, or the error that Anthropic would give."""
    refusal = _unknown(request) or _keyless(request)
    if refusal is not None:
        return refusal
    if request.method == "GET":
        return _models()
    try:
        body = _decode(request.body)
    except msgspec.DecodeError as problem:
        return error(400, f"The request body is not valid JSON: {problem}")
    required = {"model": body.model, "messages": body.messages, "max_tokens": body.max_tokens}
    missing = [name for name, value in required.items() if value is None or value in ("", [])]
    if missing:
        return error(400, f"{missing[0]}: Field required")
    few = body.max_tokens is not None and body.max_tokens < 1
    illegal = "max_tokens: Input should be greater than or equal to 1" if few else _illegal(body.messages)
    if illegal is not None:
        return error(400, illegal)
    system = [Message(role="system", content=body.system)] if body.system else []
    return call_of(
        PROVIDER,
        [*system, *body.messages],
        model=body.model,
        stream=bool(body.stream),
        max_tokens=body.max_tokens,
    )


def _illegal(messages: list[Message]) -> str | None:
    """Return why Anthropic refuses this conversation, in its words, or None."""
    last = len(messages) - 1
    for n, message in enumerate(messages):
        text = text_of(message.content)
        if message.role not in ("user", "assistant"):
            return f"messages.{n}.role: Input should be 'user' or 'assistant'"
        if message.role == "assistant" and n == last:
            if text != text.rstrip():
                return "messages: final assistant content cannot end with trailing whitespace"
        elif not text:
            return f"messages.{n}: all messages must have non-empty content except for the optional final assistant one"
        elif not text.strip():
            return "messages: text content blocks must contain non-whitespace text"
    return None


def _unknown(request: HttpRequest) -> Reply | None:
    method = _PATHS.get(request.path)
    if method is None:
        return error(404, f"Not found: {request.path}")
    return None if request.method == method else error(405, "Method Not Allowed")


def _keyless(request: HttpRequest) -> Reply | None:
    # The SDK sends the key as a bearer token since 2.0, earlier ones and the API's own examples in x-api-key.
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not request.headers.get("x-api-key", "").strip() and not (scheme.lower() == "bearer" and token.strip()):
        return error(401, "x-api-key header is required")
    if not request.headers.get("anthropic-version", "").strip():
        return error(400, "anthropic-version: header is required")
    return None


def _models() -> Reply:
    models = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"} for name in _MODELS
    ]
    return reply_json(200, {"data": models, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]})


def error(status: int, message: str | None = None, retry_after_s: float | None = None) -> Reply:
    """Return Anthropic's error with this HTTP status."""
    fallback = ("api_error", "Internal server error") if status >= 500 else ("invalid_request_error", "Bad request")
    kind, default = _ERRORS.get(status, fallback)
    content = {"type": "error", "error": {"type": kind, "message": message or default}, "request_id": "req_emulated"}
    return reply_json(status, content, (("request-id", "req_emulated"), *retry_header(retry_after_s)))


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer."""
    content_type = "text/event-stream; charset=utf-8" if answer.call.stream else "application/json"
    return (("content-type", content_type), ("request-id", f"req_{answer.id}"))


def whole(answer: Answer) -> bytes:
    """Return the body of the JSON answer."""
    content = [{"type": "text", "text": answer.text}]
    return msgspec.json.encode(_message(answer, content, _STOP[answer.finish], answer.usage))


def prologue(answer: Answer) -> bytes:
    """Return `message_start`, `content_block_start` and `ping`."""
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return (
        # One output token before there is any text: so tells the real one.
        _event({"type": "message_start", "message": _message(answer, [], None, answer.usage and (answer.usage[0], 1))})
        + _event(block)
        + _event({"type": "ping"})
    )


def event(answer: Answer, token: str) -> bytes:
    """Return the `content_block_delta` of one token."""
    return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}})


def epilogue(answer: Answer) -> bytes:
    """Return `content_block_stop`, `message_delta` with stop reason and usage, and `message_stop`."""
    delta: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOP[answer.finish], "stop_sequence": None},
    }
    if answer.usage is not None:
        delta["usage"] = {"input_tokens": answer.usage[0], "output_tokens": answer.usage[1]}
    return _event({"type": "content_block_stop", "index": 0}) + _event(delta) + _event({"type": "message_stop"})


def failure() -> bytes:
    """Return the `error` event that says `overloaded_error`."""
    return b"event: error\ndata: " + error(529).body + b"\n\n"


def _message(
    answer: Answer, content: list[dict[str, str]], stop_reason: str | None, usage: tuple[int, int] | None
) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }
    if usage is not None:
        message["usage"] = {
            "input_tokens": usage[0],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage[1],
        }
    return message


def _event(content: dict[str, Any]) -> bytes:
    return server_sent_event(content, content["type"])

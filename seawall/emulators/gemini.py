"""Gemini's generateContent, as its API writes it: JSON, and server-sent events with `alt=sse`."""

from __future__ import annotations

import re
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
)

__all__ = ["OTHER_MODEL", "PROVIDER", "epilogue", "error", "event", "failure", "headers", "parse", "prologue", "whole"]

PROVIDER: str = "gemini"
OTHER_MODEL: str = "gemini-1.5-flash-002"

# The API has two versions; the SDK speaks v1 since 3.0 and spoke v1beta before.
_PATH = re.compile(r"/v1(?:beta)?/models(?:/(.*):(generateContent|streamGenerateContent))?")
_MODELS = ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.0-flash")
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_ERRORS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request is missing required authentication credential."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    408: ("CANCELLED", "The request timed out."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}


class _Content(msgspec.Struct):
    role: str = "user"
    parts: list[Part] = []


class _GenerationConfig(msgspec.Struct, rename="camel"):
    max_output_tokens: int | None = None


class _GenerateRequest(msgspec.Struct, rename="camel"):
    contents: list[_Content] = []
    system_instruction: _Content | None = None
    generation_config: _GenerationConfig | None = None


_decode = msgspec.json.Decoder(_GenerateRequest).decode


def parse(request: HttpRequest) -> EmulatedCall | Reply:
    """Return the call, or the list of models, or the error that Gemini would give."""
    found = _PATH.fullmatch(request.path)
    if found is None:
        return error(404, f"The requested URL {request.path} was not found on this server.")
    model, method = found.groups()
    refusal = _wrong_method(request, "GET" if method is None else "POST") or _keyless(request)
    if refusal is not None:
        return refusal
    if method is None:
        return _models()
    if not model or "/" in model:
        return error(400, f"{model!r} is not the name of a model.")
    stream = method == "streamGenerateContent"
    if stream and request.query.get("alt") != "sse":
        return error(400, "This server streams with ?alt=sse only.")
    return _parse_body(request, model, stream=stream)


def _models() -> Reply:
    models = [
        {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": ["generateContent"]}
        for name in _MODELS
    ]
    return reply_json(200, {"models": models})


def _wrong_method(request: HttpRequest, expected: str) -> Reply | None:
    if request.method == expected:
        return None
    return error(405, f"{request.method} is not allowed on {request.path}.")


def _keyless(request: HttpRequest) -> Reply | None:
    key = request.headers.get("x-goog-api-key", "") or request.query.get("key", "")
    return None if key.strip() else error(401)


def _parse_body(request: HttpRequest, model: str, *, stream: bool) -> EmulatedCall | Reply:
    try:
        body = _decode(request.body)
    except msgspec.DecodeError as problem:
        return error(400, f"Invalid JSON payload received. {problem}")
    limit = body.generation_config.max_output_tokens if body.generation_config else None
    if not body.contents:
        return error(400, "* GenerateContentRequest.contents: contents is not specified")
    if limit is not None and limit < 1:
        return error(400, f"max_output_tokens must be positive, not {limit}.")
    for n, content in enumerate(body.contents):
        if content.role not in ("user", "model"):
            return error(400, "Please use a valid role: user, model.")
        if not any(part.text for part in content.parts):
            return error(400, f"* GenerateContentRequest.contents[{n}].parts: contents.parts must not be empty.")
    messages = [
        Message(role="assistant" if content.role == "model" else content.role, content=content.parts)
        for content in body.contents
    ]
    if body.system_instruction is not None:
        messages.insert(0, Message(role="system", content=body.system_instruction.parts))
    return call_of(PROVIDER, messages, model=model, stream=stream, max_tokens=limit)


def error(status: int, message: str | None = None, retry_after_s: float | None = None) -> Reply:
    """Return Google's error with this HTTP status; a pause is told in the header and in the details."""
    fallback = (
        ("INTERNAL", "An internal error has occurred.") if status >= 500 else ("INVALID_ARGUMENT", "Bad request.")
    )
    name, default = _ERRORS.get(status, fallback)
    content: dict[str, Any] = {"code": status, "message": message or default, "status": name}
    if retry_after_s is not None:
        content["details"] = [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after_s:g}s"}
        ]
    return reply_json(status, {"error": content}, retry_header(retry_after_s))


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer."""
    return (("content-type", "text/event-stream" if answer.call.stream else "application/json; charset=UTF-8"),)


def whole(answer: Answer) -> bytes:
    """Return the body of the JSON answer."""
    return msgspec.json.encode(_content(answer, answer.text, finish=True))


def prologue(answer: Answer) -> bytes:
    """Return nothing: the first event is the first token's."""
    return b""


def event(answer: Answer, token: str) -> bytes:
    """Return the event of one token."""
    return server_sent_event(_content(answer, token, finish=False))


def epilogue(answer: Answer) -> bytes:
    """Return the event with finish reason and usage; the stream ends with the body, without a mark of its own."""
    return server_sent_event(_content(answer, "", finish=True))


def failure() -> bytes:
    """Return Google's error in place of a response, without an event name."""
    return b"data: " + error(503).body + b"\n\n"


def _content(answer: Answer, text: str, *, finish: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    content: dict[str, Any] = {"candidates": [candidate]}
    if finish:
        candidate["finishReason"] = _FINISH[answer.finish]
    if finish and answer.usage is not None:
        prompt, completion = answer.usage
        content["usageMetadata"] = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": completion,
            "totalTokenCount": prompt + completion,
        }
    return {**content, "modelVersion": answer.model, "responseId": answer.id}

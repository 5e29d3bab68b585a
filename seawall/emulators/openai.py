"""OpenAI's chat completions, as its API writes them: JSON, and server-sent events that end in `[DONE]`."""

from __future__ import annotations

from typing import Any

import msgspec

from seawall.emulators.wire import (
    EPOCH,
    Answer,
    EmulatedCall,
    HttpRequest,
    Message,
    Reply,
    call_of,
    reply_json,
    retry_header,
    server_sent_event,
)

__all__ = ["OTHER_MODEL", "PROVIDER", "epilogue", "error", "event", "failure", "headers", "parse", "prologue", "whole"]

PROVIDER: str = "openai"
OTHER_MODEL: str = "gpt-3.5-turbo-0125"

_PATHS = {"/v1/chat/completions": "POST", "/v1/models": "GET"}
_MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo")
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "This key may not do that."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    408: ("server_error", None, "The request timed out."),
    413: ("invalid_request_error", "request_too_large", "The request is larger than this server takes."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _ChatRequest(msgspec.Struct):
    model: str = ""
    messages: list[Message] = []
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_decode = msgspec.json.Decoder(_ChatRequest).decode


def parse(request: HttpRequest) -> EmulatedCall | Reply:
    """Return the call, or the list of models, or the error that OpenAI would give."""
    refusal = _unknown(request) or _keyless(request)
    if refusal is not None:
        return refusal
    if request.method == "GET":
        models = [{"id": name, "object": "model", "created": EPOCH, "owned_by": "emulator"} for name in _MODELS]
        return reply_json(200, {"object": "list", "data": models})
    try:
        body = _decode(request.body)
    except msgspec.DecodeError as cause:
        return error(400, f"We could not parse the JSON body of your request: {cause}")
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    problem = _missing(body, limit)
    if problem is not None:
        return error(400, problem)
    return call_of(
        PROVIDER,
        body.messages,
        model=body.model,
        stream=bool(body.stream),
        max_tokens=limit,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )


def _missing(body: _ChatRequest, limit: int | None) -> str | None:
    if not body.model:
        return "you must provide a model parameter"
    if not body.messages:
        return "Missing required parameter: 'messages'."
    if limit is not None and limit < 1:
        return f"Invalid 'max_tokens': {limit} is below the minimum value of 1."
    return None


def _unknown(request: HttpRequest) -> Reply | None:
    method = _PATHS.get(request.path)
    if method is None:
        message = f"Invalid URL ({request.method} {request.path})"
        return _failure(404, "invalid_request_error", "unknown_url", message)
    return None if request.method == method else error(405, f"Not allowed to {request.method} on {request.path}.")


def _keyless(request: HttpRequest) -> Reply | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return None
    return error(401, "You didn't provide an API key. Provide it in an Authorization header using Bearer auth.")


def error(status: int, message: str | None = None, retry_after_s: float | None = None) -> Reply:
    """Return OpenAI's error with this HTTP status."""
    fallback = ("server_error" if status >= 500 else "invalid_request_error", None, "The server had an error.")
    kind, code, default = _ERRORS.get(status, fallback)
    return _failure(status, kind, code, message or default, retry_after_s)


def _failure(status: int, kind: str, code: str | None, message: str, retry_after_s: float | None = None) -> Reply:
    content = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return reply_json(status, content, retry_header(retry_after_s))


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer."""
    content_type = "text/event-stream; charset=utf-8" if answer.call.stream else "application/json"
    return (("content-type", content_type), ("x-request-id", f"req_{answer.id}"))


def whole(answer: Answer) -> bytes:
    """Return the body of the JSON answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": None,
        "finish_reason": answer.finish,
    }
    return msgspec.json.encode(
        {**_frame(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)},
    )


def prologue(answer: Answer) -> bytes:
    """Return the chunk that names the role."""
    return _chunk(answer, {"role": "assistant", "content": ""})


def event(answer: Answer, token: str) -> bytes:
    """Return the chunk of one token."""
    return _chunk(answer, {"content": token})


def epilogue(answer: Answer) -> bytes:
    """Return the chunk with the finish reason, the usage when it was asked for, and `[DONE]`."""
    end = _chunk(answer, {}, answer.finish)
    if answer.call.include_usage and answer.usage is not None:
        end += server_sent_event({**_frame(answer, "chat.completion.chunk"), "choices": [], "usage": _usage(answer)})
    return end + b"data: [DONE]\n\n"


def failure() -> bytes:
    """Return an error in place of a chunk, as OpenAI's streams carry it: without an event name."""
    return b"data: " + error(500).body + b"\n\n"


def _frame(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.id}", "object": kind, "created": EPOCH, "model": answer.model}


def _usage(answer: Answer) -> dict[str, int] | None:
    if answer.usage is None:
        return None
    prompt, completion = answer.usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunk(answer: Answer, delta: dict[str, str], finish: str | None = None) -> bytes:
    content = _frame(answer, "chat.completion.chunk")
    content["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    if answer.call.include_usage:
        # Asked for usage, OpenAI names it in every chunk and fills it in the last.
        content["usage"] = None
    return server_sent_event(content)

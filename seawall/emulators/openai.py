"""OpenAI's chat completions, as its API writes them: JSON, and server-sent events that end in `[DONE]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from seawall.emulators.wire import (
    EPOCH,
    Answer,
    CallPart,
    EmulatedCall,
    HttpRequest,
    Message,
    OfferedTool,
    Part,
    Reply,
    Token,
    call_of,
    is_base64,
    reply_json,
    retry_header,
    server_sent_event,
    text_of,
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

PROVIDER: str = "openai"
OTHER_MODEL: str = "gpt-3.5-turbo-0125"
WHOLE_CALLS: bool = False

_PATHS = {"/v1/chat/completions": "POST", "/v1/models": "GET"}
_MODELS = ("gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna", "gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo")
_REASONS_ALWAYS = ("gpt-6.1-sol", "gpt-6-astra")
_REASONING = "gpt-6"
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


_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STOPS_MAX = 4
_EFFORTS = "'low', 'medium', 'high', and 'xhigh'"


class _Url(msgspec.Struct, frozen=True):
    url: str = ""


class _Part(Part, frozen=True, kw_only=True):
    type: str = "text"
    image_url: _Url = _Url()


class _Call(msgspec.Struct):
    id: str = ""


class _Turn(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str = ""


class _Function(msgspec.Struct):
    name: str = ""
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    type: str = ""
    function: _Function = msgspec.field(default_factory=_Function)


class _Schema(msgspec.Struct):
    name: str = ""
    schema: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _ChatRequest(msgspec.Struct):
    model: str = ""
    messages: list[_Turn] = []
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    stop: str | list[str] | None = None
    top_k: Any = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None


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
    problem = _missing(body, limit) or next(_unsound(body), None) or _unanswered(body.messages)
    if problem is not None:
        return error(400, problem)
    unfit = _unfit(body) if body.model.startswith(_REASONING) else None
    if unfit is not None:
        return unfit
    return call_of(
        PROVIDER,
        [Message(role=turn.role, content=_content(turn)) for turn in body.messages],
        model=body.model,
        stream=bool(body.stream),
        max_tokens=limit,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        images=sum(part.type == "image_url" for turn in body.messages for part in _parts(turn)),
        more=_structure(body),
    )


def _structure(body: _ChatRequest) -> dict[str, Any]:
    found: dict[str, Any] = {"one_tool_call": body.parallel_tool_calls is False}
    found["tools"] = tuple(
        OfferedTool(name=tool.function.name, schema=tool.function.parameters) for tool in body.tools or ()
    )
    if isinstance(body.tool_choice, dict):
        found["forced_tool"] = body.tool_choice.get("function", {}).get("name")
    elif body.tool_choice is not None:
        found["tool_choice"] = body.tool_choice
    if body.response_format is not None and body.response_format.type != "text":
        schema = body.response_format.json_schema
        found["json_schema"] = (schema.schema if schema is not None else None) or {}
    return found


def _unfit(body: _ChatRequest) -> Reply | None:
    """Return the error that OpenAI gives for what its reasoning models do not take, or None."""
    kind, value = "invalid_request_error", "unsupported_value"
    with_this_model = f"with this model. Supported values are: {_EFFORTS}."
    if body.reasoning_effort == "none":
        if not body.model.startswith(_REASONS_ALWAYS):
            return None
        words = f"Unsupported value: 'reasoning_effort' does not support 'none' {with_this_model}"
        return _failure(400, kind, value, words, param="reasoning_effort")
    for name, found in (("temperature", body.temperature), ("top_p", body.top_p)):
        if found not in (None, 1):
            words = (
                f"Unsupported value: '{name}' does not support {found:g} with this model. Only the default (1) value"
            )
            return _failure(400, kind, value, f"{words} is supported.", param=name)
    if body.tools:
        words = f"Function tools with reasoning_effort are not supported for {body.model} in /v1/chat/completions."
        more = "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
        return _failure(400, kind, None, f"{words} {more}", param="reasoning_effort")
    return None


def _missing(body: _ChatRequest, limit: int | None) -> str | None:
    if not body.model:
        return "you must provide a model parameter"
    if not body.messages:
        return "Missing required parameter: 'messages'."
    if limit is not None and limit < 1:
        return f"Invalid 'max_tokens': {limit} is below the minimum value of 1."
    return None


def _unsound(body: _ChatRequest) -> Iterator[str]:
    """Yield what OpenAI finds wrong with the parameters, in its words."""
    if body.top_k is not None:
        yield "Unrecognized request argument supplied: top_k"
    if body.temperature is not None and not 0 <= body.temperature <= 2:
        yield f"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got {body.temperature}."
    if isinstance(body.stop, list) and len(body.stop) > _STOPS_MAX:
        yield f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(body.stop)}."
    for n, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            yield f"Invalid value: '{tool.type}'. Supported values are: 'function' and 'custom'."
        if not _NAME.fullmatch(tool.function.name):
            yield f"Invalid 'tools[{n}].function.name': string does not match pattern '^[a-zA-Z0-9_-]+$'."
    if body.tool_choice is not None and not body.tools:
        yield "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
    form = body.response_format or _Format(type="text")
    said = " ".join(text_of(_content(turn)) for turn in body.messages)
    if form.type == "json_object" and "json" not in said.lower():
        yield "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    if form.type == "json_schema" and (form.json_schema is None or not form.json_schema.name):
        yield "Missing required parameter: 'response_format.json_schema.name'."
    for url in [part.image_url.url for turn in body.messages for part in _parts(turn) if part.type == "image_url"]:
        head, _, data = url.partition(";base64,")
        inline = head.startswith("data:image/") and is_base64(data)
        if not inline and not url.startswith(("https://", "http://")):
            yield "Invalid image URL: expected a base64-encoded data URL with an image MIME type, or a URL."


def _content(turn: _Turn) -> str | list[Part] | None:
    return [*turn.content] if isinstance(turn.content, list) else turn.content


def _unanswered(turns: list[_Turn]) -> str | None:
    """Return why OpenAI refuses this order of calls and results, in its words, or None."""
    open_calls: set[str] = set()
    for turn in turns:
        if turn.role == "tool":
            if turn.tool_call_id not in open_calls:
                return "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
            open_calls.discard(turn.tool_call_id)
        elif open_calls:
            break
        open_calls |= {call.id for call in turn.tool_calls or ()}
    if not open_calls:
        return None
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(sorted(open_calls))}"
    )


def _parts(turn: _Turn) -> list[_Part]:
    return turn.content if isinstance(turn.content, list) else []


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


def _failure(
    status: int,
    kind: str,
    code: str | None,
    message: str,
    retry_after_s: float | None = None,
    *,
    param: str | None = None,
) -> Reply:
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return reply_json(status, content, retry_header(retry_after_s))


def headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer."""
    content_type = "text/event-stream; charset=utf-8" if answer.call.stream else "application/json"
    return (("content-type", content_type), ("x-request-id", f"req_{answer.id}"))


def whole(answer: Answer) -> bytes:
    """Return the body of the JSON answer."""
    message: dict[str, Any] = {"role": "assistant", "content": None if answer.calls else answer.text, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": _id(answer, call), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish,
    }
    return msgspec.json.encode(
        {**_frame(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)},
    )


def prologue(answer: Answer) -> bytes:
    """Return the chunk that names the role."""
    return _chunk(answer, {"role": "assistant", "content": None if answer.calls else "", "refusal": None})


def event(answer: Answer, token: Token) -> bytes:
    """Return the chunk of one token."""
    if isinstance(token, str):
        return _chunk(answer, {"content": token})
    call: dict[str, Any] = {"index": token.n, "function": {"arguments": token.arguments}}
    if token.first:
        function = {"name": token.name, "arguments": token.arguments}
        call = {"index": token.n, "id": _id(answer, token), "type": "function", "function": function}
    return _chunk(answer, {"tool_calls": [call]})


def epilogue(answer: Answer) -> bytes:
    """Return the chunk with the finish reason, the usage when it was asked for, and `[DONE]`."""
    end = _chunk(answer, {}, answer.finish)
    if answer.call.include_usage and answer.usage is not None:
        end += server_sent_event({**_frame(answer, "chat.completion.chunk"), "choices": [], "usage": _usage(answer)})
    return end + b"data: [DONE]\n\n"


def failure() -> bytes:
    """Return an error in place of a chunk, as OpenAI's streams carry it: without an event name."""
    return b"data: " + error(500).body + b"\n\n"


def _id(answer: Answer, call: CallPart) -> str:
    return f"call_{answer.id}_{call.n}"


def _frame(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.id}", "object": kind, "created": EPOCH, "model": answer.model}


def _usage(answer: Answer) -> dict[str, Any] | None:
    if answer.usage is None:
        return None
    prompt, completion = answer.usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _chunk(answer: Answer, delta: dict[str, Any], finish: str | None = None) -> bytes:
    content = _frame(answer, "chat.completion.chunk")
    content["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    if answer.call.include_usage:
        # Asked for usage, OpenAI names it in every chunk and fills it in the last.
        content["usage"] = None
    return server_sent_event(content)

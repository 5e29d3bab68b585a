"""Anthropic's messages, as its API writes them: JSON, and named server-sent events up to `message_stop`."""

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

PROVIDER: str = "claude"
OTHER_MODEL: str = "claude-3-haiku-20240307"
WHOLE_CALLS: bool = False

_PATHS = {"/v1/messages": "POST", "/v1/models": "GET"}
_MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5")
_OWN_SAMPLING = ("claude-sonnet-5", "claude-haiku-5", "claude-opus-5")
_STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
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


class _Source(msgspec.Struct):
    type: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""


class _Block(Part, frozen=True, kw_only=True):
    type: str = "text"
    source: _Source | None = None
    id: str = ""
    tool_use_id: str = ""
    content: Any = None


class _Turn(msgspec.Struct):
    role: str = ""
    content: str | list[_Block] | None = None

    @property
    def blocks(self) -> list[_Block]:
        return self.content if isinstance(self.content, list) else []


class _Tool(msgspec.Struct):
    name: str = ""
    input_schema: dict[str, Any] | None = None


class _ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool = False


class _Format(msgspec.Struct):
    type: str
    schema: dict[str, Any]


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None


class _MessagesRequest(msgspec.Struct, forbid_unknown_fields=True):
    model: str = ""
    messages: list[_Turn] = []
    system: str | list[Part] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] = []
    tools: list[_Tool] = []
    tool_choice: _ToolChoice | None = None
    output_config: _OutputConfig | None = None
    # Known, and without a meaning here.
    top_k: Any = None
    thinking: Any = None
    metadata: Any = None
    service_tier: Any = None
    cache_control: Any = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    speed: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None


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
    illegal = illegal or (_unfit(body) if body.model.startswith(_OWN_SAMPLING) else None)
    illegal = illegal or _unsound(body) or _unanswered(body.messages)
    if illegal is not None:
        return error(400, illegal)
    system = [Message(role="system", content=body.system)] if body.system else []
    return call_of(
        PROVIDER,
        [*system, *(Message(role=_role(turn), content=_content(turn)) for turn in body.messages)],
        model=body.model,
        stream=bool(body.stream),
        max_tokens=body.max_tokens,
        images=sum(block.type == "image" for turn in body.messages for block in turn.blocks),
        more=_structure(body),
    )


def _role(turn: _Turn) -> str:
    return "tool" if any(block.type == "tool_result" for block in turn.blocks) else turn.role


def _content(turn: _Turn) -> str | list[Part] | None:
    return [*turn.content] if isinstance(turn.content, list) else turn.content


def _structure(body: _MessagesRequest) -> dict[str, Any]:
    choice = body.tool_choice or _ToolChoice(type="auto")
    found: dict[str, Any] = {
        "tools": tuple(OfferedTool(name=tool.name, schema=tool.input_schema) for tool in body.tools),
        "tool_choice": {"any": "required", "none": "none"}.get(choice.type, "auto"),
        "forced_tool": choice.name if choice.type == "tool" else None,
        "one_tool_call": choice.disable_parallel_tool_use,
    }
    if body.output_config is not None and body.output_config.format is not None:
        found["json_schema"] = body.output_config.format.schema
    return found


def _unfit(body: _MessagesRequest) -> str | None:
    """Return why Anthropic's models that sample in their own way refuse the parameters, in its words, or None."""
    sampling = {"temperature": (body.temperature, 1), "top_p": (body.top_p, 1), "top_k": (body.top_k, None)}
    for name, (found, default) in sampling.items():
        if found not in (None, default):
            return f"`{name}` is deprecated for this model."
    return None


def _unsound(body: _MessagesRequest) -> str | None:
    """Return what Anthropic finds wrong with the parameters, in its words, or None."""
    if body.temperature is not None and not 0 <= body.temperature <= 1:
        return "temperature: range: 0..1"
    if body.temperature is not None and body.top_p is not None:
        return "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    if any(not stop.strip() for stop in body.stop_sequences):
        return "stop_sequences: each stop sequence must contain non-whitespace"
    if body.output_config is not None and body.output_config.format is not None:
        schema = body.output_config.format.schema
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            return (
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
    for n, turn in enumerate(body.messages):
        for m, block in enumerate(turn.blocks):
            source = block.source
            if block.type != "image" or (source and source.type == "url" and source.url.startswith("https://")):
                continue
            if source is None or source.media_type not in _IMAGES or not is_base64(source.data):
                return f"messages.{n}.content.{m}.image.source: Input should be a valid image or an https URL"
    return None


def _unanswered(turns: list[_Turn]) -> str | None:
    """Return why Anthropic refuses this order of calls and results, in its words, or None."""
    used: set[str] = set()
    for n, turn in enumerate(turns):
        results = {block.tool_use_id for block in turn.blocks if block.type == "tool_result"}
        if results - used:
            return f"messages.{n}: `tool_result` block(s) must have a corresponding `tool_use` block before"
        if used - results:
            return f"messages.{n - 1}: `tool_use` ids were found without `tool_result` blocks immediately after"
        used = {block.id for block in turn.blocks if block.type == "tool_use"}
    return None


def _illegal(messages: list[_Turn]) -> str | None:
    """Return why Anthropic refuses this conversation, in its words, or None."""
    last = len(messages) - 1
    for n, message in enumerate(messages):
        if any(block.type != "text" for block in message.blocks):
            continue
        text = text_of(_content(message))
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
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text or not answer.calls else []
    content += [_block(answer, call) | {"input": msgspec.Raw(call.arguments.encode())} for call in answer.calls]
    return msgspec.json.encode(_message(answer, content, _STOP[answer.finish], answer.usage))


def prologue(answer: Answer) -> bytes:
    """Return `message_start`, `content_block_start` of a text and `ping`."""
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return (
        # One output token before there is any text: so tells the real one.
        _event({"type": "message_start", "message": _message(answer, [], None, answer.usage and (answer.usage[0], 1))})
        + (b"" if answer.calls else _event(start))
        + _event({"type": "ping"})
    )


def event(answer: Answer, token: Token) -> bytes:
    """Return the `content_block_delta` of one token; a tool call is a block of its own."""
    if isinstance(token, CallPart):
        delta = {"type": "input_json_delta", "partial_json": token.arguments}
        events = _event({"type": "content_block_delta", "index": token.n, "delta": delta})
        if token.first:
            start = {"type": "content_block_start", "index": token.n, "content_block": _block(answer, token)}
            events = _event(start) + events
            if token.n:
                events = _event({"type": "content_block_stop", "index": token.n - 1}) + events
        return events
    return _event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}})


def epilogue(answer: Answer) -> bytes:
    """Return `content_block_stop`, `message_delta` with stop reason and usage, and `message_stop`."""
    delta: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOP[answer.finish], "stop_sequence": None},
    }
    if answer.usage is not None:
        delta["usage"] = {"input_tokens": answer.usage[0], "output_tokens": answer.usage[1]}
    last = max(0, len(answer.calls) - 1)
    return _event({"type": "content_block_stop", "index": last}) + _event(delta) + _event({"type": "message_stop"})


def failure() -> bytes:
    """Return the `error` event that says `overloaded_error`."""
    return b"event: error\ndata: " + error(529).body + b"\n\n"


def _block(answer: Answer, call: CallPart) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{answer.id}_{call.n}", "name": call.name, "input": {}}


def _message(
    answer: Answer, content: list[dict[str, Any]], stop_reason: str | None, usage: tuple[int, int] | None
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

"""Gemini's generateContent, as its API writes it: JSON, and server-sent events with `alt=sse`."""

from __future__ import annotations

import re
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

PROVIDER: str = "gemini"
OTHER_MODEL: str = "gemini-1.5-flash-002"
WHOLE_CALLS: bool = True

# The API has two versions; the SDK speaks v1 since 3.0 and spoke v1beta before.
_PATH = re.compile(r"/v1(?:beta)?/models(?:/(.*):(generateContent|streamGenerateContent))?")
_MODELS = ("gemini-3.8-flash", "gemini-3.5-flash-lite", "gemini-2.5-pro", "gemini-2.5-flash")
_FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_STOPS_MAX = 5
_URL_SAFE = str.maketrans("-_", "+/")  # the other alphabet of base64, which Google takes too
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


class _Data(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""
    file_uri: str = ""


class _Function(msgspec.Struct):
    name: str = ""


class _Part(Part, frozen=True, kw_only=True, rename="camel"):
    inline_data: _Data | None = None
    file_data: _Data | None = None
    function_call: _Function | None = None
    function_response: _Function | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.inline_data or self.file_data or self.function_call or self.function_response)


class _Content(msgspec.Struct):
    role: str = "user"
    parts: list[_Part] = []


class _GenerationConfig(msgspec.Struct, rename="camel"):
    max_output_tokens: int | None = None
    stop_sequences: list[str] = []
    response_mime_type: str | None = None
    response_json_schema: dict[str, Any] | None = None
    response_schema: dict[str, Any] | None = None


class _Declaration(msgspec.Struct, rename="camel"):
    name: str = ""
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None
    # Google's JSON takes names in either way, and its SDK writes this one so.
    parameters_json_schema_2: dict[str, Any] | None = msgspec.field(default=None, name="parameters_json_schema")

    @property
    def schema(self) -> dict[str, Any] | None:
        return self.parameters_json_schema or self.parameters_json_schema_2 or self.parameters


class _Tool(msgspec.Struct, rename="camel"):
    function_declarations: list[_Declaration] = []


class _CallingConfig(msgspec.Struct, rename="camel"):
    mode: str = "AUTO"
    allowed_function_names: list[str] = []


class _ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: _CallingConfig = msgspec.field(default_factory=_CallingConfig)


class _GenerateRequest(msgspec.Struct, rename="camel"):
    contents: list[_Content] = []
    system_instruction: _Content | None = None
    generation_config: _GenerationConfig = msgspec.field(default_factory=_GenerationConfig)
    tools: list[_Tool] = []
    tool_config: _ToolConfig = msgspec.field(default_factory=_ToolConfig)


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
    limit = body.generation_config.max_output_tokens
    if not body.contents:
        return error(400, "* GenerateContentRequest.contents: contents is not specified")
    if limit is not None and limit < 1:
        return error(400, f"max_output_tokens must be positive, not {limit}.")
    problem = _unsound(body, model) or _illegal(body.contents)
    if problem is not None:
        return error(400, problem)
    messages = [Message(role=_role(content), content=[*content.parts]) for content in body.contents]
    if body.system_instruction is not None:
        messages.insert(0, Message(role="system", content=[*body.system_instruction.parts]))
    images = sum(bool(part.inline_data or part.file_data) for content in body.contents for part in content.parts)
    return call_of(
        PROVIDER, messages, model=model, stream=stream, max_tokens=limit, images=images, more=_structure(body)
    )


def _role(content: _Content) -> str:
    if content.role == "model":
        return "assistant"
    return "tool" if any(part.function_response for part in content.parts) else "user"


def _structure(body: _GenerateRequest) -> dict[str, Any]:
    calling, config = body.tool_config.function_calling_config, body.generation_config
    tools = tuple(
        OfferedTool(name=each.name, schema=each.schema) for tool in body.tools for each in tool.function_declarations
    )
    if calling.allowed_function_names:
        tools = tuple(tool for tool in tools if tool.name in calling.allowed_function_names)
    found: dict[str, Any] = {"tools": tools}
    found["tool_choice"] = {"ANY": "required", "NONE": "none"}.get(calling.mode, "auto")
    if config.response_mime_type == "application/json":
        found["json_schema"] = config.response_json_schema or config.response_schema or {}
    return found


def _unsound(body: _GenerateRequest, model: str) -> str | None:
    """Return what Google finds wrong with the parameters, in its words, or None."""
    config = body.generation_config
    if len(config.stop_sequences) > _STOPS_MAX:
        return "The number of stop sequences must be at most 5."
    if body.tools and config.response_mime_type == "application/json" and model.startswith("gemini-2"):
        return "Function calling with a response mime type: 'application/json' is unsupported"
    if config.response_json_schema and config.response_mime_type != "application/json":
        return "response_json_schema requires response_mime_type application/json."
    return None


def _illegal(contents: list[_Content]) -> str | None:
    """Return why Google refuses this conversation, in its words, or None."""
    called = 0
    for n, content in enumerate(contents):
        if content.role not in ("user", "model"):
            return "Please use a valid role: user, model."
        if all(part.is_empty for part in content.parts):
            return f"* GenerateContentRequest.contents[{n}].parts: contents.parts must not be empty."
        if any(
            part.inline_data and not is_base64(part.inline_data.data.translate(_URL_SAFE)) for part in content.parts
        ):
            return f"Invalid value at 'contents[{n}].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed."
        answered = sum(part.function_response is not None for part in content.parts)
        if answered != called:
            return (
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        called = sum(part.function_call is not None for part in content.parts)
    return None


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
    parts: list[dict[str, Any]] = [{"text": answer.text}] if answer.text or not answer.calls else []
    parts += [_called(call) for call in answer.calls]
    return msgspec.json.encode(_content(answer, parts, finish=True))


def prologue(answer: Answer) -> bytes:
    """Return nothing: the first event is the first token's."""
    return b""


def event(answer: Answer, token: Token) -> bytes:
    """Return the event of one token."""
    part: dict[str, Any] = {"text": token} if isinstance(token, str) else _called(token)
    return server_sent_event(_content(answer, [part], finish=False))


def epilogue(answer: Answer) -> bytes:
    """Return the event with finish reason and usage; the stream ends with the body, without a mark of its own."""
    return server_sent_event(_content(answer, [{"text": ""}], finish=True))


def failure() -> bytes:
    """Return Google's error in place of a response, without an event name."""
    return b"data: " + error(503).body + b"\n\n"


def _called(call: CallPart) -> dict[str, Any]:
    return {"functionCall": {"name": call.name, "args": msgspec.Raw(call.arguments.encode())}}


def _content(answer: Answer, parts: list[dict[str, Any]], *, finish: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
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

"""
OpenAI's Chat Completions format as the gateway speaks it: requests in, completions, chunks and errors out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from router.capabilities import left_out
from router.errors import AllCloudsDownError, RequestError, SeawallError
from router.models import DEFAULT_PREFERRED, Chunk, Reply, Request, ToolCallDelta, Usage
from seawall.gateway.conversation import ChosenTool, OfferedTool, ResponseFormat, Turn, message_of, structure_of

__all__ = [
    "UNSUPPORTED",
    "ChatRequest",
    "chunk_json",
    "completion_json",
    "error_json",
    "final_chunks",
    "headers_of",
    "parse_request",
]

DEFAULT_MODEL = "seawall"
"""The model name that leaves the choice to the router's default chain."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """The fields of a chat completion request that the gateway reads; others are ignored unless they change meaning."""

    messages: list[Turn]
    model: str = DEFAULT_MODEL
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    user: str | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    n: int | None = None
    # What changes the answer, and nobody here can do.
    functions: Any = None
    function_call: Any = None
    logprobs: Any = None
    logit_bias: Any = None
    top_logprobs: Any = None
    audio: Any = None
    modalities: Any = None
    web_search_options: Any = None


UNSUPPORTED = (
    "functions",
    "function_call",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "audio",
    "modalities",
    "web_search_options",
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEANINGLESS: tuple[Any, ...] = (None, False, 0, "none", [], {}, ["text"])  # what asks for nothing beyond a text
_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.Encoder().encode


def parse_request(body: bytes, request_id: str) -> tuple[ChatRequest, Request]:
    """Return the request as sent and as the router takes it. Raises RequestError that names the field and the fix."""
    try:
        chat = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not a chat completion request: {error}") from None
    except RecursionError:
        raise RequestError("the body is nested too deeply; no chat completion request is") from None
    if chat.functions or chat.function_call or chat.logprobs or chat.top_logprobs or chat.logit_bias:
        _refuse_unsupported(chat)
    if chat.audio or chat.modalities or chat.web_search_options:
        _refuse_unsupported(chat)
    if chat.n not in (None, 1):
        raise RequestError(f"n is {chat.n}; this gateway gives one answer a request, so leave it out")
    if not chat.messages:
        raise RequestError("messages is empty; send at least one")
    max_tokens = chat.max_completion_tokens if chat.max_completion_tokens is not None else chat.max_tokens
    if max_tokens is not None and not 1 <= max_tokens <= 1_000_000:
        raise RequestError(f"max_tokens is {max_tokens}; it must be from 1 to 1000000")
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ())
    if "" in stop:
        raise RequestError("stop has an empty sequence; leave it out")
    return chat, Request(
        messages=tuple([message_of(n, turn) for n, turn in enumerate(chat.messages)]),
        model=DEFAULT_PREFERRED if chat.model == DEFAULT_MODEL else chat.model,
        max_tokens=max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        top_k=chat.top_k,
        stop=stop,
        seed=chat.seed,
        presence_penalty=chat.presence_penalty,
        frequency_penalty=chat.frequency_penalty,
        user=chat.user,
        request_id=request_id,
        parallel_tool_calls=chat.parallel_tool_calls,
        **structure_of(chat.messages, chat.tools, chat.tool_choice, chat.response_format),
    )


def _refuse_unsupported(chat: ChatRequest) -> None:
    unsupported = [name for name in UNSUPPORTED if getattr(chat, name) not in _MEANINGLESS]
    if unsupported:
        raise RequestError(f"{', '.join(unsupported)}: not supported by this gateway; leave it out")


def completion_json(reply: Reply, request_id: str, created_s: int) -> bytes:
    """Return a whole answer as a `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool_calls or reply.refusal:
        message["content"] = reply.text or None
        message["refusal"] = reply.refusal or None
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.tool_calls
        ]
    return _encode(
        {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": created_s,
            "model": reply.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.stop_reason}],
            "usage": _usage(reply.usage),
        }
    )


def chunk_json(chunk: Chunk, request_id: str, created_s: int, *, first: bool) -> bytes:
    """Return one piece of a stream as a server-sent event."""
    delta: dict[str, Any] = {"role": "assistant", "content": chunk.text} if first else {"content": chunk.text}
    if chunk.tool_calls or chunk.refusal:
        delta["content"] = chunk.text or None
        delta |= {"refusal": chunk.refusal} if chunk.refusal else {}
        delta |= {"tool_calls": [_delta(call) for call in chunk.tool_calls]} if chunk.tool_calls else {}
    return _event(_chunk(chunk, request_id, created_s, delta=delta, finish_reason=None))


def final_chunks(chunk: Chunk, request_id: str, created_s: int, *, include_usage: bool) -> bytes:
    """Return the end of a stream: finish reason, who wrote it, usage where it was asked for, `[DONE]`."""
    last = _chunk(chunk, request_id, created_s, delta={}, finish_reason=chunk.stop_reason)
    last["seawall"] = {
        "provider": chunk.provider,
        "continued": chunk.continued,
        "attempts": len(chunk.attempts),
        "cost_usd": chunk.cost_usd,
    }
    events = _event(last)
    if include_usage and chunk.usage is not None:
        usage = _chunk(chunk, request_id, created_s, delta={}, finish_reason=None)
        usage["choices"] = []
        usage["usage"] = _usage(chunk.usage)
        events += _event(usage)
    return events + b"data: [DONE]\n\n"


def error_json(error: SeawallError) -> bytes:
    """Return an error in OpenAI's form; `code` is the stable one."""
    kind = "invalid_request_error" if error.status < 500 else "api_error"
    return _encode({"error": {"message": str(error), "type": kind, "param": None, "code": error.code}})


def headers_of(answered: Reply | Chunk, request: Request) -> bytes:
    """
    Return the head lines `X-Seawall-*` that say who answered, and as far as that is known yet, at what cost.

    `X-Seawall-Left-Out` names the sampling parameters of the request that this model was asked without.
    """
    head = _who(answered.provider, answered.model)
    if isinstance(answered, Reply):
        cost = f"{answered.cost_usd:.6f}".encode()
        head = b"%bx-seawall-attempts: %d\r\nx-seawall-cost-usd: %b\r\n" % (head, len(answered.attempts), cost)
    model = answered.attempts[-1].model if answered.attempts else answered.model
    if left := left_out(answered.provider, model, request):
        head += b"x-seawall-left-out: %b\r\n" % ", ".join(left).encode()
    return head


@lru_cache(maxsize=256)
def _who(provider: str, model: str) -> bytes:
    name = _CONTROL.sub("?", model).encode()  # a model's name may be anything: no head line of its own
    return b"x-seawall-provider: %b\r\nx-seawall-model: %b\r\n" % (str(provider).encode(), name)


def retry_after(error: SeawallError) -> list[tuple[bytes, bytes]]:
    """Return the Retry-After header, in whole seconds rounded up, where the error knows a time."""
    if isinstance(error, AllCloudsDownError) and error.retry_after_s is not None:
        return [(b"retry-after", str(max(1, -int(-error.retry_after_s // 1))).encode())]
    return []


def _delta(call: ToolCallDelta) -> dict[str, Any]:
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def _chunk(
    chunk: Chunk, request_id: str, created_s: int, *, delta: dict[str, Any], finish_reason: str | None
) -> dict[str, Any]:
    choices: Sequence[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": chunk.model,
        "choices": choices,
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + _encode(data) + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens or usage.written_tokens:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.written_tokens:
        told["prompt_tokens_details"]["cache_write_tokens"] = usage.written_tokens
    return told

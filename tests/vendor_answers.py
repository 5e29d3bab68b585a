"""Whole answers in the vendors' published formats, with two tool calls each; one of them without arguments."""

from __future__ import annotations

import json
from typing import Any

ARGUMENTS = '{"city":"Oslo"}'


def sse(*events: Any) -> bytes:
    """Return server-sent events, named where the vendor names them."""
    found = b""
    for event in events:
        if isinstance(event, dict) and "type" in event:
            found += f"event: {event['type']}\n".encode()
        found += b"data: " + (event.encode() if isinstance(event, str) else json.dumps(event).encode()) + b"\n\n"
    return found


def openai_chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return one `chat.completion.chunk`."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [choice]}


def openai_call(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    """Return a delta with a piece of a tool call."""
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        call = {"index": index, "id": f"call_{index}", "type": "function"} | {
            "function": {"name": name, "arguments": arguments}
        }
    return {"tool_calls": [call]}


OPENAI_USAGE = {
    "prompt_tokens": 70,
    "completion_tokens": 17,
    "total_tokens": 87,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
CLAUDE_USAGE = {
    "input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 64,
    "output_tokens": 17,
}
GEMINI_USAGE = {
    "promptTokenCount": 70,
    "cachedContentTokenCount": 64,
    "candidatesTokenCount": 12,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 87,
}


def claude_start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    """Return a `content_block_start`."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def claude_delta(index: int, kind: str, field: str, value: str) -> dict[str, Any]:
    """Return a `content_block_delta`."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: value}}


CALLED: dict[tuple[str, bool], bytes] = {
    ("openai", False): json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "refusal": None,
                        "tool_calls": [
                            {
                                "id": "call_0",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": ARGUMENTS},
                            },
                            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}},
                        ],
                    },
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": OPENAI_USAGE,
        }
    ).encode(),
    ("openai", True): sse(
        openai_chunk({"role": "assistant", "content": None}),
        openai_chunk(openai_call(0, "", "get_weather")),
        openai_chunk(openai_call(0, '{"city":')),
        openai_chunk(openai_call(0, '"Oslo"}')),
        openai_chunk(openai_call(1, "", "get_weather")),
        openai_chunk({}, "tool_calls"),
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": OPENAI_USAGE},
        "[DONE]",
    ),
    ("claude", False): json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-4-5",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "tool_use", "id": "toolu_0", "name": "get_weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
            ],
            "stop_reason": "tool_use",
            "usage": CLAUDE_USAGE,
        }
    ).encode(),
    ("claude", True): sse(
        {
            "type": "message_start",
            "message": {"model": "claude-haiku-4-5", "usage": CLAUDE_USAGE | {"output_tokens": 1}},
        },
        claude_start(0, {"type": "thinking", "thinking": ""}),
        claude_delta(0, "thinking_delta", "thinking", "hm"),
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        claude_start(1, {"type": "tool_use", "id": "toolu_0", "name": "get_weather", "input": {}}),
        claude_delta(1, "input_json_delta", "partial_json", ""),
        claude_delta(1, "input_json_delta", "partial_json", '{"city":'),
        claude_delta(1, "input_json_delta", "partial_json", '"Oslo"}'),
        {"type": "content_block_stop", "index": 1},
        claude_start(2, {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}),
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 17}},
        {"type": "message_stop"},
    ),
}
_PARTS: list[Any] = [
    {"text": "hm", "thought": True},
    {"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": "x"},
    {"functionCall": {"name": "get_weather"}},
]
_FINISHED = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}
_OLLAMA_CALLS = [
    {"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}},
    {"id": "call_x", "function": {"index": 1, "name": "get_weather", "arguments": {}}},
]
_OLLAMA_DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 70, "eval_count": 17}
CALLED |= {
    ("gemini", False): json.dumps(
        {
            "candidates": [{"content": {"parts": _PARTS, "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": GEMINI_USAGE,
            "modelVersion": "gemini-2.5-flash",
        }
    ).encode(),
    ("gemini", True): sse(
        *({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]} for part in _PARTS),
        {"candidates": [_FINISHED], "usageMetadata": GEMINI_USAGE, "modelVersion": "gemini-2.5-flash"},
    ),
    ("local", False): json.dumps(
        {"model": "llama3.1", "message": {"role": "assistant", "content": "", "tool_calls": _OLLAMA_CALLS}}
        | _OLLAMA_DONE
    ).encode(),
    ("local", True): b"".join(
        json.dumps(line).encode() + b"\n"
        for line in (
            *(
                {
                    "model": "llama3.1",
                    "message": {"role": "assistant", "content": "", "tool_calls": [call]},
                    "done": False,
                }
                for call in _OLLAMA_CALLS
            ),
            {"model": "llama3.1", "message": {"role": "assistant", "content": ""}} | _OLLAMA_DONE,
        )
    ),
}

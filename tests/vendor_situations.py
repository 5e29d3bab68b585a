"""
One conversation a situation, as the router takes it and as each vendor's own SDK does.

The vendors' forms are written by hand from their documentation: they are what our adapters are held against.
"""

from __future__ import annotations

import json
from typing import Any

from router import Message
from router.models import ImagePart, JsonFormat, NamedTool, TextPart, Tool, ToolCall

MODELS = {
    "openai": "gpt-4o-mini",
    "claude": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "local": "llama3.2-vision",
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK5BgAAAAABJRU5ErkJggg=="
URL = "https://127.0.0.1/cat.png"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOCK = {"type": "object", "properties": {"zone": {"type": "string"}, "exact": {"type": "boolean"}}}
ANSWER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
TOOLS = (
    Tool(name="get_weather", description="Tell the weather.", parameters=WEATHER),
    Tool(name="get_time", description="Tell the time.", parameters=CLOCK),
)
ASK = "[sw:000007] Call get_weather and get_time."
CALLS = (
    ToolCall(id="call_a", name="get_weather", arguments='{"city":"Oslo"}'),
    ToolCall(id="call_b", name="get_time", arguments='{"zone":"CET"}'),
)
USER = "[sw:000007] What does a seawall do?"

SITUATIONS: dict[str, dict[str, Any]] = {
    "turns": {
        "messages": (
            Message(role="system", content="Be brief."),
            Message(role="user", content="Hello."),
            Message(role="assistant", content="Hello!"),
            Message(role="user", content=USER),
        ),
        "temperature": 0.5,
        "stop": ("END",),
    },
    "tools": {"messages": (Message(role="user", content=ASK),), "tools": TOOLS, "tool_choice": "auto"},
    "results": {
        "messages": (
            Message(role="user", content=ASK),
            Message(role="assistant", content="", tool_calls=CALLS),
            Message(role="tool", content="sunny", tool_call_id="call_a"),
            Message(role="tool", content="noon", tool_call_id="call_b"),
        ),
        "tools": TOOLS,
    },
    "forced": {"messages": (Message(role="user", content=USER),), "tools": TOOLS, "tool_choice": NamedTool("get_time")},
    "schema": {"messages": (Message(role="user", content=USER),), "json_format": JsonFormat(schema=ANSWER)},
    "json": {"messages": (Message(role="user", content=USER + " In JSON."),), "json_format": JsonFormat()},
    "image": {
        "messages": (Message(role="user", content=(TextPart(USER), ImagePart(f"data:image/png;base64,{PIXEL}"))),)
    },
    "image_url": {"messages": (Message(role="user", content=(TextPart(USER), ImagePart(URL))),)},
}


def _openai_tools() -> list[Any]:
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in TOOLS
    ]


def _one(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


OPENAI: dict[str, dict[str, Any]] = {
    "turns": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": USER},
        ],
        "temperature": 0.5,
        "stop": ["END"],
    },
    "tools": _one(ASK) | {"tools": _openai_tools(), "tool_choice": "auto"},
    "results": {
        "messages": [
            {"role": "user", "content": ASK},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                    for c in CALLS
                ],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "call_a"},
            {"role": "tool", "content": "noon", "tool_call_id": "call_b"},
        ],
        "tools": _openai_tools(),
    },
    "forced": _one(USER)
    | {"tools": _openai_tools(), "tool_choice": {"type": "function", "function": {"name": "get_time"}}},
    "schema": _one(USER)
    | {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}},
    "json": _one(USER + " In JSON.") | {"response_format": {"type": "json_object"}},
    "image": _one(
        [
            {"type": "text", "text": USER},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
    ),
    "image_url": _one([{"type": "text", "text": USER}, {"type": "image_url", "image_url": {"url": URL}}]),
}


def _claude_tools() -> list[Any]:
    return [{"name": t.name, "description": t.description, "input_schema": t.parameters} for t in TOOLS]


CLAUDE: dict[str, dict[str, Any]] = {
    "turns": {
        "system": "Be brief.",
        "messages": OPENAI["turns"]["messages"][1:],
        "extra_body": {"temperature": 0.5},  # the SDK names it no more; the API of these models takes it
        "stop_sequences": ["END"],
    },
    "tools": _one(ASK) | {"tools": _claude_tools(), "tool_choice": {"type": "auto"}},
    "results": {
        "messages": [
            {"role": "user", "content": ASK},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": c.id, "name": c.name, "input": json.loads(c.arguments)} for c in CALLS
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_a", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "call_b", "content": "noon"},
                ],
            },
        ],
        "tools": _claude_tools(),
    },
    "forced": _one(USER) | {"tools": _claude_tools(), "tool_choice": {"type": "tool", "name": "get_time"}},
    "schema": _one(USER) | {"output_config": {"format": {"type": "json_schema", "schema": ANSWER}}},
    "image": _one(
        [
            {"type": "text", "text": USER},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ]
    ),
    "image_url": _one([{"type": "text", "text": USER}, {"type": "image", "source": {"type": "url", "url": URL}}]),
}


def _gemini_tools() -> list[Any]:
    declarations = [
        {"name": t.name, "description": t.description, "parameters_json_schema": t.parameters} for t in TOOLS
    ]
    return [{"function_declarations": declarations}]


def _gemini_calls() -> list[Any]:
    return [{"function_call": {"id": c.id, "name": c.name, "args": json.loads(c.arguments)}} for c in CALLS]


def _gemini_results() -> list[Any]:
    pairs = zip(CALLS, ("sunny", "noon"), strict=True)
    return [{"function_response": {"id": c.id, "name": c.name, "response": {"output": said}}} for c, said in pairs]


def _said(*parts: Any) -> list[Any]:
    return [{"role": "user", "parts": list(parts)}]


_FORCED = {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["get_time"]}}
_AUTO = {"function_calling_config": {"mode": "AUTO"}}
_JSON = {"response_mime_type": "application/json"}
GEMINI: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "turns": (
        [
            {"role": "user", "parts": [{"text": "Hello."}]},
            {"role": "model", "parts": [{"text": "Hello!"}]},
            {"role": "user", "parts": [{"text": USER}]},
        ],
        {"system_instruction": "Be brief.", "temperature": 0.5, "stop_sequences": ["END"]},
    ),
    "tools": (_said({"text": ASK}), {"tools": _gemini_tools(), "tool_config": _AUTO}),
    "results": (
        [
            *_said({"text": ASK}),
            {"role": "model", "parts": _gemini_calls()},
            {"role": "user", "parts": _gemini_results()},
        ],
        {"tools": _gemini_tools()},
    ),
    "forced": (_said({"text": USER}), {"tools": _gemini_tools(), "tool_config": _FORCED}),
    "schema": (_said({"text": USER}), _JSON | {"response_json_schema": ANSWER}),
    "json": (_said({"text": USER + " In JSON."}), _JSON),
    "image": (_said({"text": USER}, {"inline_data": {"mime_type": "image/png", "data": PIXEL}}), {}),
    "image_url": (_said({"text": USER}, {"file_data": {"mime_type": "image/png", "file_uri": URL}}), {}),
}
LOCAL: dict[str, dict[str, Any]] = {
    "turns": {"messages": OPENAI["turns"]["messages"], "options": {"temperature": 0.5, "stop": ["END"]}},
    "tools": _one(ASK) | {"tools": _openai_tools()},
    "results": {
        "messages": [
            {"role": "user", "content": ASK},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": c.name, "arguments": json.loads(c.arguments)}} for c in CALLS],
            },
            {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
            {"role": "tool", "content": "noon", "tool_name": "get_time"},
        ],
        "tools": _openai_tools(),
    },
    "schema": _one(USER) | {"format": ANSWER},
    "json": _one(USER + " In JSON.") | {"format": "json"},
    "image": {"messages": [{"role": "user", "content": USER, "images": [PIXEL]}]},
}

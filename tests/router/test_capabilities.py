"""What not everybody can do: who is skipped for it, who is told, and what a failover and a cut leave of it."""

from __future__ import annotations

import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import AllCloudsDownError, Chunk, HybridRouter, Message, ModelType, ProviderError, Request, RequestError
from router.adapters import GeminiAdapter, Prompt
from router.capabilities import CAPABILITIES, DROPPED, lacking, needs_of
from router.errors import Reset
from router.events import Attempt, Skip
from router.models import FAILOVER_CHAIN, ImagePart, JsonFormat, NamedTool, TextPart, Tool, ToolCall
from router.pricing import IMAGE_TOKENS_MAX, Price, cost_micro_usd
from router.settings import Secret
from router.testing import Answering, CapturedEvents, ScriptedTransport, scripted_router, test_settings

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
TOOL = Tool(name="get_weather", description="Tell it.", parameters={"type": "object", "properties": {}})
SCHEMA = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
URL = "https://127.0.0.1/cat.png"
DATA = "data:image/png;base64,iVBORw0KGgo="
USER = (Message(role="user", content="hi"),)
SYSTEM = (Message(role="system", content="Speak JSON."), *USER)


def image(url: str) -> tuple[Message, ...]:
    """Return a conversation with an image."""
    return (Message(role="user", content=(TextPart("look"), ImagePart(url, "low"))),)


NEEDS: list[tuple[dict[str, Any], set[str]]] = [
    ({"messages": image(URL)}, {"local"}),
    ({"messages": image("https://127.0.0.1/cat")}, {"gemini", "local"}),
    ({"messages": image(DATA)}, set()),
    ({"messages": USER, "tools": (TOOL,)}, set()),
    ({"messages": USER, "tools": (TOOL,), "tool_choice": "required"}, {"local"}),
    ({"messages": USER, "tools": (TOOL,), "tool_choice": NamedTool("get_weather")}, {"local"}),
    ({"messages": USER, "tools": (TOOL,), "parallel_tool_calls": False}, {"gemini", "local"}),
    ({"messages": USER, "tools": (TOOL,), "json_format": JsonFormat(schema=SCHEMA)}, {"gemini", "local"}),
    ({"messages": USER, "json_format": JsonFormat(schema=SCHEMA)}, set()),
    ({"messages": SYSTEM, "json_format": JsonFormat()}, {"claude"}),
    ({"messages": USER, "json_format": JsonFormat()}, {"claude", "openai"}),
    ({"messages": USER, "top_k": 5}, {"openai"}),
    ({"messages": USER, "presence_penalty": 0.5}, {"claude", "gemini"}),
    ({"messages": USER, "presence_penalty": 0.0}, set()),
    ({"messages": USER, "temperature": 1.5}, set()),
    ({"messages": USER, "temperature": 0.5, "top_p": 0.5}, set()),
    ({"messages": USER, "temperature": 0.5, "top_p": 1.0}, set()),
    ({"messages": USER, "stop": ("\n",)}, {"claude"}),
    ({"messages": USER, "stop": tuple("abcde")}, {"openai"}),
    ({"messages": USER, "stop": tuple("abcdef")}, {"openai", "gemini"}),
    ({"messages": USER, "seed": 7, "user": "me"}, set()),
]


def lone(*providers: str, **values: object) -> Any:
    """Return settings with keys for these clouds only."""
    names = {"gemini": "gemini_api_key", "claude": "anthropic_api_key", "openai": "openai_api_key"}
    keys = {setting: "" for name, setting in names.items() if name not in providers}
    return test_settings(ollama_model="llava", **keys, **values)


async def streamed(router: HybridRouter, request: Request) -> list[Chunk]:
    """Return the chunks of a stream."""
    async with aclosing(router.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize(("asked", "unable"), NEEDS)
async def test_who_cannot_is_skipped_and_the_next_serves(asked: dict[str, Any], unable: set[str]) -> None:
    """Each provider in front: it answers when it can, else the first of the chain that can does, without a call."""
    for provider in ModelType:
        transport, events = ScriptedTransport({}), CapturedEvents()
        router = scripted_router(transport, settings=lone("gemini", "claude", "openai"), sink=events)
        reply = await router.complete(Request(model=provider, **asked))
        order = (provider, *(name for name in FAILOVER_CHAIN if name is not provider))
        assert reply.provider == next(name for name in order if name not in unable)
        assert [name for name, _ in transport.calls] == [reply.provider]
        assert {skip.provider for skip in events.of(Skip) if skip.reason == "unsupported"} == unable


async def test_request_that_nobody_can_answer_is_the_caller_s_fault() -> None:
    """With local alone, an image by URL is a 400 before any call, and says what, who and which."""
    transport = ScriptedTransport({})
    router = scripted_router(transport, settings=lone())
    with pytest.raises(RequestError, match="local cannot do an image by URL") as caught:
        await router.complete(Request(messages=image(URL)))
    assert caught.value.status == 400
    with pytest.raises(RequestError, match="an image by URL"):
        await streamed(router, Request(messages=image(URL)))
    assert transport.calls == []


async def test_who_could_but_rests_makes_it_a_matter_of_waiting() -> None:
    """Where the only provider that can is down, the error is that it is down: waiting helps."""
    transport = ScriptedTransport({"gemini": [Answering(status=503)]})
    router = scripted_router(transport, settings=lone("gemini"))
    for _ in range(4):
        with pytest.raises(AllCloudsDownError):
            await router.complete(Request(messages=image(URL)))
    assert len(transport.calls) == 3


async def test_air_gap_refuses_what_only_a_cloud_can_do() -> None:
    """Behind the air gap there is nobody but local: what it cannot do is refused, and never sent."""
    transport = ScriptedTransport({})
    router = scripted_router(transport, settings=lone("gemini", airgap_mode=True))
    with pytest.raises(RequestError, match="local cannot do an image by URL"):
        await router.complete(Request(messages=image(URL)))
    assert transport.calls == []


async def test_model_that_cannot_is_skipped_although_its_vendor_can() -> None:
    """llama3 calls no tools, gpt-3.5-turbo sees nothing, gpt-6.1-sol needs another API for tools: the table says so."""
    assert lacking(ModelType.LOCAL, "llama3:8b", {"tools"}) == ("tools",)
    assert lacking(ModelType.LOCAL, "llama3.1", {"tools"}) == ()
    router = scripted_router(ScriptedTransport({}), settings=test_settings())
    assert (await router.complete(Request(messages=USER, tools=(TOOL,), model="local"))).provider == "gemini"
    assert (await router.complete(Request(messages=image(DATA), model="gpt-3.5-turbo"))).provider == "gemini"
    assert (await router.complete(Request(messages=USER, tools=(TOOL,), model="gpt-6.1-sol"))).provider == "gemini"
    assert lacking(ModelType.CLAUDE, "claude-haiku-4-5-20251001", {"temperature_above_1"}) == ("a temperature above 1",)


@given(
    text=st.text(),
    temperature=st.none() | st.floats(0, 1),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=4),
    seed=st.none() | st.integers(),
)
def test_plain_text_needs_nothing(text: str, temperature: float | None, stop: list[str], seed: int | None) -> None:
    """Whatever is said in it, a text with the usual parameters can be answered by everybody."""
    messages = (Message(role="user", content=text),)
    assert needs_of(Request(messages=messages, temperature=temperature, stop=tuple(stop), seed=seed)) == frozenset()


def _words(body: Any) -> str:
    return msgspec.json.encode(body).decode()


@pytest.mark.parametrize("stream", [False, True])
async def test_failover_loses_nothing_of_the_request(stream: bool) -> None:
    """
    System prompt, history, tools, choice, results and the stream flag reach each provider in turn, in its words.

    The temperature reaches those whose model takes one.
    """
    call = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Oslo"}')
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="weather?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="sunny", tool_call_id="call_1"),
    )
    script = {name: [Answering(status=503)] for name in ("gemini", "claude", "openai")}
    transport = ScriptedTransport(script)
    router = scripted_router(transport, settings=test_settings(ollama_model="llama3.1"))
    request = Request(messages=messages, tools=(TOOL,), tool_choice="auto", temperature=0.5, max_tokens=9)
    if stream:
        chunks = await streamed(router, request)
        assert chunks[-1].provider == "local"
    else:
        assert (await router.complete(request)).provider == "local"
    assert [name for name, _ in transport.calls] == list(FAILOVER_CHAIN)
    for name, sent in transport.calls:
        body = msgspec.json.decode(sent.body)
        said = _words(body)
        for word in ("Be brief.", "weather?", "get_weather", "Tell it.", "Oslo", "sunny", "9"):
            assert word in said, (name, word)
        assert ("0.5" in said) is (name in ("openai", "local")), name
        assert (body.get("stream", "streamGenerateContent" in sent.url)) is stream


async def test_failover_keeps_the_json_format() -> None:
    """The schema is sent to each provider in its own place; Anthropic's is closed, as it wants it."""
    transport = ScriptedTransport({name: [Answering(status=503)] for name in ("gemini", "claude", "openai")})
    router = scripted_router(transport)
    await router.complete(Request(messages=USER, json_format=JsonFormat(schema=SCHEMA, name="it", strict=True)))
    bodies = {name: msgspec.json.decode(sent.body) for name, sent in transport.calls}
    config = bodies[ModelType.GEMINI]["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", SCHEMA)
    closed = bodies[ModelType.CLAUDE]["output_config"]["format"]["schema"]
    assert closed["additionalProperties"] is closed["properties"]["a"]["additionalProperties"] is False
    wanted = {"name": "it", "schema": SCHEMA, "strict": True}
    assert bodies[ModelType.OPENAI]["response_format"] == {"type": "json_schema", "json_schema": wanted}
    assert bodies[ModelType.LOCAL]["format"] == SCHEMA


def _half_a_call(provider: str) -> bytes:
    started: dict[str, Any] = {
        "openai": {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}]},
        "claude": {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        },
        "gemini": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]},
        "local": {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "done": False},
    }[provider]
    line = msgspec.json.encode(started)
    return line + b"\n" if provider == "local" else b"data: " + line + b"\n\n"


@pytest.mark.parametrize("provider", list(ModelType))
async def test_cut_after_a_tool_call_began_is_an_error_and_nobody_else_is_asked(provider: ModelType) -> None:
    """A tool call that has begun to reach the caller cannot be finished by another model: the stream says so."""
    transport = ScriptedTransport({provider: [Answering(body=_half_a_call(provider))]})
    events = CapturedEvents()
    router = scripted_router(transport, settings=test_settings(ollama_model="llama3.1"), sink=events)
    got: list[Chunk] = []
    with pytest.raises(ProviderError):  # noqa: PT012
        async with aclosing(router.stream(Request(messages=USER, tools=(TOOL,), model=provider))) as chunks:
            async for chunk in chunks:
                got.append(chunk)  # noqa: PERF401 - what came before the error counts
    assert [call.name for chunk in got for call in chunk.tool_calls] == ["f"]
    assert [name for name, _ in transport.calls] == [provider]
    assert [attempt.error for attempt in events.of(Attempt)] == ["truncated_body"]


async def test_text_before_a_cut_is_continued_although_tools_are_offered() -> None:
    """Offered tools alone forbid nothing: a text that was cut goes on at the next provider, which has them too."""
    cut = Answering(text="one two three", cut_after=1, error=Reset("cut"))
    transport = ScriptedTransport({"gemini": [cut], "claude": [Answering(text="two three")]})
    chunks = await streamed(scripted_router(transport), Request(messages=USER, tools=(TOOL,)))
    assert "".join(chunk.text for chunk in chunks) == "one two three"
    assert "get_weather" in transport.calls_to("claude")[0].body.decode()


@pytest.mark.parametrize(("cut_after", "served"), [(0, True), (1, False)])
async def test_json_that_was_begun_is_not_pieced_together(cut_after: int, served: bool) -> None:
    """In JSON mode a provider begins a document of its own: before the first text it may, after it nobody may."""
    cut = Answering(text='{"a": 1}', cut_after=cut_after, error=Reset("cut"))
    transport = ScriptedTransport({"gemini": [cut], "claude": [Answering(text='{"a": 2}')]})
    request = Request(messages=USER, json_format=JsonFormat(schema=SCHEMA))
    if served:
        chunks = await streamed(scripted_router(transport), request)
        assert "".join(chunk.text for chunk in chunks) == '{"a": 2}'
    else:
        with pytest.raises(Reset):
            await streamed(scripted_router(transport), request)
        assert len(transport.calls) == 1


async def test_arguments_that_are_no_object_are_refused_before_a_call() -> None:
    """What other vendors want as an object cannot be sent as anything else."""
    call = ToolCall(id="c", name="f", arguments="[1")
    messages = (*USER, Message(role="assistant", content="", tool_calls=(call,)))
    transport = ScriptedTransport({})
    with pytest.raises(RequestError, match="arguments of tool call 'c' are no JSON object"):
        await scripted_router(transport).complete(Request(messages=messages, model="claude"))
    assert transport.calls == []


@pytest.mark.parametrize(("model", "signed"), [("gemini-2.5-flash", 0), ("gemini-3.5-flash", 1)])
def test_calls_of_another_model_are_marked_as_unsigned_for_later_geminis(model: str, signed: int) -> None:
    """Gemini 3 and later refuse a call without the signature of its thoughts: the first of a turn says it has none."""
    calls = tuple(ToolCall(id=f"c{n}", name="f", arguments="{}") for n in range(2))
    messages = (*USER, Message(role="assistant", content="", tool_calls=calls))
    prompt = Prompt(messages=messages, model=model, max_tokens=9, stream=False)
    _, body = GeminiAdapter("http://127.0.0.1:1", Secret("k")).target(prompt)
    assert ["thoughtSignature" in part for part in body["contents"][1]["parts"]] == [bool(signed), False]


@pytest.mark.parametrize(
    "deltas", [[{"index": 0, "function": {"arguments": "{}"}}], [{"function": {"arguments": "{}"}}]]
)
async def test_piece_of_a_call_that_never_began_is_no_answer(deltas: list[Any]) -> None:
    """A call without a name is nobody's to make: the next provider answers."""
    body = b"data: " + msgspec.json.encode({"choices": [{"delta": {"tool_calls": deltas}}]}) + b"\n\n"
    transport = ScriptedTransport({"openai": [Answering(body=body)]})
    chunks = await streamed(scripted_router(transport), Request(messages=USER, tools=(TOOL,), model="openai"))
    assert chunks[-1].attempts[0].error == "invalid_answer"
    assert chunks[-1].provider == "gemini"


async def test_images_and_tools_are_reserved_for() -> None:
    """What is not text costs too: the bound of a request with an image, or with tools, is that much higher."""
    from router.usage import asked_tokens_max, usage_of

    def bound(messages: tuple[Message, ...], **more: Any) -> int:
        prompt = Prompt(messages=messages, model="m", max_tokens=9, stream=False, **more)
        estimate = usage_of(None, prompt, 40, is_whole=True).prompt_tokens
        assert estimate <= asked_tokens_max(prompt)
        return asked_tokens_max(prompt)

    plain = bound((Message(role="user", content="look"),))
    assert bound(image(URL)) - plain == IMAGE_TOKENS_MAX
    assert bound((Message(role="user", content="look"),), tools=(TOOL,)) > plain + 1024
    called = Message(role="assistant", content="", tool_calls=(ToolCall(id="c", name="f", arguments="x" * 100),))
    assert bound((Message(role="user", content="look"), called)) > plain + 100


def test_cached_tokens_are_cheaper_and_never_more_than_the_prompt() -> None:
    """Cached tokens have a price of their own; more of them than there were at all are not believed."""
    from router.models import Usage

    price = Price(prompt=1_000_000, completion=2_000_000, cached=100_000)
    assert cost_micro_usd(price, Usage(prompt_tokens=100, completion_tokens=10)) == 120
    assert cost_micro_usd(price, Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=50)) == 75
    assert cost_micro_usd(price, Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=10**9)) == 30


def _row(words: str, cells: list[str | None]) -> str:
    shown = [
        "**no**" if cell is None else cell if cell in (DROPPED, "both", "no tools") else f"`{cell}`" for cell in cells
    ]
    return f"| {words} | {' | '.join(shown)} |"


def test_page_has_the_table_of_the_code() -> None:
    """docs/adapters.md shows what the code does, row for row."""
    rows = [_row(each.words, [each.at(provider) for provider in FAILOVER_CHAIN]) for each in CAPABILITIES.values()]
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^\| .* \|$", text.partition("## What can be asked")[2].partition("\n## ")[0], re.MULTILINE)
    assert found[2:] == rows, "\n".join(rows)


def test_every_need_is_a_capability() -> None:
    """The names that requests need and that models lack are those of the table."""
    used = {name for asked, _ in NEEDS for name in needs_of(Request(**asked))}
    assert used <= set(CAPABILITIES)
    unable = {name for name, each in CAPABILITIES.items() if None in [each.at(provider) for provider in ModelType]}
    assert unable <= used, "a thing that somebody cannot do is never looked for"

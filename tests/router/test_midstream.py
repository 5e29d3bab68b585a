"""
A stream that breaks after each possible chunk, in each way, at each provider: the text has no repeat and no gap.

The emulators' own answers on real sockets, cut by this file at the chunk and in the way that a test names.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, NamedTuple

import pytest

from router import FAILOVER_CHAIN, AllCloudsDownError, Chunk, HybridRouter, Message, ModelType, Request, Settings, Usage
from router.events import Spend
from router.pricing import cost_micro_usd, price_of
from router.testing import CapturedEvents
from router.transport import Transport
from seawall.answers import answer_tokens, judge_text, marked
from seawall.emulators.behaviour import VENDORS, EmulatedCall, respond
from seawall.emulators.connection import Connection
from seawall.emulators.steps import Body, End, Healthy, Reset, Step
from seawall.emulators.wire import HttpRequest, Reply, steps_of
from seawall.gateway.chat import ChatEndpoint
from seawall.gateway.config import GatewaySettings

TOKENS = 4
SEED = 3
HEALTHY = Healthy(first_token_p50_s=0.0, first_token_p99_s=0.0, tokens_per_second=10_000, tokens=TOKENS)
Mode = Literal["reset", "fin", "torn", "no_end", "error_event"]
MODES: dict[Mode, tuple[str, ...]] = {
    "reset": ("reset", "truncated_body"),
    "fin": ("truncated_body", "reset"),
    "torn": ("truncated_body",),
    "no_end": ("truncated_body",),
    "error_event": ("provider_overloaded", "invalid_answer"),
}
"""
How a stream breaks, and the errors by which that is known: a TCP reset; the end of the connection without the end of
the body; half of the next event and an orderly end; an orderly end without the vendor's end mark; the vendor's error.
"""
_numbers = itertools.count(1)

modes = pytest.mark.parametrize("mode", MODES)
providers = pytest.mark.parametrize("provider", list(ModelType))
chunks_before_cut = pytest.mark.parametrize("after", range(TOKENS + 1))


class Cut(NamedTuple):
    """Break a stream after so many tokens of this answer."""

    after: int
    mode: Mode


class Providers:
    """Four emulated providers, of which those in `cuts` break their streams."""

    def __init__(self) -> None:
        self.cuts: dict[str, Cut] = {}
        self.calls: list[EmulatedCall] = []
        self.ports: dict[str, int] = {}
        self.connections: set[Connection] = set()
        self._delivered = 0
        self._news = asyncio.Event()

    def saw(self, chunk: Chunk) -> None:
        """Take note of a chunk that the client has."""
        self._delivered += bool(chunk.text)
        self._news.set()

    def handler(self, provider: str) -> Callable[[HttpRequest, Connection], Any]:
        """Return what answers the requests to a provider."""

        async def handle(request: HttpRequest, connection: Connection) -> None:
            vendor = VENDORS[provider]
            call = vendor.parse(request)
            if isinstance(call, Reply):
                await connection.play(steps_of(call))
                return
            self.calls.append(call)
            steps = list(respond(call, HEALTHY, [], SEED, 1))
            cut = self.cuts.get(provider)
            if cut is None or not call.stream:
                await connection.play(steps)
                return
            before, rest = _split(steps, cut.after)
            goal = self._delivered + cut.after
            await connection.play(before)
            await self._delivered_all(goal)
            await connection.play(_broken(vendor.failure(), rest, cut.mode))
            if cut.mode == "fin":
                connection.close()

        return handle

    async def _delivered_all(self, goal: int) -> None:
        """Wait until every token before the cut is with the client: a router that holds them back never gets on."""
        async with asyncio.timeout(5):
            while self._delivered < goal:
                self._news.clear()
                await self._news.wait()


def _split(steps: list[Step], after: int) -> tuple[list[Step], list[Step]]:
    """Return the steps up to and with the n-th token, and the rest; what opens a stream comes before its first."""
    seen = 0
    for n, step in enumerate(steps):
        if isinstance(step, Body):
            closes = seen == TOKENS or not any(isinstance(s, Body) and s.tokens for s in steps[n:])
            if seen == after and (step.tokens or closes):
                return steps[:n], steps[n:]
            seen += step.tokens
    return steps, []


def _broken(failure: bytes, rest: list[Step], mode: Mode) -> Iterator[Step]:
    """Yield what comes in place of the rest."""
    if mode == "reset":
        yield Reset()
        return
    if mode == "torn":
        following = next(step.data for step in rest if isinstance(step, Body))
        yield Body(data=following[: len(following) // 2])
    if mode == "error_event":
        yield Body(data=failure)
    if mode != "fin":
        yield End()


@pytest.fixture
async def emulated() -> AsyncIterator[Providers]:
    """Return four providers that listen on this loop."""
    made = Providers()
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    for name in ModelType:
        handler = made.handler(name)
        server = await loop.create_server(partial(Connection, handler, made.connections), "127.0.0.1", 0)
        made.ports[name] = server.sockets[0].getsockname()[1]
        servers.append(server)
    yield made
    for server in servers:
        server.close()
    for connection in list(made.connections):
        connection.abort()
    await asyncio.sleep(0)  # lets the loop close the sockets


@pytest.fixture
def events() -> CapturedEvents:
    """What the router reports."""
    return CapturedEvents()


@pytest.fixture
def make_router(
    emulated: Providers, make_transport: Callable[[], Transport], events: CapturedEvents
) -> Callable[..., HybridRouter]:
    """Return what makes a router, on each transport in turn, in front of the emulated providers."""
    names = ("gemini_base_url", "anthropic_base_url", "openai_base_url", "ollama_host")
    keys = dict.fromkeys(("gemini_api_key", "anthropic_api_key", "openai_api_key"), "a-key")

    def make(**settings: object) -> HybridRouter:
        urls = (f"http://127.0.0.1:{emulated.ports[name]}" for name in ModelType)
        given = dict(zip(names, urls, strict=True)) | keys | settings
        return HybridRouter(Settings.from_mapping(given), transport=make_transport(), sink=events)

    return make


def ask(model: str) -> Request:
    """Return a request with an identity of its own."""
    request_id = f"m{next(_numbers)}"
    prompt = marked(request_id, "What does a seawall do?")
    return Request(messages=(Message(role="user", content=prompt),), model=model, request_id=request_id)


def order(first: ModelType) -> list[ModelType]:
    """Return the chain with `first` in front."""
    return [first, *(name for name in FAILOVER_CHAIN if name is not first)]


async def streamed(
    router: HybridRouter, emulated: Providers, request: Request, chunks: list[Chunk] | None = None
) -> list[Chunk]:
    """Return every chunk, added to `chunks` as it comes, and let the providers know of each."""
    chunks = [] if chunks is None else chunks
    async with router, aclosing(router.stream(request)) as stream:
        async for chunk in stream:
            emulated.saw(chunk)
            chunks.append(chunk)
    return chunks


def text_of(chunks: list[Chunk]) -> str:
    """Return the text that the client has."""
    return "".join(chunk.text for chunk in chunks)


@providers
@modes
@chunks_before_cut
async def test_text_goes_on_at_the_very_token(
    emulated: Providers,
    make_router: Callable[..., HybridRouter],
    events: CapturedEvents,
    provider: ModelType,
    mode: Mode,
    after: int,
) -> None:
    """The text is one provider's own, or goes on where it broke, marked as continued; books and usage are right."""
    request, successor = ask(provider), order(provider)[1]
    emulated.cuts[provider] = Cut(after, mode)
    chunks = await streamed(make_router(), emulated, request)
    last = chunks[-1]
    id_ = request.request_id
    if len(last.attempts) == 1:  # all that came after the last token was half of an ending that says enough
        assert (mode, after) == ("torn", TOKENS)
        assert text_of(chunks) == "".join(answer_tokens(provider, id_, TOKENS))
        return
    begun = answer_tokens(provider, id_, TOKENS)[:after]
    assert text_of(chunks) == "".join([*begun, *answer_tokens(successor, id_, TOKENS, first=after + 1)])
    assert judge_text(text_of(chunks), id_).whole
    marks = [(chunk.provider, chunk.continued) for chunk in chunks]
    seam = ((provider,),) if after else ((),)
    assert marks == [(provider, ())] * after + [(successor, *seam)] * (TOKENS - after + 1)
    assert [(attempt.provider, attempt.outcome) for attempt in last.attempts] == [
        (provider, "failed"),
        (successor, "ok"),
    ]
    assert last.attempts[0].error in MODES[mode]
    assert last.stop_reason == "stop"
    _books_are_right(emulated, events, last, begun)


def _books_are_right(emulated: Providers, events: CapturedEvents, last: Chunk, begun: list[str]) -> None:
    """What broke off costs prompt and tokens received, as an estimate; what was whole costs what it told."""
    first, second = emulated.calls
    failed, ok = last.attempts
    settled = {spend.provider: spend for spend in events.of(Spend) if spend.action == "settle"}
    assert round(last.cost_usd * 1e6) == sum(spend.micro_usd for spend in settled.values())
    whole = Usage(prompt_tokens=second.prompt_tokens, completion_tokens=TOKENS - len(begun))
    if ModelType(ok.provider).is_cloud:
        assert settled[ok.provider].micro_usd == cost_micro_usd(price_of(ModelType(ok.provider), ok.model), whole)
        assert not settled[ok.provider].estimated
    if not begun and failed.status is not None:  # an error by its own word, before any text: nobody bills that
        assert last.usage == whole
        return
    asked = first.prompt_tokens
    received = -(-len("".join(begun)) // 4)
    # Our estimate rounds in its own way; one vendor tells the prompt's tokens before the first token.
    broken = [Usage(prompt_tokens=n, completion_tokens=received) for n in (asked, asked + 1)]
    assert last.usage is not None
    assert last.usage.estimated
    assert last.usage.completion_tokens == received + whole.completion_tokens
    assert last.usage.prompt_tokens - whole.prompt_tokens in (asked, asked + 1)
    costs = [cost_micro_usd(price_of(ModelType(failed.provider), failed.model), usage) for usage in broken]
    if ModelType(failed.provider).is_cloud:
        assert settled[failed.provider].micro_usd in costs
        assert settled[failed.provider].estimated


@modes
async def test_answer_can_pass_through_every_hand(
    emulated: Providers, make_router: Callable[..., HybridRouter], mode: Mode
) -> None:
    """Three providers in a row break after one token each: the fourth ends a text without repeat or gap."""
    request, hands = ask("gemini"), order(ModelType.GEMINI)
    for name in hands[:3]:
        emulated.cuts[name] = Cut(1, mode)
    chunks = await streamed(make_router(), emulated, request)
    written = [answer_tokens(name, request.request_id, TOKENS)[n] for n, name in enumerate(hands)]
    assert text_of(chunks) == "".join(written)
    assert chunks[-1].continued == tuple(hands[:3])
    assert [attempt.reason for attempt in chunks[-1].attempts[1:]] == ["continue"] * 3


@modes
async def test_nobody_left_to_go_on_is_an_error(
    emulated: Providers, make_router: Callable[..., HybridRouter], mode: Mode
) -> None:
    """Where everybody breaks off there is no last chunk: what came is not passed off as whole."""
    request = ask("gemini")
    for name in ModelType:
        emulated.cuts[name] = Cut(1 if name == "gemini" else 0, mode)
    chunks: list[Chunk] = []
    with pytest.raises(AllCloudsDownError) as caught:
        await streamed(make_router(), emulated, request, chunks)
    assert [chunk.stop_reason for chunk in chunks] == [None]
    assert len(caught.value.attempts) == len(ModelType)


@providers
@modes
@pytest.mark.parametrize("after", range(TOKENS))
async def test_midstream_error_ends_with_an_error_event(
    emulated: Providers, make_router: Callable[..., HybridRouter], provider: ModelType, mode: Mode, after: int
) -> None:
    """With MIDSTREAM=error the client gets every token, one error event and no [DONE]; before the first all is free."""
    request = ask(provider)
    emulated.cuts[provider] = Cut(after, mode)
    router = make_router(midstream="error")
    found = await _events_of(router, emulated, request)
    texts = [choice["delta"].get("content", "") for event in found if event for choice in event.get("choices", ())]
    writer, written = (provider, after) if after else (order(provider)[1], TOKENS)
    assert "".join(texts) == "".join(answer_tokens(writer, request.request_id, TOKENS)[:written])
    errors = [event["error"] for event in found if event and "error" in event]
    if not after:
        assert not errors
        assert found[-1] is None
        return
    (error,) = errors
    assert error["code"] in MODES[mode]
    assert error["message"]
    assert found[-1] == {"error": error}
    assert None not in found


async def _events_of(router: HybridRouter, emulated: Providers, request: Request) -> list[dict[str, Any] | None]:
    """Return the events that the gateway's own app makes of this router's stream; None stands for [DONE]."""
    parts: list[bytes] = []
    content = request.messages[0].content
    body = {"model": request.model, "stream": True, "messages": [{"role": "user", "content": content}]}
    incoming = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])
    ended = asyncio.Event()

    async def receive() -> dict[str, Any]:
        message = next(incoming, None)
        if message is None:
            await ended.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message: MutableMapping[str, Any]) -> None:
        data = message.get("body", b"")
        parts.append(data)
        for _ in range(data.count(b'"content":')):
            emulated.saw(Chunk(text="seen", provider=ModelType.LOCAL, model=""))

    endpoint = ChatEndpoint(router, GatewaySettings())
    async with router:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await endpoint(scope, receive, send)
        ended.set()
    lines = [line.removeprefix(b"data: ") for line in b"".join(parts).split(b"\n\n") if line]
    return [None if line == b"[DONE]" else json.loads(line) for line in lines]

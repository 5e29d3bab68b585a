"""The four adapters against emulated providers, over real sockets: what a caller gets, and what the provider saw."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from router import AllCloudsDownError, Chunk, HybridRouter, Message, ModelType, ProviderError, Request
from router.events import Attempt
from router.models import FAILOVER_CHAIN
from router.testing import CapturedEvents
from seawall.answers import Judgement, judge_text, marked

pytestmark = pytest.mark.real

Emulators = Any  # see conftest.py
MakeRouter = Callable[..., HybridRouter]
TOKENS = 6
_numbers = itertools.count(1)


@pytest.fixture
def events() -> CapturedEvents:
    """What the router reports."""
    return CapturedEvents()


@pytest.fixture
async def make_router(emulators: Emulators, events: CapturedEvents) -> AsyncIterator[MakeRouter]:
    """Return what makes a router in front of the emulators; all are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(**settings: object) -> HybridRouter:
            router = HybridRouter(emulators.settings(**settings), sink=events)
            stack.push_async_exit(router)
            return router

        yield make


def ask(model: str, **more: Any) -> Request:
    """Return a request with an identity of its own."""
    request_id = f"a{next(_numbers)}"
    prompt = marked(request_id, "What does a seawall do?")
    return Request(messages=(Message(role="user", content=prompt),), model=model, request_id=request_id, **more)


def successor(provider: str) -> ModelType:
    """Return who is asked after `provider` when that one is preferred."""
    return next(name for name in FAILOVER_CHAIN if name != provider)


async def streamed(router: HybridRouter, request: Request) -> tuple[str, Chunk]:
    """Return the text of a stream and its last chunk."""
    async with aclosing(router.stream(request)) as chunks:
        found = [chunk async for chunk in chunks]
    assert [chunk.stop_reason is not None for chunk in found] == [False] * (len(found) - 1) + [True]
    return "".join(chunk.text for chunk in found), found[-1]


async def answered(router: HybridRouter, request: Request, *, stream: bool) -> tuple[str, Any]:
    """Return the text, and what tells of the answer: the last chunk or the reply."""
    if stream:
        return await streamed(router, request)
    reply = await router.complete(request)
    return reply.text, reply


def judged(text: str, request: Request) -> Judgement:
    """Return the judgement of a text that must be whole."""
    judgement = judge_text(text, request.request_id)
    assert judgement.whole, f"{judgement.problem}: {text}"
    return judgement


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_answer_is_whole_and_told_as_it_was(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, stream: bool
) -> None:
    """The text is whole, and usage, model and stop reason are those that the provider itself has on record."""
    request = ask(provider)
    text, told = await answered(make_router(), request, stream=stream)
    assert judged(text, request).providers == (provider,)
    (call,) = emulators.calls(request.request_id, 1)
    assert call["completed"]
    assert call["stream"] is stream
    assert (told.provider, told.model) == (provider, call["model"])
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (call["prompt_tokens"], TOKENS)
    assert not told.usage.estimated
    assert told.stop_reason == "stop"
    assert [(attempt.provider, attempt.outcome) for attempt in told.attempts] == [(provider, "ok")]
    assert (told.cost_usd > 0) is provider.is_cloud


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_max_tokens_is_sent_and_its_stop_reason_told(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, stream: bool
) -> None:
    """An answer that ends at the caller's limit says `length`."""
    request = ask(provider, max_tokens=3)
    text, told = await answered(make_router(), request, stream=stream)
    assert judged(text, request).tokens == 3
    assert told.stop_reason == "length"
    assert told.usage.completion_tokens == 3
    assert emulators.calls(request.request_id, 1)[0]["completion_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_throttling_cools_the_provider_down(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, stream: bool
) -> None:
    """A 429 with Retry-After: the next provider answers, and nobody calls the throttled one while it cools down."""
    router = make_router()
    with emulators.misbehaving(provider, status=429, retry_after_s=30):
        first, second = ask(provider), ask(provider)
        for request in (first, second):
            text, _ = await answered(router, request, stream=stream)
            assert judged(text, request).providers == (successor(provider),)
    status = router.status()[provider]
    assert 25 < status["cooling_down_s"] <= 30
    assert (status["breaker"], status["last_error"]) == ("closed", "rate_limited")
    assert [call["provider"] for call in emulators.calls(first.request_id, 2)] == [provider, successor(provider)]
    assert [call["provider"] for call in emulators.calls(second.request_id, 1)] == [successor(provider)]


@pytest.mark.parametrize("cut_after", range(TOKENS + 1))
@pytest.mark.parametrize("provider", list(ModelType))
async def test_stream_cut_anywhere_is_whole_for_the_client(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, cut_after: int
) -> None:
    """Cut after any chunk, a stream goes on at another provider without a gap or a repetition."""
    request = ask(provider)
    with emulators.misbehaving(provider, cut_after_chunks=cut_after):
        text, last = await streamed(make_router(), request)
    judgement = judged(text, request)
    first, second = emulators.calls(request.request_id, 2)
    assert (first["completed"], second["completed"]) == (False, True)
    # A reset may overtake tokens that had left: those that came are a beginning of what was sent.
    own = text.count(f"{provider}:")
    assert own <= first["completion_tokens"] == cut_after
    assert text.count(f"{successor(provider)}:") == judgement.tokens - own == second["completion_tokens"]
    assert last.continued == ((provider,) if own else ())
    assert [attempt.outcome for attempt in last.attempts] == ["failed", "ok"]
    assert last.attempts[-1].reason == ("continue" if own else "failover")


@pytest.mark.parametrize("provider", list(ModelType))
async def test_stream_cut_at_one_after_the_other_is_whole(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """Three providers in a row are cut after two tokens each: the fourth still ends the answer, whole."""
    order = [provider, *(name for name in FAILOVER_CHAIN if name is not provider)]
    request = ask(provider)
    with emulators.misbehaving(*order[:3], cut_after_chunks=2):
        text, last = await streamed(make_router(), request)
    assert judged(text, request).tokens == TOKENS
    # The fourth is asked even where all six tokens had come: their end had not.
    assert last.provider is order[3]
    assert [attempt.outcome for attempt in last.attempts] == ["failed"] * 3 + ["ok"]


@pytest.mark.parametrize("provider", list(ModelType))
async def test_cut_json_is_answered_by_the_next(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """A JSON answer that is cut in the middle is thrown away as a whole."""
    request = ask(provider)
    with emulators.misbehaving(provider, cut_after_chunks=1):
        reply = await make_router().complete(request)
    assert judged(reply.text, request).providers == (successor(provider),)
    assert reply.attempts[0].error in ("reset", "truncated_body")


@pytest.mark.parametrize("provider", list(ModelType))
async def test_cut_stream_is_an_error_when_asked_for(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """With MIDSTREAM=error the caller gets what came, then the provider's error, and nobody else is asked."""
    request, text = ask(provider), ""
    with emulators.misbehaving(provider, cut_after_chunks=3), pytest.raises(ProviderError):  # noqa: PT012
        async with aclosing(make_router(midstream="error").stream(request)) as chunks:
            async for chunk in chunks:
                text += chunk.text
    assert judge_text(text, request.request_id).problem == "cut"
    assert len(emulators.calls(request.request_id, 1)) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_provider_that_hangs_is_left_after_the_first_byte_timeout(
    emulators: Emulators, make_router: MakeRouter, events: CapturedEvents, provider: ModelType, stream: bool
) -> None:
    """A provider that takes the request and says nothing costs the caller its timeout and no more."""
    request = ask(provider)
    router = make_router(first_byte_timeout=0.2, ollama_timeout=0.2)
    began = time.monotonic()
    with emulators.misbehaving(provider, hang=True):
        text, _ = await answered(router, request, stream=stream)
        # The provider sees that it was left before anybody tells it to stop hanging.
        assert [call["completed"] for call in emulators.calls(request.request_id, 2)] == [False, True]
    assert 0.2 <= time.monotonic() - began < 3
    assert judged(text, request).providers == (successor(provider),)
    assert [attempt.error for attempt in events.of(Attempt)] == ["first_byte_timeout", None]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_overloaded_provider_is_left_and_its_breaker_opens(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, status: int
) -> None:
    """Three server errors open the breaker; from then on the next provider is asked at once."""
    router = make_router()
    requests = [ask(provider) for _ in range(4)]
    with emulators.misbehaving(provider, status=status):
        for n, request in enumerate(requests):
            text, _ = await answered(router, request, stream=n % 2 == 1)
            assert judged(text, request).providers == (successor(provider),)
    for request in requests[:3]:
        assert len(emulators.calls(request.request_id, 2)) == 2
    assert len(emulators.calls(requests[3].request_id, 1)) == 1
    assert router.status()[provider]["breaker"] == "open"


@pytest.mark.parametrize("provider", list(ModelType))
async def test_slow_first_token_is_waited_for(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """Slower than usual but within the timeout is no failure, and its latency is kept."""
    request = ask(provider)
    router = make_router(first_byte_timeout=5)
    with emulators.misbehaving(provider, first_token_s=0.3):
        text, last = await streamed(router, request)
    assert judged(text, request).providers == (provider,)
    assert len(last.attempts) == 1
    assert 300 <= router.status()[provider]["latency_ms"] < 3000


async def test_everybody_down_is_told_with_every_attempt(emulators: Emulators, make_router: MakeRouter) -> None:
    """Four server errors are one AllCloudsDownError; with the breakers open it is told at once, with a time."""
    router = make_router()
    with emulators.misbehaving(*ModelType, status=503):
        for _ in range(3):
            with pytest.raises(AllCloudsDownError) as caught:
                await router.complete(ask("gemini"))
            assert len(caught.value.attempts) == 4
        last = ask("gemini")
        with pytest.raises(AllCloudsDownError) as caught:
            await router.complete(last)
    assert 50 < (caught.value.retry_after_s or 0) <= 66
    assert emulators.calls(last.request_id, 0) == []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_caller_who_leaves_ends_the_call(
    emulators: Emulators, make_router: MakeRouter, events: CapturedEvents, provider: ModelType, stream: bool
) -> None:
    """A cancelled request closes its connection: the provider that hangs on it sees its client go."""
    request = ask(provider)
    with emulators.misbehaving(provider, hang=True):
        work = asyncio.create_task(answered(make_router(), request, stream=stream))
        await asyncio.sleep(0.1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        (call,) = emulators.calls(request.request_id, 1)
    assert (call["behaviour"], call["completed"]) == ("fault", False)
    assert [attempt.outcome for attempt in events.of(Attempt)] == ["cancelled"]


@pytest.mark.parametrize("clients", [8, 32])
async def test_many_at_once_are_all_whole(emulators: Emulators, make_router: MakeRouter, clients: int) -> None:
    """JSON and streams at the same time, to every provider, one of them cut: each caller gets its own whole answer."""
    router = make_router(circuit_breaker_failure_threshold=10_000)
    requests = [ask(list(ModelType)[n % 4]) for n in range(clients)]
    with emulators.misbehaving("gemini", cut_after_chunks=3):
        results = await asyncio.gather(
            *(answered(router, request, stream=n % 8 < 4) for n, request in enumerate(requests))
        )
    for request, (text, _) in zip(requests, results, strict=True):
        judged(text, request)


async def test_health_check_finds_who_is_there(emulators: Emulators, make_router: MakeRouter) -> None:
    """Every provider that listens is reachable; one without a key is not asked; a dead port is not reachable."""
    found = await make_router(openai_api_key="", anthropic_base_url="http://127.0.0.1:9").health_check()
    assert {name: entry["reachable"] for name, entry in found.items()} == {
        "gemini": True,
        "claude": False,
        "openai": None,
        "local": True,
    }


async def test_air_gap_is_served_by_the_local_provider(emulators: Emulators, make_router: MakeRouter) -> None:
    """Sovereign mode needs nothing but Ollama: a request without a preference is answered, whole."""
    router = make_router(airgap_mode=True)
    text = await router.route_request(marked("airgap", "hi"))
    assert judge_text(text, "airgap").providers == ("local",)
    assert [call["provider"] for call in emulators.calls("airgap", 1)] == ["local"]

"""The engine: who is tried, what is counted, what the caller gets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router import (
    AllCloudsDownError,
    DeadlineExceeded,
    HybridRouter,
    Message,
    ModelType,
    ProviderError,
    Request,
    RequestError,
)
from router.adapters.base import CONTINUE_INSTRUCTION
from router.errors import ConnectFailed, FirstByteTimeout, IdleTimeout, Reset, TransportError, TruncatedBody
from router.events import Attempt, BreakerChange, Skip, Spend
from router.models import DEFAULT_PREFERRED, Chunk
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, scripted_router, test_settings

REFUSED = Answering(text=None, error=ConnectFailed("refused"))


def _refusing(*providers: str) -> ScriptedTransport:
    return ScriptedTransport({provider: [REFUSED] for provider in providers})


CLOUDS = ("gemini", "claude", "openai")


def _ask(model: str = DEFAULT_PREFERRED, **more: object) -> Request:
    return Request(messages=(Message(role="user", content="hi"),), model=model, **more)  # type: ignore[arg-type]


async def _stream(router: HybridRouter, request: Request) -> list[Chunk]:
    async with aclosing(router.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def _text(router: HybridRouter, request: Request, *, stream: bool) -> str:
    if stream:
        return "".join(chunk.text for chunk in await _stream(router, request))
    return (await router.complete(request)).text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", list(ModelType))
async def test_preferred_provider_answers(provider: ModelType, stream: bool) -> None:
    """A healthy preferred provider gives the answer, alone, in either mode."""
    script = ScriptedTransport({provider: [Answering(text="a sea wall")]})
    router = scripted_router(script)
    assert await _text(router, _ask(provider), stream=stream) == "a sea wall"
    assert [name for name, _ in script.calls] == [provider]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        REFUSED,
        Answering(text=None, error=Reset("reset")),
        Answering(text=None, error=FirstByteTimeout("slow")),
        Answering(status=408),
        Answering(status=429),
        Answering(status=500),
        Answering(status=529),
        Answering(status=401),
        Answering(status=403),
        Answering(status=404),
        Answering(body=b"<html>maintenance</html>", content_type="text/html"),
        Answering(body=b"<html>maintenance</html>"),
        Answering(body=b""),
        Answering(body=b'{"candidates"'),
        Answering(text=""),
    ],
)
async def test_a_fault_at_the_first_moves_on_to_the_second(fault: Answering, stream: bool) -> None:
    """Whatever a provider does wrong but a client error, the next in the chain answers, whole."""
    script = ScriptedTransport({"gemini": [fault], "claude": [Answering(text="all is well")]})
    assert await _text(scripted_router(script), _ask(), stream=stream) == "all is well"
    assert [name for name, _ in script.calls] == ["gemini", "claude"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_client_errors_are_not_retried_nor_counted(status: int) -> None:
    """What is wrong with the request is told at once, and says nothing about the provider."""
    events = CapturedEvents()
    script = ScriptedTransport({"gemini": [Answering(status=status)]})
    router = scripted_router(script, sink=events)
    for _ in range(5):
        with pytest.raises(RequestError):
            await router.complete(_ask())
    assert {name for name, _ in script.calls} == {"gemini"}
    assert not events.of(BreakerChange)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_configuration_errors_raise_the_alarm_and_do_not_open(status: int) -> None:
    """A bad key moves on for ever without opening the breaker, and the status shows the alarm."""
    router = scripted_router(ScriptedTransport({"gemini": [Answering(status=status)]}))
    for _ in range(5):
        assert (await router.complete(_ask())).provider is ModelType.CLAUDE
    shown = router.status()["gemini"]
    assert shown["breaker"] == "closed"
    assert shown["alarm"] is not None


async def test_open_breaker_spares_the_provider_until_its_probe() -> None:
    """Three failures open it; while open nobody calls; after the timeout one probe brings it back."""
    clock, events = FakeClock(), CapturedEvents()
    script = ScriptedTransport({"gemini": [REFUSED, REFUSED, REFUSED, Answering(text="back")]})
    router = scripted_router(script, clock=clock, sink=events)
    for _ in range(10):
        assert (await router.complete(_ask())).provider is ModelType.CLAUDE
    assert len(script.calls_to("gemini")) == 3
    assert {skip.reason for skip in events.of(Skip)} == {"breaker_open"}
    clock.advance(60.0)
    reply = await router.complete(_ask())
    assert (reply.provider, reply.text) == (ModelType.GEMINI, "back")
    assert reply.attempts[0].reason == "probe"
    assert [change.to for change in events.of(BreakerChange)] == ["open", "half_open", "closed"]


@pytest.mark.parametrize("header", ["30", "Tue, 14 Nov 2023 22:13:50 GMT"])
async def test_retry_after_cools_down_without_a_call(header: str) -> None:
    """A 429 with Retry-After keeps its provider alone for as long as it asked, in seconds or as a date."""
    clock, events = FakeClock(), CapturedEvents()
    limited = Answering(status=429, headers=(("retry-after", header),))
    script = ScriptedTransport({"gemini": [limited, Answering(text="back")]})
    router = scripted_router(script, clock=clock, sink=events)
    for _ in range(4):
        assert (await router.complete(_ask())).provider is ModelType.CLAUDE
        clock.advance(9.9)
    assert len(script.calls_to("gemini")) == 1
    assert [skip.reason for skip in events.of(Skip)] == ["cooling_down"] * 3
    assert (await router.complete(_ask())).text == "back"


async def test_second_failure_never_shortens_a_cooldown() -> None:
    """Two calls in flight are throttled; the longer pause counts, whichever comes last."""
    clock = FakeClock()
    long = Answering(status=429, headers=(("retry-after", "30"),), delay_s=0.0)
    short = Answering(status=429, headers=(("retry-after", "1"),), delay_s=0.02)
    script = ScriptedTransport({"gemini": [long, short, Answering(text="back")]})
    router = scripted_router(script, clock=clock)
    await asyncio.gather(router.complete(_ask()), router.complete(_ask()))
    clock.advance(29.0)
    assert (await router.complete(_ask())).provider is ModelType.CLAUDE
    clock.advance(1.0)
    assert (await router.complete(_ask())).provider is ModelType.GEMINI


@pytest.mark.parametrize("provider", list(ModelType))
@pytest.mark.parametrize("error", [Reset("reset"), IdleTimeout("idle"), TruncatedBody("cut"), None])
@pytest.mark.parametrize("cut_after", [1, 2, 4])
async def test_cut_stream_goes_on_at_the_next_provider(
    provider: ModelType, error: TransportError | None, cut_after: int
) -> None:
    """After a cut, in an orderly way or not, the next provider is asked to go on from the text so far."""
    follower = ModelType.CLAUDE if provider is ModelType.GEMINI else ModelType.GEMINI
    script = ScriptedTransport(
        {
            provider: [Answering(text="one two three four", cut_after=cut_after, error=error)],
            follower: [Answering(text="REST")],
        }
    )
    chunks = await _stream(scripted_router(script), _ask(provider))
    so_far = "".join(word + " " for word in ["one", "two", "three", "four"][:cut_after])
    so_far = so_far if cut_after < 4 else so_far.removesuffix(" ")
    assert "".join(chunk.text for chunk in chunks) == so_far + "REST"
    assert chunks[-1].provider is follower
    assert chunks[-1].continued == (provider,)
    asked = script.calls_to(follower)[0].body.decode()
    assert so_far in asked
    assert CONTINUE_INSTRUCTION in asked


async def test_midstream_error_is_raised_when_asked_for() -> None:
    """With MIDSTREAM=error the caller gets the provider's own error, and nobody else is asked."""
    cut = Answering(text="one two three", cut_after=2, error=Reset("reset"))
    script = ScriptedTransport({"gemini": [cut]})
    router = scripted_router(script, settings=test_settings(midstream="error"))
    with pytest.raises(ProviderError):
        await _stream(router, _ask())
    assert len(script.calls) == 1


async def test_break_after_the_last_token_loses_nothing() -> None:
    """A connection that breaks once the provider has said that the text is complete is no failure."""
    body = (
        b'data: {"choices":[{"delta":{"content":"whole"}}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    )
    script = ScriptedTransport({"openai": [Answering(body=body)]})
    chunks = await _stream(scripted_router(script), _ask("openai"))
    assert "".join(chunk.text for chunk in chunks) == "whole"
    assert chunks[-1].attempts[0].outcome == "ok"


@pytest.mark.parametrize("stream", [False, True])
async def test_all_down_says_so_with_every_attempt(stream: bool) -> None:
    """Four refusals make one AllCloudsDownError, which is a SystemError, with four attempts."""
    router = scripted_router(_refusing(*ModelType))
    with pytest.raises(SystemError, match=r"^All Clouds Down") as caught:
        await _text(router, _ask(), stream=stream)
    assert isinstance(caught.value, AllCloudsDownError)
    assert [attempt.provider for attempt in caught.value.attempts] == ["gemini", "claude", "openai", "local"]


async def test_all_open_is_told_at_once_with_the_soonest_probe() -> None:
    """When every breaker is open no call is made, and the error knows when to come back."""
    clock = FakeClock()
    script = _refusing(*ModelType)
    router = scripted_router(script, clock=clock)
    for _ in range(3):
        with pytest.raises(AllCloudsDownError):
            await router.complete(_ask())
    made = len(script.calls)
    clock.advance(20.0)
    with pytest.raises(AllCloudsDownError) as caught:
        await router.complete(_ask())
    assert len(script.calls) == made
    assert caught.value.retry_after_s == pytest.approx(40.0)


async def test_cancelled_call_counts_as_neither_and_frees_everything() -> None:
    """A caller who leaves ends the upstream call, gives the probe's slot back and settles the reservation."""
    clock, events = FakeClock(), CapturedEvents()
    script = ScriptedTransport(
        {"gemini": [REFUSED] * 3 + [Answering(text="slow", delay_s=60.0), Answering(text="back")]}
    )
    router = scripted_router(script, clock=clock, sink=events)
    for _ in range(3):
        await router.complete(_ask())
    clock.advance(60.0)
    probe = asyncio.create_task(router.complete(_ask()))
    async with asyncio.timeout(5):
        while len(script.calls_to("gemini")) < 4:  # noqa: ASYNC110 - the script has no event to wait for
            await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert script.open_calls == 0
    assert events.of(Attempt)[-1].outcome == "cancelled"
    assert (await router.complete(_ask())).text == "back"
    await router.aclose()
    reserved = {spend.reservation_id for spend in events.of(Spend) if spend.action == "reserve"}
    settled = [spend.reservation_id for spend in events.of(Spend) if spend.action == "settle"]
    assert sorted(settled) == sorted(reserved)


async def test_leaving_a_stream_ends_the_upstream_call() -> None:
    """Closing the iterator after the first chunk closes the connection and reports the attempt as cancelled."""
    events = CapturedEvents()
    script = ScriptedTransport({"gemini": [Answering(text="one two three four five")]})
    router = scripted_router(script, sink=events)
    async with aclosing(router.stream(_ask())) as chunks:
        await anext(chunks)
        assert script.open_calls == 1
    assert script.open_calls == 0
    assert [attempt.outcome for attempt in events.of(Attempt)] == ["cancelled"]


async def test_callers_short_patience_opens_nothing() -> None:
    """A caller with a tiny timeout gets DeadlineExceeded, and the provider's breaker does not hear of it."""
    events = CapturedEvents()
    script = ScriptedTransport({"gemini": [Answering(delay_s=60.0)]})
    router = scripted_router(script, sink=events)
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            await router.complete(_ask(timeout_s=0.01))
    assert not events.of(BreakerChange)
    assert script.open_calls == 0


async def test_failover_keeps_system_prompt_stream_flag_and_limits() -> None:
    """The second provider is asked the same thing as the first, in its own format."""
    script = ScriptedTransport({"gemini": [REFUSED]})
    messages = (Message(role="system", content="be brief"), Message(role="user", content="hi"))
    request = Request(messages=messages, model="gemini-pro", max_tokens=7, temperature=0.5, stop=("END",))
    await _stream(scripted_router(script), request)
    body = script.calls_to("claude")[0].body.decode()
    for part in (
        '"system":"be brief"',
        '"max_tokens":7',
        '"stop_sequences":["END"]',
        '"stream":true',
    ):
        assert part in body
    assert '"model":"claude-sonnet-5-5"' in body
    assert '"temperature":0.5' in script.calls_to("gemini")[0].body.decode()
    assert "temperature" not in body, "this model takes none"


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    down=st.sets(st.sampled_from(list(ModelType))),
    preferred=st.sampled_from(list(ModelType)),
    keys=st.sets(st.sampled_from(["gemini_api_key", "anthropic_api_key", "openai_api_key"])),
    stream=st.booleans(),
)
def test_order_is_preferred_then_chain(
    down: set[ModelType], preferred: ModelType, keys: set[str], stream: bool
) -> None:
    """Whoever is down or without a key, calls go in the plan's order and stop at the first that can answer."""

    async def check() -> None:
        script = _refusing(*down)
        router = scripted_router(script, settings=test_settings(**dict.fromkeys(keys, "")))
        order = [ModelType.GEMINI, ModelType.CLAUDE, ModelType.OPENAI, ModelType.LOCAL]
        chain = [preferred, *(name for name in order if name is not preferred)]
        keyed = {
            ModelType.GEMINI: "gemini_api_key" not in keys,
            ModelType.CLAUDE: "anthropic_api_key" not in keys,
            ModelType.OPENAI: "openai_api_key" not in keys,
            ModelType.LOCAL: True,
        }
        willing = [name for name in chain if keyed[name]]
        up = [n for n, name in enumerate(willing) if name not in down]
        expected = willing[: up[0] + 1] if up else willing
        try:
            await _text(router, _ask(preferred), stream=stream)
        except AllCloudsDownError:
            assert not up
        assert [name for name, _ in script.calls] == expected

    asyncio.run(check())


async def test_health_check_asks_everybody_and_changes_nothing() -> None:
    """Each provider's entry says whether it answers; breakers stay as they are."""
    events = CapturedEvents()
    script = ScriptedTransport({"claude": [REFUSED], "openai": [Answering(status=500)]})
    router = scripted_router(script, sink=events, settings=test_settings(gemini_api_key=""))
    found = await router.health_check()
    assert {name: entry["reachable"] for name, entry in found.items()} == {
        "gemini": None,
        "claude": False,
        "openai": False,
        "local": True,
    }
    assert not list(events)
    assert await router.is_local_available()

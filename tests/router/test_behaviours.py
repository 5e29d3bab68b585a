"""Every way in which a provider misbehaves, at every provider, JSON and stream: what the client gets of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

import pytest

from router import Chunk, HybridRouter, Message, ModelType, Request
from router.events import Attempt, Spend
from router.models import FAILOVER_CHAIN
from router.testing import Answering, CapturedEvents, ScriptedTransport, scripted_router
from seawall.answers import judge_text, marked
from seawall.emulators.behaviour import VENDORS
from seawall.emulators.damage import told_usage
from seawall.emulators.steps import Behaviour
from seawall.gateway.wire import completion_json, final_chunks

pytestmark = pytest.mark.real

Emulators = Any  # see conftest.py
MakeRouter = Callable[..., HybridRouter]
TOKENS = 6
SEED = 3
LITTLE_PATIENCE = dict.fromkeys(("first_byte_timeout", "ollama_timeout", "idle_timeout"), 1.0)
PATIENT_FOR_THE_FIRST = LITTLE_PATIENCE | {"first_byte_timeout": 3.0, "ollama_timeout": 3.0}
"""On a busy machine a first token may take a second, and it has to come before the next one is missed."""
_numbers = itertools.count(1)

modes = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
providers = pytest.mark.parametrize("provider", list(ModelType))


class Harm(NamedTuple):
    """A failure of one provider: the errors that its attempt may end in, and what a client keeps of its stream."""

    what: dict[str, Any]
    json: tuple[str, ...]
    stream: tuple[str, ...]
    kept: int = 0
    """Tokens of a stream that the client had from it before it failed."""


BODY = ("invalid_answer",)
FAILURES = {
    "status": Harm({"status": 503}, ("provider_overloaded",), ("provider_overloaded",)),
    "hang": Harm({"hang": True}, ("first_byte_timeout",), ("first_byte_timeout",)),
    "dribble_s": Harm({"dribble_s": 5.0}, ("first_byte_timeout",), ("idle_timeout",), kept=1),
    "cut_after_chunks": Harm({"cut_after_chunks": 2}, ("reset", "truncated_body"), ("reset", "truncated_body"), kept=2),
    "malformed": Harm({"malformed": True}, BODY, BODY, kept=3),
    "truncated": Harm({"truncated": True}, BODY, ("truncated_body",), kept=5),
    "empty": Harm({"empty": True}, BODY, ("truncated_body",)),
    "html": Harm({"html": True}, BODY, BODY),
    "error_event": Harm({"error_event": True}, BODY, ("invalid_answer", "provider_overloaded"), kept=2),
    "content_type": Harm({"content_type": "text/plain"}, BODY, BODY),
    "no_done": Harm({"no_done": True}, (), ("truncated_body",), kept=6),
}
"""What ends an attempt. No error: such an answer is taken, for the behaviour cannot harm it."""
TAKEN = {"first_token_s", "wrong_usage", "duplicate_chunks", "content_filter", "wrong_model"}
"""What is odd, and an answer all the same."""


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


def ask(model: str, request_id: str = "", **more: Any) -> Request:
    """Return a request with an identity of its own."""
    request_id = request_id or f"b{next(_numbers)}"
    prompt = marked(request_id, "What does a seawall do?")
    return Request(messages=(Message(role="user", content=prompt),), model=model, request_id=request_id, **more)


def successor(provider: str) -> ModelType:
    """Return who is asked after `provider` when that one is preferred."""
    return next(name for name in FAILOVER_CHAIN if name != provider)


async def answered(router: HybridRouter, request: Request, *, stream: bool) -> tuple[str, Any]:
    """Return the text, and what tells of the answer: the last chunk or the reply."""
    if not stream:
        reply = await router.complete(request)
        return reply.text, reply
    async with aclosing(router.stream(request)) as chunks:
        found: list[Chunk] = [chunk async for chunk in chunks]
    return "".join(chunk.text for chunk in found), found[-1]


def test_table_has_every_behaviour() -> None:
    """A behaviour that the emulators learn is one that the router is tried with."""
    fields = set(Behaviour.__struct_fields__) - {"fault_id", "injection_rate", "retry_after_s"}
    assert set(FAILURES) | TAKEN == fields


@modes
@providers
@pytest.mark.parametrize("name", FAILURES)
async def test_failure_is_counted_and_the_client_has_a_whole_text(
    emulators: Emulators, make_router: MakeRouter, name: str, provider: ModelType, stream: bool
) -> None:
    """The text is whole, without repeat or gap; the attempt failed by its name, and the breaker has counted it."""
    harm, request = FAILURES[name], ask(provider)
    errors = harm.stream if stream else harm.json
    patience = LITTLE_PATIENCE if name in ("hang", "dribble_s") else {}
    if name == "dribble_s" and stream:
        patience = PATIENT_FOR_THE_FIRST
    router = make_router(circuit_breaker_failure_threshold=1, **patience)
    with emulators.misbehaving(provider, **harm.what):
        text, told = await answered(router, request, stream=stream)
    judgement = judge_text(text, request.request_id)
    assert judgement.whole, f"{judgement.problem}: {text}"
    assert told.stop_reason == "stop"
    if not errors:
        assert [(attempt.provider, attempt.outcome) for attempt in told.attempts] == [(provider, "ok")]
        return
    first, second = told.attempts
    assert (first.provider, first.outcome, second.provider, second.outcome) == (
        *(provider, "failed"),
        *(successor(provider), "ok"),
    )
    assert first.error in errors
    assert router.status()[provider]["breaker"] == "open"
    kept = harm.kept if stream else 0
    # A reset may overtake tokens that had left.
    assert text.count(f"{provider}:") in ((range(kept + 1)) if name == "cut_after_chunks" else (kept,))
    assert judgement.tokens == TOKENS
    if stream and name != "cut_after_chunks":
        assert second.reason == ("continue" if kept else "failover")
    assert emulators.calls(request.request_id, 2)[0]["behaviour"] == "fault"


@providers
async def test_stream_that_fails_everywhere_else_is_still_whole(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """Three providers fail one after the other, each in another way and with text out: the fourth ends the answer."""
    order = [provider, *(name for name in FAILOVER_CHAIN if name is not provider)]
    request = ask(provider)
    with (
        emulators.misbehaving(order[0], error_event=True),
        emulators.misbehaving(order[1], dribble_s=5.0),
        emulators.misbehaving(order[2], truncated=True),
    ):
        text, told = await answered(make_router(**LITTLE_PATIENCE), request, stream=True)
    judgement = judge_text(text, request.request_id)
    assert judgement.whole, f"{judgement.problem}: {text}"
    assert judgement.providers == tuple(order)
    assert [text.count(f"{name}:") for name in order] == [2, 1, 2, 1]
    assert told.provider is order[3]


@modes
@providers
async def test_slow_first_token_is_waited_for(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, stream: bool
) -> None:
    """Within the first-byte timeout a slow answer is an answer."""
    request = ask(provider)
    with emulators.misbehaving(provider, first_token_s=0.05):
        text, told = await answered(make_router(), request, stream=stream)
    assert judge_text(text, request.request_id).providers == (provider,)
    assert len(told.attempts) == 1


@providers
async def test_dribble_within_the_idle_timeout_is_waited_for(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """Slow tokens are no failure as long as each comes in time."""
    request = ask(provider)
    with emulators.misbehaving(provider, dribble_s=0.02):
        text, told = await answered(make_router(), request, stream=True)
    assert judge_text(text, request.request_id).providers == (provider,)
    assert len(told.attempts) == 1


LAST_LINE = b'{"message": {"content": "."}, "done": true, "done_reason": "stop"}'


@pytest.mark.parametrize(("last", "error"), [(LAST_LINE, None), (LAST_LINE[:-9], "truncated_body")])
async def test_last_line_without_its_end_is_whole_or_cut(last: bytes, error: str | None) -> None:
    """A line that can be parsed is one, also where the line end is missing; half of one is a cut stream."""
    body = b'{"message": {"content": "yes"}, "done": false}\n' + last
    script = {"local": [Answering(body=body)], "gemini": [Answering(text="!")]}
    text, told = await answered(scripted_router(ScriptedTransport(script)), ask("local"), stream=True)
    assert text == ("yes." if error is None else "yes!")
    assert told.attempts[0].error == error


LIES = {"zero": (0, 0), "negative": (-9, -6), "absurd": (10**12, 10**12), "missing": None}


def lied_to(lie: str) -> str:
    """Return the id of a request that meets this lie."""
    behaviour = Behaviour(fault_id="fault", wrong_usage=True)
    names = (f"lie{next(_numbers)}" for _ in itertools.count())
    return next(name for name in names if told_usage((9, 6), behaviour, SEED, name) == LIES[lie])


@modes
@providers
@pytest.mark.parametrize("lie", LIES)
async def test_wrong_usage_is_never_booked(
    emulators: Emulators, make_router: MakeRouter, events: CapturedEvents, lie: str, provider: ModelType, stream: bool
) -> None:
    """The text is taken; what is booked is an estimate that says so: above nothing, at most what was reserved."""
    request = ask(provider, lied_to(lie), max_tokens=64)
    router = make_router()
    with emulators.misbehaving(provider, wrong_usage=True):
        text, told = await answered(router, request, stream=stream)
    assert judge_text(text, request.request_id).providers == (provider,)
    assert [attempt.outcome for attempt in told.attempts] == ["ok"]
    assert told.usage.estimated
    assert 0 < told.usage.prompt_tokens < 100
    assert 0 < told.usage.completion_tokens <= 64
    await router.aclose()
    spends = events.of(Spend)
    assert [spend.action for spend in spends] == (["reserve", "settle"] if provider.is_cloud else [])
    if provider.is_cloud:
        reserved, settled = spends
        assert settled.estimated
        assert 0 < settled.micro_usd <= reserved.micro_usd
        assert settled.total_micro_usd == settled.micro_usd
        assert told.cost_usd == settled.micro_usd / 1_000_000


@modes
@providers
async def test_content_filter_is_told_and_nobody_else_is_asked(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, stream: bool
) -> None:
    """What the filter let through reaches the client, whole, with finish_reason content_filter; it is no failure."""
    request = ask(provider)
    router = make_router(circuit_breaker_failure_threshold=1)
    with emulators.misbehaving(provider, content_filter=True):
        text, told = await answered(router, request, stream=stream)
    judgement = judge_text(text, request.request_id)
    assert (judgement.whole, judgement.tokens, judgement.providers) == (True, TOKENS // 2, (provider,))
    assert told.stop_reason == "content_filter"
    if stream:
        first_event = final_chunks(told, "id", 0, include_usage=False).split(b"\n\n")[0]
        shown = json.loads(first_event.removeprefix(b"data: "))
    else:
        shown = json.loads(completion_json(told, "id", 0))
    assert shown["choices"][0]["finish_reason"] == "content_filter"
    assert len(emulators.calls(request.request_id, 1)) == 1
    assert router.status()[provider]["breaker"] == "closed"


@modes
@providers
async def test_another_model_is_taken_and_named(
    emulators: Emulators, make_router: MakeRouter, events: CapturedEvents, provider: ModelType, stream: bool
) -> None:
    """The client is told who has answered; the attempt keeps the model that was asked for."""
    request = ask(provider)
    with emulators.misbehaving(provider, wrong_model=True):
        text, told = await answered(make_router(), request, stream=stream)
    assert judge_text(text, request.request_id).providers == (provider,)
    assert told.model == VENDORS[provider].OTHER_MODEL
    (attempt,) = events.of(Attempt)
    (call,) = emulators.calls(request.request_id, 1)
    assert attempt.model == call["model"] != told.model


@providers
async def test_repeated_chunks_are_passed_on_and_seen_by_the_harness(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """No router can tell a repetition by mistake from one that is meant; whoever knows the text can."""
    request = ask(provider)
    with emulators.misbehaving(provider, duplicate_chunks=True):
        text, told = await answered(make_router(), request, stream=True)
    judgement = judge_text(text, request.request_id)
    assert (judgement.problem, judgement.tokens, judgement.providers) == ("repeated", 2 * TOKENS, (provider,))
    assert [attempt.outcome for attempt in told.attempts] == ["ok"]


@providers
@pytest.mark.parametrize("name", ["no_done", "duplicate_chunks"])
async def test_answer_that_cannot_be_harmed_is_not_marked(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType, name: str
) -> None:
    """A fault of streams does not take JSON answers: a run that sends only these has not met it."""
    request = ask(provider)
    with emulators.misbehaving(provider, **{name: True}):
        text, _ = await answered(make_router(), request, stream=False)
    assert judge_text(text, request.request_id).whole
    assert emulators.calls(request.request_id, 1)[0]["behaviour"] == "healthy"


@providers
async def test_conversation_that_ends_with_the_assistant_is_continued(
    emulators: Emulators, make_router: MakeRouter, provider: ModelType
) -> None:
    """A text that the caller has begun for the assistant stays in front of what is continued, and is legal."""
    first = ask(provider)
    begun = Message(role="assistant", content="Well:")
    request = Request(messages=(*first.messages, begun), model=provider, request_id=first.request_id)
    with emulators.misbehaving(provider, error_event=True):
        text, told = await answered(make_router(), request, stream=True)
    assert judge_text(text, request.request_id).whole
    assert [attempt.status for attempt in told.attempts][-1] == 200

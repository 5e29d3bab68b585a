"""The retry budget: no storm multiplies calls, and no failover that a dead provider needs is refused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import AllCloudsDownError, HybridRouter, Message, ModelType, Request
from router.errors import ConnectFailed, SeawallError
from router.events import Attempt, Skip
from router.retry import RetryBudget
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, scripted_router, test_settings

DEAD = [Answering(status=500)]
SMALL = {"retry_budget_ratio": 0, "retry_budget_per_second": 0, "retry_budget_burst": 0}


def _ask(**more: object) -> Request:
    return Request(messages=(Message(role="user", content="hi"),), **more)  # type: ignore[arg-type]


async def _storm(router: HybridRouter, *, requests: int, clients: int) -> int:
    """Return how many of `requests`, so many at a time, were answered."""
    free = asyncio.Semaphore(clients)

    async def one() -> bool:
        async with free:
            try:
                return bool((await router.complete(_ask())).text)
            except SeawallError:
                return False

    return sum(await asyncio.gather(*(one() for _ in range(requests))))


def test_bucket_begins_full_and_is_empty_after_its_burst() -> None:
    """As many extra attempts as were saved up, and not one more."""
    budget = RetryBudget(ratio=0.2, per_second=0, burst=3, now_s=0.0)
    assert [budget.withdraw(0.0) for _ in range(4)] == [True, True, True, False]


def test_good_answers_and_time_pay_for_extra_attempts() -> None:
    """Five good answers at 20 % buy one; so does the time that the floor needs."""
    budget = RetryBudget(ratio=0.2, per_second=2.0, burst=1, now_s=0.0)
    assert budget.withdraw(0.0)
    for _ in range(4):
        budget.deposit()
    assert not budget.withdraw(0.0)
    budget.deposit()
    assert budget.withdraw(0.0)
    assert not budget.withdraw(0.4)
    assert budget.withdraw(0.5)
    assert [budget.withdraw(1000.0) for _ in range(3)] == [True, False, False]


@given(st.lists(st.one_of(st.just("good"), st.floats(0, 2)), max_size=200))
def test_extra_attempts_are_bounded_by_what_was_paid(steps: list[str | float]) -> None:
    """Whatever the order: at most the burst, the share of the good answers and the floor's time."""
    budget, now_s, good, taken = RetryBudget(ratio=0.2, per_second=3.0, burst=5, now_s=0.0), 0.0, 0, 0
    for step in steps:
        if isinstance(step, str):
            budget.deposit()
            good += 1
        else:
            now_s += step
        taken += budget.withdraw(now_s)
        assert taken <= 5 + 0.2 * good + 3.0 * now_s + 1e-6


@pytest.mark.parametrize("clients", [8, 32])
@pytest.mark.parametrize("fault", [Answering(status=500), Answering(status=401), Answering(status=429)])
async def test_dead_primary_costs_nobody_an_answer(fault: Answering, clients: int) -> None:
    """Two hundred requests, the first provider dead for all of them: everyone is served, though nothing is saved up."""
    script = ScriptedTransport({"gemini": [fault]})
    router = scripted_router(script, settings=test_settings(**SMALL))
    assert await _storm(router, requests=200, clients=clients) == 200


async def test_two_dead_providers_at_once_are_within_the_burst() -> None:
    """With 256 clients in flight when two providers die, each moves on twice: the default bucket holds that."""
    script = ScriptedTransport({"gemini": DEAD, "claude": [Answering(text=None, error=ConnectFailed("refused"))]})
    router = scripted_router(script)
    assert await _storm(router, requests=400, clients=256) == 400


async def test_wrong_keys_cost_no_budget() -> None:
    """A refused key says nothing of a provider's load: with three of them, everyone still reaches the fourth."""
    refused = [Answering(status=401)]
    script = ScriptedTransport({"gemini": refused, "claude": refused, "openai": refused})
    router = scripted_router(script, settings=test_settings(**SMALL))
    assert await _storm(router, requests=50, clients=8) == 50


async def test_storm_does_not_multiply_calls() -> None:
    """Everything fails, and no breaker opens: calls stay at two a request and the burst, not four a request."""
    events, clock = CapturedEvents(), FakeClock()
    script = ScriptedTransport(dict.fromkeys(ModelType, DEAD))
    settings = test_settings(circuit_breaker_failure_threshold=10_000, retry_budget_burst=20, retry_budget_per_second=0)
    router = scripted_router(script, settings=settings, sink=events, clock=clock)
    assert await _storm(router, requests=200, clients=8) == 0
    assert len(script.calls) == 2 * 200 + 20
    assert "retry_budget" in {skip.reason for skip in events.of(Skip)}


async def test_refused_retry_is_a_clean_error_with_a_time() -> None:
    """The caller gets AllCloudsDownError at once, with its attempts and a moment to wait."""
    settings = test_settings(circuit_breaker_failure_threshold=10_000, **SMALL)
    router = scripted_router(ScriptedTransport(dict.fromkeys(ModelType, DEAD)), settings=settings)
    with pytest.raises(AllCloudsDownError) as caught:
        await router.complete(_ask())
    assert [attempt.provider for attempt in caught.value.attempts] == ["gemini", "claude"]
    assert caught.value.retry_after_s == 1.0


async def test_attempts_of_gateways_in_front_count() -> None:
    """A request that is itself a retry has no free failover, and an empty account of attempts allows one."""
    settings = test_settings(circuit_breaker_failure_threshold=10_000, attempts_max=3)
    for told, made in ((0, 3), (1, 2), (2, 1), (9, 1)):
        script = ScriptedTransport(dict.fromkeys(ModelType, DEAD))
        with pytest.raises(AllCloudsDownError) as caught:
            await scripted_router(script, settings=settings).complete(_ask(attempts=told))
        assert (len(script.calls), caught.value.calls) == (made, made)
    retried = test_settings(circuit_breaker_failure_threshold=10_000, **SMALL)
    script = ScriptedTransport({"gemini": DEAD})
    with pytest.raises(AllCloudsDownError):
        await scripted_router(script, settings=retried).complete(_ask(attempts=1))


async def test_attempts_of_a_gateway_behind_count() -> None:
    """A provider that is a gateway tells in its refusal how many attempts it made: they are not made again."""
    behind = Answering(status=503, headers=(("x-seawall-attempts", "6"),))
    script = ScriptedTransport(dict.fromkeys(ModelType, DEAD) | {"gemini": [behind]})
    with pytest.raises(AllCloudsDownError) as caught:
        await scripted_router(script).complete(_ask())
    assert [attempt.provider for attempt in caught.value.attempts] == ["gemini", "claude", "openai"]
    assert caught.value.calls == 8


async def test_layers_are_told_what_was_tried_and_how_much_time_is_left() -> None:
    """A first attempt says nothing, later ones how many there were; a caller's timeout goes along as what is left."""
    clock = FakeClock()
    script = ScriptedTransport({"gemini": [Answering(status=500, delay_s=2.0)]}, clock=clock)
    router = scripted_router(script, clock=clock)
    await router.complete(_ask())
    await router.complete(_ask(timeout_s=10.0, attempts=2))
    told = [{name: value for name, value in call.headers if name.startswith("x-seawall")} for _, call in script.calls]
    assert told == [
        {},
        {"x-seawall-attempts": "1"},
        {"x-seawall-attempts": "2", "x-seawall-timeout": "10.000"},
        {"x-seawall-attempts": "3", "x-seawall-timeout": "8.000"},
    ]


async def test_extra_attempts_are_reported_as_such() -> None:
    """Each attempt beyond the first says why it was made."""
    events = CapturedEvents()
    script = ScriptedTransport({"gemini": DEAD, "claude": DEAD})
    assert (await scripted_router(script, sink=events).complete(_ask())).provider is ModelType.OPENAI
    assert [attempt.reason for attempt in events.of(Attempt)] == ["preferred", "failover", "failover"]

"""The standing of one provider: its cooldown, its alarm, and a breaker that lives through any outage."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.breaker import Breaker, BreakerOptions, BreakerState
from router.errors import AuthenticationFailed, ModelNotFound, ProviderOverloaded, RateLimited, Reset
from router.health import ProviderHealth
from router.latency import LatencyOptions, LatencyWatch
from router.models import Message, ModelType, Request
from router.testing import ScriptedTransport, scripted_router


def health(**options: float) -> ProviderHealth:
    """Return the standing of a provider whose breaker opens at the first failure and has no jitter."""
    breaker = Breaker(BreakerOptions(failure_threshold=1, **options), draw=lambda: 0.0)  # type: ignore[arg-type]
    return ProviderHealth(
        ModelType.GEMINI, breaker, LatencyWatch(LatencyOptions()), has_key=True, retry_after_max_s=100.0
    )


@pytest.mark.parametrize("factor", [1.0, 1.01, 2.0, 10.0])
def test_breaker_outlives_an_outage_of_any_length(factor: float) -> None:
    """After thousands of failed probes the back-off is its cap, and one good probe still closes the breaker."""
    options = BreakerOptions(
        failure_threshold=1, recovery_timeout_s=1.0, backoff_factor=factor, recovery_timeout_max_s=60.0
    )
    breaker, now_s, waits_s = Breaker(options, draw=lambda: 0.0), 0.0, []
    for _ in range(3000):
        permit = breaker.acquire(now_s)
        assert permit is not None
        breaker.failure(permit, now_s, "reset")
        assert breaker.state is BreakerState.OPEN
        wait_s = breaker.soonest_probe_s(now_s)
        waits_s.append(round(wait_s, 3))
        now_s += wait_s
    assert waits_s == sorted(waits_s)
    assert waits_s[0] == 1.0
    assert waits_s[-1] == pytest.approx(1.0 if factor == 1.0 else 60.0)
    probe = breaker.acquire(now_s)
    assert probe is not None
    breaker.success(probe)
    assert breaker.state is BreakerState.CLOSED
    again = breaker.acquire(now_s)
    assert again is not None
    breaker.failure(again, now_s, "reset")
    assert breaker.soonest_probe_s(now_s) == pytest.approx(1.0)


@given(
    pauses=st.lists(st.tuples(st.none() | st.floats(0, 200), st.floats(0, 20), st.booleans()), min_size=1, max_size=20)
)
@hypothesis_settings(deadline=None)
def test_cooldown_is_the_latest_end_that_anybody_asked_for(pauses: list[tuple[float | None, float, bool]]) -> None:
    """No failure shortens a cooldown, and none is longer than the cap; while it lasts nobody gets a permit."""
    subject, now_s, until_s = health(), 0.0, 0.0
    permit = subject.breaker.acquire(0.0)
    assert permit is not None
    for pause_s, after_s, overloaded in pauses:
        now_s += after_s
        kind = ProviderOverloaded if overloaded else RateLimited
        subject.failed(permit, now_s, kind("slow down", retry_after_s=pause_s))
        until_s = max(until_s, now_s + min(pause_s or 0.0, 100.0))
        assert subject.view(now_s).cooling_s == pytest.approx(max(0.0, until_s - now_s))
        if subject.view(now_s).cooling_s > 0:
            assert subject.acquire(now_s) is None


async def test_router_has_the_five_methods_that_people_use() -> None:
    """`route_request` with a system prompt, `complete`, `stream`, `health_check`, `is_local_available`, and its end."""
    script = ScriptedTransport({})
    async with scripted_router(script) as router:
        assert await router.route_request("hi", "Be brief.", preferred_model="openai") == "ok"
        request = Request(messages=(Message(role="user", content="hi"),))
        assert (await router.complete(request)).text == "ok"
        assert "".join([chunk.text async for chunk in router.stream(request)]) == "ok"
        assert set(await router.health_check()) == set(ModelType)
        assert await router.is_local_available()
    asked = msgspec.json.decode(script.calls[0][1].body)["messages"]
    assert asked == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.mark.parametrize("error", [AuthenticationFailed("key"), ModelNotFound("model")])
def test_alarm_lasts_until_a_good_answer(error: AuthenticationFailed | ModelNotFound) -> None:
    """What somebody has to mend is shown until it is mended, and never opens the breaker."""
    subject = health()
    permit = subject.acquire(0.0)
    assert permit is not None
    subject.failed(permit, 0.0, error)
    assert (subject.alarm, subject.last_error) == (error.code, error.code)
    assert subject.breaker.state is BreakerState.CLOSED
    subject.succeeded(permit, 0.0, first_byte_s=0.2)
    assert (subject.alarm, subject.latency_s) == (None, 0.2)


def test_probe_that_meets_a_wrong_key_gives_its_slot_back() -> None:
    """A failure that says nothing of health ends a probe without a verdict: the next one may follow at once."""
    subject = health(recovery_timeout_s=10.0)
    permit = subject.acquire(0.0)
    assert permit is not None
    subject.failed(permit, 0.0, Reset("reset"))
    probe = subject.acquire(10.0)
    assert probe is not None
    assert probe.is_probe
    assert subject.acquire(10.0) is None
    subject.failed(probe, 10.0, AuthenticationFailed("key"))
    assert subject.breaker.state is BreakerState.HALF_OPEN
    assert subject.acquire(10.0) is not None

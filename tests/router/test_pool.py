"""Several deployments of a provider: the load is spread, each stands for itself, and the provider outlives them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import msgspec
import pytest

from router import AllCloudsDownError, HybridRouter, Message, ModelType, Request
from router.events import Attempt, BreakerChange, LatencyChange, Skip
from router.pool import Member
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, scripted_router, test_settings

DEAD = [Answering(status=500)]
OPENAI = ModelType.OPENAI


def _deployments(*names: str, **weights: float) -> dict[str, object]:
    """Return OpenAI deployments: the n-th listens at port n and has a key of its own."""
    entries = [
        {
            "name": name,
            "api_key": f"key-{name}",
            "base_url": f"http://127.0.0.3:{n}",
            "weight": weights.get(name, 1.0),
        }
        for n, name in enumerate(names, start=1)
    ]
    return {"deployments": {"openai": entries}}


def _ask(**more: object) -> Request:
    return Request(messages=(Message(role="user", content="hi"),), model="gpt-4o", **more)  # type: ignore[arg-type]


def _members(router: HybridRouter) -> dict[str | None, Member]:
    return {member.name: member for member in router._ports.pools[OPENAI].members}


async def _answered(router: HybridRouter, requests: int) -> Counter[str | None]:
    """Return who answered how many of `requests`, one after the other."""
    counts: Counter[str | None] = Counter()
    for _ in range(requests):
        counts[(await router.complete(_ask())).attempts[-1].deployment] += 1
    return counts


async def test_one_key_is_as_if_there_were_no_deployments() -> None:
    """Without `deployments`, neither events nor the status know the word."""
    events = CapturedEvents()
    router = scripted_router(ScriptedTransport({"gemini": DEAD}), sink=events)
    for _ in range(3):
        await router.complete(Request(messages=(Message(role="user", content="hi"),)))
    assert {type(event) for event in events} >= {Attempt, BreakerChange}
    assert not [event for event in events if b"deployment" in msgspec.json.encode(event)]
    assert "deployments" not in router.status()["openai"]


async def test_load_is_spread() -> None:
    """Of equally fast deployments each takes its share, and calls go out with each one's own key."""
    script = ScriptedTransport({})
    settings = test_settings(**_deployments("a", "b", "c"))
    router = scripted_router(script, settings=settings, draw=random.Random(7).random)
    assert all(60 <= count <= 140 for count in (await _answered(router, 300)).values())
    keys = {dict(call.headers)["authorization"] for _, call in script.calls}
    assert keys == {"Bearer key-a", "Bearer key-b", "Bearer key-c"}


@pytest.mark.parametrize(("weight", "shares"), [(1.0, (50, 50)), (3.0, (75, 25))])
async def test_busy_deployment_gets_less(weight: float, shares: tuple[int, int]) -> None:
    """Of a hundred calls under way at once each deployment has what its weight says."""
    clock = FakeClock()
    router = scripted_router(
        ScriptedTransport({"openai": [Answering(delay_s=0.01)]}),
        settings=test_settings(**_deployments("a", "b", a=weight)),
        clock=clock,
        draw=random.Random(1).random,
    )
    tasks = [asyncio.ensure_future(router.complete(_ask())) for _ in range(100)]
    await asyncio.sleep(0.005)
    busy = {name: member.in_flight for name, member in _members(router).items()}
    assert busy == dict(zip("ab", shares, strict=True))
    await asyncio.gather(*tasks)
    assert {member.in_flight for member in _members(router).values()} == {0}


async def test_slow_deployment_gets_less_and_is_tried_again() -> None:
    """One that answers five times slower gets few calls, but never none: its average fades."""
    clock = FakeClock()
    script = ScriptedTransport(
        {"openai/1": [Answering(delay_s=0.4)], "openai/2": [Answering(delay_s=0.05)]}, clock=clock
    )
    settings = test_settings(latency_limit=0, **_deployments("slow", "fast"))
    router = scripted_router(script, settings=settings, clock=clock, draw=random.Random(3).random)
    await _answered(router, 100)
    counts: Counter[str | None] = Counter()
    for _ in range(200):
        counts += await _answered(router, 1)
        clock.advance(0.5)
    assert 2 <= counts["slow"] <= 40


async def test_failover_stays_with_the_provider_first() -> None:
    """A dead deployment's sibling answers, with the same model, before the next provider is asked."""
    events = CapturedEvents()
    script = ScriptedTransport({"openai/1": DEAD})
    router = scripted_router(script, settings=test_settings(**_deployments("a", "b")), sink=events)
    for _ in range(10):
        reply = await router.complete(_ask())
        assert (reply.provider, reply.model) == (OPENAI, "gpt-4o")
    assert len(script.calls_to("openai/1")) == 3
    assert {name for name, _ in script.calls} == {OPENAI}
    assert [(change.deployment, change.to) for change in events.of(BreakerChange)] == [("a", "open")]
    assert not events.of(Skip)
    shown = router.status()["openai"]
    assert (shown["breaker"], shown["deployments"]["a"]["breaker"]) == ("closed", "open")


async def test_provider_is_skipped_only_when_all_its_deployments_are() -> None:
    """While one may be called the provider is; when none may, the next provider takes over and the skip says why."""
    events, clock = CapturedEvents(), FakeClock()
    limited = [Answering(status=429, headers=(("retry-after", "30"),))]
    script = ScriptedTransport({"openai/1": limited, "openai/2": limited})
    router = scripted_router(script, settings=test_settings(**_deployments("a", "b")), sink=events, clock=clock)
    assert (await router.complete(_ask())).provider is ModelType.GEMINI
    assert len(script.calls_to("openai")) == 2
    assert (await router.complete(_ask())).provider is ModelType.GEMINI
    assert len(script.calls_to("openai")) == 2
    assert [(skip.provider, skip.reason) for skip in events.of(Skip)] == [("openai", "cooling_down")]
    clock.advance(20.0)
    assert router.status()["openai"]["cooling_down_s"] == 10.0


async def test_recovered_deployment_is_probed_once_and_comes_back() -> None:
    """After its recovery timeout one call goes to it, and a good answer brings it back."""
    clock, events = FakeClock(), CapturedEvents()
    script = ScriptedTransport({"openai/1": [*DEAD * 3, Answering(text="back")]})
    router = scripted_router(
        script, settings=test_settings(**_deployments("a", "b")), sink=events, clock=clock, draw=random.Random(5).random
    )
    await _answered(router, 20)
    clock.advance(70.0)
    reply = await router.complete(_ask())
    assert (reply.text, reply.attempts[0].reason, reply.attempts[0].deployment) == ("back", "probe", "a")
    assert (await _answered(router, 50))["a"] > 10


async def test_slow_deployment_is_spared_before_the_provider_is() -> None:
    """A deployment whose latency spikes loses its traffic to its sibling; the provider itself is not slow."""
    clock, events = FakeClock(), CapturedEvents()
    script = ScriptedTransport({"openai/1": [Answering(delay_s=2.0)]}, clock=clock)
    router = scripted_router(
        script, settings=test_settings(**_deployments("a", "b")), sink=events, clock=clock, draw=random.Random(5).random
    )
    watch = _members(router)["a"].health.latency
    for _ in range(3):
        timing = watch.started(clock() - 2.0)
        watch.finished(timing, clock())
    assert await _answered(router, 20) == {"b": 20}
    assert [(change.deployment, change.to) for change in events.of(LatencyChange)] == [("a", "slow")]


async def test_many_dead_siblings_leave_the_other_providers_their_turn() -> None:
    """However many deployments fail, attempts are kept for every provider behind them."""
    script = ScriptedTransport({"openai": DEAD})
    names = [f"d{n}" for n in range(12)]
    router = scripted_router(script, settings=test_settings(**_deployments(*names)))
    assert (await router.complete(_ask())).provider is ModelType.GEMINI
    assert len(script.calls_to("openai")) == 5
    script = ScriptedTransport({"openai": DEAD, "gemini": DEAD, "claude": DEAD})
    router = scripted_router(script, settings=test_settings(**_deployments(*names)))
    assert (await router.complete(_ask())).provider is ModelType.LOCAL


async def test_cut_stream_goes_on_at_the_sibling() -> None:
    """A stream that breaks at one deployment is continued by another of the same provider."""
    script = ScriptedTransport({"openai/1": [Answering(text="one two three", cut_after=1)]})
    router = scripted_router(script, settings=test_settings(**_deployments("a", "b")))
    chunks = [chunk async for chunk in router.stream(_ask())]
    assert "".join(chunk.text for chunk in chunks) == "one ok"
    assert [attempt.deployment for attempt in chunks[-1].attempts] == ["a", "b"]
    assert chunks[-1].attempts[1].reason == "continue"


async def test_deployment_without_a_key_is_never_called() -> None:
    """A deployment takes the provider's key when it has none; where there is neither, it stands aside."""
    entries = {"openai": [{"name": "keyless"}, {"name": "keyed", "api_key": "k", "base_url": "http://127.0.0.3:2"}]}
    router = scripted_router(ScriptedTransport({}), settings=test_settings(openai_api_key="", deployments=entries))
    assert await _answered(router, 10) == {"keyed": 10}
    none = test_settings(openai_api_key="", deployments={"openai": [{"name": "keyless"}]})
    events = CapturedEvents()
    router = scripted_router(ScriptedTransport({}), settings=none, sink=events)
    assert (await router.complete(_ask())).provider is ModelType.GEMINI
    assert events.of(Skip)[0].reason == "no_key"


async def test_all_deployments_open_is_told_at_once_with_the_soonest_probe() -> None:
    """With every deployment of every provider resting, no call is made and the error knows when to come back."""
    clock = FakeClock()
    script = ScriptedTransport(dict.fromkeys(ModelType, DEAD))
    settings = test_settings(circuit_breaker_failure_threshold=1, **_deployments("a", "b"))
    router = scripted_router(script, settings=settings, clock=clock)
    with pytest.raises(AllCloudsDownError):
        await router.complete(_ask())
    calls = len(script.calls)
    clock.advance(20.0)
    with pytest.raises(AllCloudsDownError) as caught:
        await router.complete(_ask())
    assert (len(script.calls), caught.value.retry_after_s) == (calls, 40.0)


async def test_health_check_asks_every_deployment() -> None:
    """A provider can be reached while one of its deployments can."""
    script = ScriptedTransport({"openai/1": DEAD})
    router = scripted_router(script, settings=test_settings(**_deployments("a", "b")))
    assert (await router.health_check())["openai"]["reachable"] is True
    assert len(script.calls_to("openai")) == 2

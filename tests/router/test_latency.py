"""The predictive breaker: off the slow provider before anything fails, and back when it is fast."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Chunk, Message, ModelType, Request
from router.adapters import Piece
from router.deadline import Deadline
from router.events import LatencyChange, Skip
from router.latency import LatencyOptions, LatencyWatch
from router.plan import Step
from router.run import Run, Watch
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, scripted_router, test_settings

OPTIONS = LatencyOptions(limit_s=0.5, recovery_s=10.0)


def _answered(watch: LatencyWatch, clock: FakeClock, took_s: float) -> None:
    timing = watch.started(clock())
    clock.advance(took_s)
    watch.finished(timing, clock())


def test_average_over_the_limit_is_slow() -> None:
    """Ten fast answers and six of a second: the average of the last ten passes half a second."""
    clock = FakeClock()
    watch = LatencyWatch(OPTIONS)
    for _ in range(10):
        _answered(watch, clock, 0.1)
    seen = 0
    while not watch.look(clock()):
        _answered(watch, clock, 1.0)
        seen += 1
    assert seen == 5


def test_one_slow_first_call_is_no_trend() -> None:
    """Fewer than three samples say nothing."""
    clock = FakeClock()
    watch = LatencyWatch(OPTIONS)
    _answered(watch, clock, 9.0)
    _answered(watch, clock, 9.0)
    assert not watch.look(clock())
    _answered(watch, clock, 9.0)
    assert watch.look(clock())


def test_waiting_calls_are_seen_before_they_answer() -> None:
    """A provider that stalls gives no samples, but its waiting calls grow old, and that counts."""
    clock = FakeClock()
    watch = LatencyWatch(OPTIONS)
    for _ in range(3):
        _answered(watch, clock, 0.1)
    for _ in range(10):
        watch.started(clock())
    assert not watch.look(clock())
    clock.advance(0.6)
    assert watch.look(clock())


def test_one_measuring_call_a_recovery_period() -> None:
    """While slow, one call in ten seconds measures; a slow one keeps it slow, a fast one ends it."""
    clock = FakeClock()
    changes: list[bool] = []
    watch = LatencyWatch(OPTIONS, on_change=lambda is_slow, average_s: changes.append(is_slow))
    for _ in range(3):
        _answered(watch, clock, 1.0)
    assert watch.look(clock())
    assert not watch.may_measure(clock())
    clock.advance(10.0)
    assert watch.may_measure(clock())
    slow = watch.started(clock())
    assert slow.measures
    assert not watch.may_measure(clock())
    clock.advance(0.45)  # under the limit, but not clearly: no flapping
    watch.finished(slow, clock())
    assert watch.look(clock())
    clock.advance(10.0)
    _answered(watch, clock, 0.1)
    assert not watch.look(clock())
    assert changes == [True, False]


def test_dropped_measuring_call_frees_its_slot() -> None:
    """A measuring call that is cancelled lets the next one measure after the period."""
    clock = FakeClock()
    watch = LatencyWatch(OPTIONS)
    for _ in range(3):
        _answered(watch, clock, 1.0)
    watch.look(clock())
    clock.advance(10.0)
    watch.dropped(watch.started(clock()))
    clock.advance(10.0)
    assert watch.may_measure(clock())


@given(st.lists(st.floats(0.0, 0.5), max_size=50))
def test_answers_within_the_limit_never_make_it_slow(times_s: list[float]) -> None:
    """No sequence of times up to the limit is a spike."""
    clock = FakeClock(0.0)
    watch = LatencyWatch(OPTIONS)
    for took_s in times_s:
        timing = watch.started(0.0)
        watch.finished(timing, took_s)
        assert not watch.look(0.0)
    assert clock() == 0.0


async def test_slow_primary_loses_its_traffic_and_gets_it_back() -> None:
    """The router moves to the fast failover model with one event, measures once a period, and comes back."""
    clock, events = FakeClock(), CapturedEvents()
    script = ScriptedTransport({})
    router = scripted_router(script, clock=clock, sink=events, settings=test_settings(latency_limit=0.5))
    request = Request(messages=(Message(role="user", content="hi"),), model="gpt-4o")
    watch = router._ports.pools[ModelType.OPENAI].members[0].health.latency
    for _ in range(3):
        _answered(watch, clock, 1.0)
    for _ in range(5):
        reply = await router.complete(request)
        assert (reply.provider, reply.model) == (ModelType.CLAUDE, "claude-haiku-5-5")
    assert [change.to for change in events.of(LatencyChange)] == ["slow"]
    assert events.of(LatencyChange)[0].message == "latency spiking, switching to failover model"
    assert {(skip.provider, skip.reason) for skip in events.of(Skip)} == {("openai", "slow")}
    clock.advance(60.0)
    reply = await router.complete(request)
    assert (reply.provider, reply.attempts[0].reason) == (ModelType.OPENAI, "measure")
    assert [change.to for change in events.of(LatencyChange)] == ["slow", "fast"]
    assert (await router.complete(request)).provider is ModelType.OPENAI


async def test_slow_provider_is_still_the_last_resort() -> None:
    """When nobody else answers, the slow one is asked after all."""
    clock = FakeClock()
    down = [Answering(status=503)]
    script = ScriptedTransport({"claude": down, "openai": down, "local": down, "gemini": [Answering(text="late")]})
    router = scripted_router(script, clock=clock)
    watch = router._ports.pools[ModelType.GEMINI].members[0].health.latency
    for _ in range(3):
        _answered(watch, clock, 1.0)
    reply = await router.complete(Request(messages=(Message(role="user", content="hi"),)))
    assert reply.text == "late"
    assert [str(name) for name, _ in script.calls] == ["claude", "openai", "local", "gemini"]


async def test_breakers_probe_measures_too() -> None:
    """A provider that is open and slow is freed by one call: the probe closes the breaker and ends the spike."""
    clock, events = FakeClock(), CapturedEvents()
    failing = [Answering(status=503)] * 3 + [Answering(text="back")]
    router = scripted_router(ScriptedTransport({"gemini": failing}), clock=clock, sink=events)
    request = Request(messages=(Message(role="user", content="hi"),))
    await asyncio.gather(*(router.complete(request) for _ in range(3)))
    watch = router._ports.pools[ModelType.GEMINI].members[0].health.latency
    for _ in range(3):
        _answered(watch, clock, 1.0)
    assert (await router.complete(request)).provider is ModelType.CLAUDE
    clock.advance(70.0)
    assert (await router.complete(request)).text == "back"
    assert router.status()["gemini"]["breaker"] == "closed"
    assert not router.status()["gemini"]["is_slow"]


def test_each_mode_has_its_own_limit() -> None:
    """JSON answers of three seconds are no spike where ten are allowed; streams of three seconds are."""
    for stream, slow in ((False, False), (True, True)):
        clock = FakeClock()
        watch = LatencyWatch(LatencyOptions(limit_s=0.5, json_limit_s=10.0))
        for _ in range(5):
            timing = watch.started(clock(), stream=stream)
            clock.advance(3.0)
            watch.finished(timing, clock())
        assert watch.look(clock()) is slow


def test_both_modes_share_one_window() -> None:
    """Times count as shares of their limit: two JSON answers at twice theirs and two streams at half make 1.25."""
    clock, averages = FakeClock(), list[float]()
    watch = LatencyWatch(
        LatencyOptions(limit_s=0.5, json_limit_s=10.0), on_change=lambda is_slow, average: averages.append(average)
    )
    for stream, took_s in ((True, 0.25), (True, 0.25), (False, 20.0), (False, 20.0)):
        timing = watch.started(clock(), stream=stream)
        clock.advance(took_s)
        watch.finished(timing, clock())
    assert watch.look(clock())
    assert averages == [1.25]


def test_mode_without_a_limit_is_not_watched_and_still_measures() -> None:
    """With 0 no time of that mode counts, waiting or not; but a slow provider is measured by whatever call is due."""
    clock = FakeClock()
    watch = LatencyWatch(LatencyOptions(limit_s=0.5, json_limit_s=0, recovery_s=10.0))
    waiting = [watch.started(clock(), stream=False) for _ in range(20)]
    clock.advance(100.0)
    assert not watch.look(clock())
    for timing in waiting:
        watch.finished(timing, clock())
    assert not watch.look(clock())
    for _ in range(3):
        _answered(watch, clock, 1.0)
    assert watch.look(clock())
    clock.advance(10.0)
    assert watch.may_measure(clock())
    timing = watch.started(clock(), stream=False)
    assert timing.measures
    assert not watch.may_measure(clock())
    clock.advance(0.1)
    watch.finished(timing, clock())
    assert not watch.look(clock())


def test_long_and_short_waits_are_told_apart() -> None:
    """A JSON call within its own limit is not overdue though older than that of streams, nor does it hide one."""
    clock = FakeClock()
    watch = LatencyWatch(LatencyOptions(limit_s=0.5, json_limit_s=10.0))
    for _ in range(7):
        watch.started(clock(), stream=False)
    clock.advance(4.5)
    for _ in range(3):
        watch.started(clock())
    assert not watch.look(clock())
    clock.advance(0.6)
    assert watch.look(clock())


async def test_router_watches_each_mode_by_its_own_limit() -> None:
    """JSON answers of two seconds keep their provider where LATENCY_LIMIT_JSON allows them; streams of two move off."""
    clock = FakeClock()
    script = ScriptedTransport({"openai": [Answering(delay_s=2.0)]}, clock=clock)
    router = scripted_router(script, clock=clock, settings=test_settings(latency_limit_json=60))
    request = Request(messages=(Message(role="user", content="hi"),), model="gpt-4o")
    for _ in range(5):
        assert (await router.complete(request)).provider is ModelType.OPENAI
    streamed = [[chunk async for chunk in router.stream(request)][-1].provider for _ in range(10)]
    assert streamed == [ModelType.OPENAI] * 2 + [ModelType.CLAUDE] * 8


async def test_time_to_the_first_token_is_measured_not_to_the_first_byte() -> None:
    """A stream that opens at once with nothing in it and then keeps silent for two seconds took two seconds."""
    clock = FakeClock()
    ports = scripted_router(ScriptedTransport({}), clock=clock)._ports
    member = ports.pools[ModelType.OPENAI].members[0]
    permit = member.health.acquire(clock())
    assert permit is not None
    step = Step(
        provider=ModelType.OPENAI, model="gpt-4o", timeouts=ports.timeouts[ModelType.OPENAI], reason="preferred"
    )
    delivered: list[str] = []

    async def deliver(chunk: Chunk) -> None:
        delivered.append(chunk.text)

    run = Run(Request(messages=(Message(role="user", content="hi"),)), ports, deliver)
    deadline = Deadline(run.deadline_s, clock)
    watch = Watch(run, ports, step, member, permit, run.prompt("gpt-4o"), deadline)
    for piece, at_s in ((Piece(), 0.1), (Piece(text="a"), 1.9), (Piece(text="b"), 3.0)):
        clock.advance(at_s)
        await watch.take(piece)
    deadline.stop()
    assert watch.first_byte_s == pytest.approx(0.1)
    assert watch.response_s == pytest.approx(2.0)
    assert delivered == ["a", "b"]

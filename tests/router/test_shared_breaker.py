"""Two routers share what they know of providers through a real Redis, and go on alone when it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from router.breaker import Breaker, BreakerOptions, BreakerState
from router.events import BreakerChange
from router.models import Message, ModelType, Request
from router.testing import Answering, CapturedEvents, ScriptedTransport, test_settings
from seawall.equipped import EquippedRouter
from seawall.shared_breakers import SYNC_EVERY_S

Server = Any  # a Redis of the test's own: see conftest.py
RECOVERY_S = 0.5
SLACK_S = 1.5
"""What a busy machine may add."""
REQUEST = Request(messages=(Message(role="user", content="What does a seawall do?"),), model="gpt-4o", max_tokens=10)
DOWN, UP = [Answering(status=503)], [Answering()]


class Worker:
    """A router with a transport and events of its own, and when it called OpenAI."""

    def __init__(self, url: str, answers: list[Answering], **settings: object) -> None:
        self.transport = Timed({"openai": answers})
        self.events = CapturedEvents()
        values: dict[str, object] = {
            "breaker_store": "redis",
            "redis_url": url,
            "latency_limit": 0,
            "circuit_breaker_recovery_timeout": RECOVERY_S,
        }
        self.router = EquippedRouter(
            test_settings(**(values | settings)), transport=self.transport, sink=self.events, worker="same name"
        )

    @property
    def state(self) -> str:
        """How its breaker of OpenAI stands."""
        return self.router.status()["openai"]["breaker"]

    async def ask(self, times: int = 1) -> None:
        """Send requests that prefer OpenAI; each must be answered whole, by whomever."""
        for _ in range(times):
            assert (await self.router.complete(REQUEST)).text == "ok"

    async def keep_asking(self) -> None:
        """Send requests until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(0.005)

    def answer(self, answers: list[Answering]) -> None:
        """Have OpenAI answer otherwise from now on."""
        self.transport._script[ModelType.OPENAI] = answers


class Timed(ScriptedTransport):
    """A scripted transport that knows when OpenAI was called."""

    def __init__(self, script: dict[str, list[Answering]]) -> None:
        super().__init__(script)
        self.times_s: list[float] = []

    def send(self, call: Any) -> Any:
        """See Transport."""
        if "127.0.0.3" in call.url:
            self.times_s.append(time.monotonic())
        return super().send(call)


@asynccontextmanager
async def two_on(server: Server, answers: list[Answering], **settings: object) -> AsyncIterator[tuple[Worker, Worker]]:
    """Run two workers that are in touch."""
    server.ask("FLUSHALL")
    workers = Worker(server.url, answers, **settings), Worker(server.url, answers, **settings)
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.router)
        yield workers


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> float:
    """Wait until something holds; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.005)
    return time.monotonic() - began


@pytest.mark.real
async def test_what_one_opens_the_other_never_calls(quick_redis: Server) -> None:
    """After the threshold at one worker the other knows within a moment, and says from whom; it makes no call."""
    async with two_on(quick_redis, DOWN, circuit_breaker_recovery_timeout=60) as (one, other):
        await one.ask(3)
        assert one.state == "open"
        assert await until(lambda: other.state == "open") < 0.1 + SLACK_S
        await other.ask(20)
        assert (len(one.transport.times_s), len(other.transport.times_s)) == (3, 0)
        (change,) = other.events.of(BreakerChange)
        assert (change.from_state, change.to) == ("closed", "open")
        assert change.cause.startswith("told by same name-")
        assert "3 consecutive failures" in change.cause
        # Who comes later knows before its first request.
        late = Worker(quick_redis.url, DOWN, circuit_breaker_recovery_timeout=60)
        async with late.router:
            assert late.state == "open"
        assert b"open" in quick_redis.ask("HGET", "{breaker}:openai", "state")


@pytest.mark.real
async def test_one_probe_a_recovery_period_across_both(quick_redis: Server) -> None:
    """Both under load on a dead provider: one call in each recovery period, and no more; then both heal."""
    async with two_on(quick_redis, DOWN) as (one, other):
        await one.ask(3)
        await until(lambda: other.state == "open")
        load = [asyncio.create_task(worker.keep_asking()) for worker in (one, other)]
        try:
            before = len(one.transport.times_s) + len(other.transport.times_s)
            await asyncio.sleep(6 * RECOVERY_S)
            probes = sorted([*one.transport.times_s, *other.transport.times_s])[before - 1 :]
            assert 1 + 2 <= len(probes) <= 1 + 6
            assert min(later - earlier for earlier, later in pairwise(probes)) >= RECOVERY_S
            for worker in (one, other):
                worker.answer(UP)
            await until(lambda: one.state == other.state == "closed")
            calls = len(one.transport.times_s), len(other.transport.times_s)
            await until(lambda: len(one.transport.times_s) > calls[0] and len(other.transport.times_s) > calls[1])
        finally:
            for task in load:
                task.cancel()
            results = await asyncio.gather(*load, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    for worker in (one, other):
        states = ["closed", *(change.to for change in worker.events.of(BreakerChange))]
        legal = {("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("half_open", "open")}
        assert set(pairwise(states)) <= legal


@pytest.mark.real
async def test_retry_after_is_everybodys(quick_redis: Server) -> None:
    """A `Retry-After` that one worker is given keeps the other from calling as well, and no later one shortens it."""
    throttled = [Answering(status=429, headers=(("retry-after", "30"),)), Answering(status=429)]
    async with two_on(quick_redis, throttled) as (one, other):
        await one.ask()
        cooling = lambda: other.router.status()["openai"]["cooling_down_s"]  # noqa: E731 - asked twice
        assert await until(lambda: cooling() > 0) < 0.1 + SLACK_S
        await asyncio.sleep(5 * SYNC_EVERY_S)
        assert 25 < cooling() < 30
        await other.ask(5)
        assert (len(one.transport.times_s), len(other.transport.times_s)) == (1, 0)


@pytest.mark.real
async def test_a_lease_that_nobody_uses_delays_a_probe_and_no_more(quick_redis: Server) -> None:
    """Where the worker that may probe died or has no use for it, the others probe one recovery period later."""
    async with two_on(quick_redis, DOWN) as (one, other):
        quick_redis.ask("SET", "{breaker}:openai:probe", "somebody who is gone")
        await one.ask(3)
        opened_s = one.transport.times_s[-1]
        await until(lambda: other.state == "open")
        other.answer(UP)
        load = asyncio.create_task(other.keep_asking())
        try:
            await until(lambda: other.state == "closed")
        finally:
            load.cancel()
            await asyncio.wait([load])
        assert 2 * RECOVERY_S <= other.transport.times_s[0] - opened_s < 2.3 * RECOVERY_S + SLACK_S
        await until(lambda: one.state == "closed")  # told


@pytest.mark.real
async def test_each_goes_on_alone_when_redis_dies(redis_server: Server) -> None:
    """Redis killed: requests go on, and each worker probes for itself; Redis back: they share again."""
    async with two_on(redis_server, DOWN, circuit_breaker_recovery_timeout=1.0) as (one, other):
        await one.ask(3)
        opened_s = one.transport.times_s[-1]
        await until(lambda: other.state == "open")
        redis_server.kill()
        other.answer(UP)
        load = asyncio.create_task(other.keep_asking())
        await until(lambda: other.state == "closed")
        load.cancel()
        await asyncio.wait([load])
        assert 1.0 <= other.transport.times_s[0] - opened_s < 2.0  # no lease was waited for
        assert one.state == "open"
        await until(
            lambda: one.router._ports.pools[ModelType.OPENAI].members[0].health.breaker.allows(time.monotonic())
        )
        await one.ask()  # its own probe
        assert len(one.transport.times_s) == 4
        redis_server.start("--appendonly", "yes", "--appendfsync", "always")
        await until(lambda: one.router._sharing is not None and one.router._sharing._in_touch)
        one.answer(UP)
        load = asyncio.create_task(one.keep_asking())
        await until(lambda: one.state == other.state == "closed")
        load.cancel()
        await asyncio.wait([load])
        other.answer(DOWN)
        await other.ask(3)
        await until(lambda: one.state == "open")


def breaker() -> Breaker:
    """Return a breaker that opens at the third failure, for 10 s."""
    return Breaker(BreakerOptions(failure_threshold=3, recovery_timeout_s=10), draw=lambda: 0.0)


def test_results_from_before_the_news_change_nothing() -> None:
    """What another worker tells starts a generation of its own: a call that was under way counts for nothing."""
    one = breaker()
    permit = one.acquire(0.0)
    assert permit is not None
    one.learn_open(5.0, "told")
    one.success(permit, 1.0)
    assert (one.state, one.generation, one.allows(4.9), one.allows(5.0)) == (BreakerState.OPEN, 1, False, True)
    one.learn_open(3.0, "told of a shorter one")
    one.learn_open(7.0, "told of a longer one")
    assert (one.generation, one.probe_at_s) == (1, 7.0)
    one.learn_closed("told")
    one.failure(permit, 8.0, "reset")
    assert (one.state, one.generation) == (BreakerState.CLOSED, 3)
    one.learn_closed("told again")
    assert one.generation == 3


@pytest.mark.parametrize("news", ["open", "closed"])
def test_a_probe_under_way_decides_for_itself(news: str) -> None:
    """What others tell while our own probe is out is older than what it will find; once it was released, it holds."""
    one = breaker()
    one.learn_open(5.0, "told")
    probe = one.acquire(5.0)
    assert probe is not None
    tell = (lambda: one.learn_open(9.0, "told")) if news == "open" else (lambda: one.learn_closed("told"))
    tell()
    assert (one.state, one.is_probing, one.allows(6.0)) == (BreakerState.HALF_OPEN, True, False)
    one.release(probe)
    tell()
    assert str(one.state) == news


def test_only_who_may_probe_does() -> None:
    """An open breaker that is due, or half-open without a probe, waits for leave; a closed one never asks."""
    one = breaker()
    leave = {"given": False, "asked": 0}

    def may_probe() -> bool:
        leave["asked"] += 1
        return bool(leave["given"])

    one.may_probe = may_probe
    assert one.acquire(0.0) is not None
    assert leave["asked"] == 0
    one.learn_open(5.0, "told")
    assert one.acquire(6.0) is None
    leave["given"] = True
    probe = one.acquire(6.0)
    assert probe is not None
    one.release(probe)
    leave["given"] = False
    assert one.acquire(7.0) is None

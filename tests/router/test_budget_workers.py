"""Routers that share a budget: a cap holds to the call, and while the store is away each does as it is told."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.budget import MemoryBudgetStore, Reservation, day_of
from router.errors import AllCloudsDownError, BudgetExceeded, ConnectFailed
from router.events import Skip, Spend
from router.models import Message, ModelType, Request
from router.pricing import price_of, prompt_tokens_max, reservation_micro_usd
from router.testing import Answering, CapturedEvents, ScriptedTransport, test_settings
from router.transport import Answer, Call
from seawall.equipped import EquippedRouter
from seawall.stores.redis_store import RedisBudgetStore

pytestmark = pytest.mark.real

Server = Any  # a Redis of the test's own: see conftest.py
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
REQUEST = Request(messages=(Message(role="user", content="What does a seawall do?"),), model="gpt-4o", max_tokens=100)
CALL = reservation_micro_usd(price_of(ModelType.OPENAI, "gpt-4o"), prompt_tokens_max(REQUEST.messages), 100)
SLACK_S = 1.5
"""What a busy machine may add to a bounded wait."""


class GatedTransport(ScriptedTransport):
    """Answers nobody before `calls` calls are under way."""

    def __init__(self, calls: int) -> None:
        super().__init__({})
        self._waiting = calls
        self._gate = asyncio.Event()

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """See Transport."""
        return self._gated(call)

    @asynccontextmanager
    async def _gated(self, call: Call) -> AsyncGenerator[Answer]:
        self._waiting -= 1
        if self._waiting <= 0:
            self._gate.set()
        await self._gate.wait()
        async with super().send(call) as answer:
            yield answer


def router_on(
    server: Server, transport: ScriptedTransport, events: CapturedEvents, **settings: object
) -> EquippedRouter:
    """Return a router whose budget is in this Redis, made from its settings."""
    values: dict[str, object] = {"budget_store": "redis", "redis_url": server.url, "latency_limit": 0}
    return EquippedRouter(test_settings(**(values | settings)), transport=transport, sink=events)


def today() -> str:
    """Return the UTC date."""
    return day_of(time.time())


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
async def test_a_cap_worth_20_admits_20_of_64_at_two_routers(kind: str, quick_redis: Server, tmp_path: Path) -> None:
    """64 requests at once through two workers: 20 are served by a cloud, 44 by the local model, none is lost."""
    quick_redis.ask("FLUSHALL")
    transport, events = GatedTransport(64), CapturedEvents()
    settings = test_settings(
        budget_store=kind,
        redis_url=quick_redis.url,
        budget_sqlite_path=str(tmp_path / "budget.db"),
        daily_spend_limit_usd=20 * CALL / 1e6,
        budget_store_timeout=5,
        latency_limit=0,
    )
    shared = MemoryBudgetStore() if kind == "memory" else None  # within one process, all that memory can be shared by
    routers = [EquippedRouter(settings, transport=transport, sink=events, budget_store=shared) for _ in range(2)]
    replies = await asyncio.gather(*(routers[n % 2].complete(REQUEST) for n in range(64)))
    assert [reply.text for reply in replies] == ["ok"] * 64
    assert sum(reply.provider is ModelType.OPENAI for reply in replies) == 20
    assert sum(reply.provider is ModelType.LOCAL for reply in replies) == 44
    await asyncio.gather(*(router._ports.ledger.drain() for router in routers))
    spends = events.of(Spend)
    assert max(spend.total_micro_usd for spend in spends) == 20 * CALL
    settled = sum(spend.micro_usd for spend in spends if spend.action == "settle")
    assert [await router.spent_usd() for router in routers] == [settled / 1e6] * 2
    assert {skip.reason for skip in events.of(Skip)} == {"budget"}
    for router in routers:
        await router.aclose()


async def test_closed_means_local_or_a_clear_refusal_at_once(redis_server: Server) -> None:
    """Redis frozen: paid providers are skipped for `budget`, local serves, else BudgetExceeded; then all is well."""
    transport = ScriptedTransport(
        {"local": [Answering(), Answering(), Answering(text=None, error=ConnectFailed("gone"))]}
    )
    events = CapturedEvents()
    async with router_on(redis_server, transport, events, circuit_breaker_failure_threshold=1) as router:
        assert (await router.complete(REQUEST)).provider is ModelType.OPENAI
        redis_server.signal(signal.SIGSTOP)
        try:
            for bound_s in (0.25 + SLACK_S, SLACK_S):
                began = time.monotonic()
                assert (await router.complete(REQUEST)).provider is ModelType.LOCAL
                assert time.monotonic() - began < bound_s
            assert {(skip.provider, skip.reason) for skip in events.of(Skip)} == {
                (provider, "budget") for provider in ("gemini", "claude", "openai")
            }
            with pytest.raises(AllCloudsDownError):
                await router.complete(REQUEST)
            with pytest.raises(BudgetExceeded):
                await router.complete(REQUEST)
            assert await router.spent_usd() > 0  # the last total known
        finally:
            redis_server.signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            while "openai" not in [provider for provider, _ in transport.calls[-1:]]:
                try:
                    await router.complete(REQUEST)
                except BudgetExceeded:
                    await asyncio.sleep(0.05)
    assert_every_reservation_is_closed(events)
    await assert_nothing_is_outstanding(redis_server)


async def test_allowance_serves_a_share_and_is_booked_when_redis_is_back(redis_server: Server) -> None:
    """Redis killed: a worker goes on with its allowance and no more; restarted, Redis has every call in its total."""
    transport, events = ScriptedTransport({}), CapturedEvents()
    settings: dict[str, object] = {"budget_store_down": "allowance", "budget_allowance_usd": 1.5 * CALL / 1e6}
    async with router_on(redis_server, transport, events, **settings) as router:
        assert (await router.complete(REQUEST)).provider is ModelType.OPENAI
        redis_server.kill()
        served = [
            (await router.complete(REQUEST)).provider for _ in range(160)
        ]  # OpenAI, then Claude, whose call is cheaper, then nobody
        paid = sum(provider.is_cloud for provider in served)
        assert 1 <= paid < 160
        assert served[-1] is ModelType.LOCAL
        redis_server.start(*DURABLE)
    by_allowance = [spend for spend in events.of(Spend) if spend.source == "allowance"]
    assert sum(spend.action == "reserve" for spend in by_allowance) == paid
    assert sum(spend.micro_usd for spend in by_allowance if spend.action == "settle") <= 1.5 * CALL
    settled = sum(spend.micro_usd for spend in events.of(Spend) if spend.action == "settle")
    assert redis_server.ask("GET", f"daily_spend:{today()}").split()[1] == str(settled).encode()
    assert_every_reservation_is_closed(events)
    await assert_nothing_is_outstanding(redis_server)


async def _after_all_leases(server: Server) -> tuple[dict[str, int], int]:
    """Return what is charged because its lease ran out, by id, and the total of the day after that."""
    store = RedisBudgetStore(server.url, timeout_s=5, own_clock=False)
    far_s = time.time() + 601
    expired: dict[str, int] = {}
    for n in range(20):
        probe = Reservation(id=f"probe{n}", day=today(), micro_usd=10**12, expires_at_s=far_s)
        standing = await store.reserve(probe, 0, far_s)
        expired |= {reservation.id: reservation.micro_usd for reservation in standing.expired}
    total = await store.spent(today())
    await store.aclose()
    assert int(server.ask("ZCARD", f"daily_spend:{today()}:open")[1:]) == 0
    return expired, total


async def assert_nothing_is_outstanding(server: Server) -> None:
    """Every reservation was settled: no lease is left to run out."""
    assert (await _after_all_leases(server))[0] == {}


def assert_every_reservation_is_closed(events: CapturedEvents) -> None:
    """Each was made once and closed once, as a journal must show it."""
    steps = [(spend.reservation_id, "made" if spend.action == "reserve" else "closed") for spend in events.of(Spend)]
    assert len(steps) == len(set(steps))
    assert {name for name, what in steps if what == "made"} == {name for name, what in steps if what == "closed"}

"""The budget in Redis when Redis is new, slow, frozen, silent, killed or a cluster: bounded waits, nothing lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.budget import BudgetStore, Reservation, Standing, day_of
from router.errors import BudgetStoreDown, ConfigurationError
from router.testing import test_settings
from seawall.equipped import EquippedRouter
from seawall.stores.redis_store import CONNECTIONS_MAX, RedisBudgetStore

pytestmark = pytest.mark.real

Server = Any  # a Redis of the test's own: see conftest.py
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
LIMIT = 10**9
TIMEOUT_S = 0.25
SLACK_S = 1.5
"""What a busy machine may add to a bounded wait."""


def claim(name: str, amount: int = 100, lease_s: float = 60.0) -> Reservation:
    """Return a reservation made now."""
    now_s = time.time()
    return Reservation(id=name, day=day_of(now_s), micro_usd=amount, expires_at_s=now_s + lease_s)


async def reserve(store: BudgetStore, reservation: Reservation) -> Standing:
    """Take a reservation now."""
    return await store.reserve(reservation, LIMIT, time.time())


async def timed(step: Awaitable[object]) -> tuple[float, object]:
    """Return how long a step took, in seconds, and its result or BudgetStoreDown."""
    began = time.monotonic()
    try:
        result: object = await step
    except BudgetStoreDown as error:
        result = error
    return time.monotonic() - began, result


async def answers_again(store: BudgetStore) -> float:
    """Return after how many seconds the store answers."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            try:
                await store.spent("2026-01-01")
            except BudgetStoreDown:
                await asyncio.sleep(0.02)
            else:
                return time.monotonic() - began


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that nobody tells of."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_keys_are_readable_and_gone_after_two_days(quick_redis: Server) -> None:
    """The day's total in micro-dollars and today's dollars can be read with any client; no key is for ever."""
    quick_redis.ask("FLUSHALL")
    store = RedisBudgetStore(quick_redis.url)
    paid, lost = claim("paid", 12_000_000), claim("lost", 345_678, 0.0)
    for reservation in (paid, lost):
        await reserve(store, reservation)
    await store.settle(paid, 3_000_000)
    await reserve(store, claim("last", 1))
    await store.adjust(paid.day, 5, "fault")
    assert quick_redis.ask("GET", f"daily_spend:{paid.day}") == b"$7\r\n3345679\r\n"
    assert quick_redis.ask("GET", "daily_spend") == b"$8\r\n3.345679\r\n"
    keys = [word for word in quick_redis.ask("KEYS", "*").decode().split("\r\n") if word.startswith("daily")]
    assert len(keys) == 6
    for key in keys:
        assert 172_700 < int(quick_redis.ask("TTL", key)[1:]) <= 172_800, key
    await store.settle(msgspec.structs.replace(claim("old", 7), day="2020-01-01"), 7)
    assert quick_redis.ask("GET", "daily_spend") == b"$8\r\n3.345679\r\n"
    await store.aclose()


async def test_a_step_is_one_round_trip(quick_redis: Server) -> None:
    """A reservation is one command, not a read and a write; a server that has forgotten the script is told it again."""
    quick_redis.ask("FLUSHALL")
    store = RedisBudgetStore(quick_redis.url)
    await reserve(store, claim("first"))
    quick_redis.ask("CONFIG", "RESETSTAT")
    for n in range(10):
        await reserve(store, claim(f"r{n}"))
    stats = quick_redis.ask("INFO", "commandstats").decode()
    calls = {
        line.split(":")[0]: line.split("calls=")[1].split(",")[0] for line in stats.split("\r\n") if "calls=" in line
    }
    assert calls.pop("cmdstat_evalsha") == "10"
    assert "cmdstat_eval" not in calls
    quick_redis.ask("SCRIPT", "FLUSH")
    assert (await reserve(store, claim("after"))).accepted
    await store.aclose()


async def test_connections_are_bounded_and_closed(quick_redis: Server) -> None:
    """However many steps there are at once, a worker has so many connections; closing leaves none."""
    quick_redis.ask("FLUSHALL")
    store = RedisBudgetStore(quick_redis.url, timeout_s=10)
    standings = await asyncio.gather(*(reserve(store, claim(f"r{n}")) for n in range(300)))
    assert max(standing.total_micro_usd for standing in standings) == 30_000
    clients = quick_redis.ask("CLIENT", "LIST").count(b"id=") - 1
    assert 1 <= clients <= CONNECTIONS_MAX
    await store.aclose()
    await until(lambda: quick_redis.ask("CLIENT", "LIST").count(b"id=") <= 1)


@pytest.mark.parametrize("kind", ["refused", "silent", "hole"])
async def test_absent_redis_never_holds_anybody(kind: str) -> None:
    """Nobody at the port, somebody who says nothing, or a hole: a bounded wait once, and then none."""
    listener = socket.socket()
    held = [listener]
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if kind != "refused":
        listener.listen(128 if kind == "silent" else 0)  # and never accept
    if kind == "hole":  # its queue is full, so the kernel drops whoever comes
        for _ in range(4):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(("127.0.0.1", port))
    store = RedisBudgetStore(f"redis://127.0.0.1:{port}", timeout_s=TIMEOUT_S)
    first = await asyncio.gather(*(timed(reserve(store, claim(f"a{n}"))) for n in range(64)))
    assert all(isinstance(result, BudgetStoreDown) for _, result in first)
    assert max(took for took, _ in first) < TIMEOUT_S + SLACK_S
    assert not any(result.asked for _, result in first if isinstance(result, BudgetStoreDown))  # none was connected
    began = time.monotonic()
    for n in range(200):
        _, result = await timed(reserve(store, claim(f"b{n}")))
        assert isinstance(result, BudgetStoreDown)
        assert not result.asked
    assert time.monotonic() - began < SLACK_S
    await store.aclose()
    for one in held:
        one.close()


async def test_frozen_redis_is_left_and_found_again(redis_server: Server) -> None:
    """Stopped for a second, Redis holds each step for the timeout at most; when it goes on, steps do, by themselves."""
    store = RedisBudgetStore(redis_server.url, timeout_s=TIMEOUT_S)
    await reserve(store, claim("before"))
    redis_server.signal(signal.SIGSTOP)
    try:
        lost = await asyncio.gather(*(timed(reserve(store, claim(f"r{n}"))) for n in range(64)))
        assert max(took for took, _ in lost) < TIMEOUT_S + SLACK_S
        asked = [r for _, r in lost if isinstance(r, BudgetStoreDown) and r.asked]
        assert 1 <= len(asked) <= CONNECTIONS_MAX
        took, _ = await timed(reserve(store, claim("at once")))
        assert took < TIMEOUT_S
        await asyncio.sleep(1)
    finally:
        redis_server.signal(signal.SIGCONT)
    assert await answers_again(store) < SLACK_S
    # What was under way when it froze arrives when it goes on; whoever gave up has taken it back, or will.
    for n in range(64):
        await store.settle(claim(f"r{n}"), 0)
    assert await store.spent(claim("day").day) == 100
    assert (await reserve(store, claim("after"))).total_micro_usd == 200
    await store.aclose()


async def test_leases_go_by_the_clock_of_redis(quick_redis: Server) -> None:
    """A worker whose clock is hours fast or slow ends nobody's lease, and its own lasts as long as it is to."""
    store = RedisBudgetStore(quick_redis.url, timeout_s=5)
    now_s = time.time()
    day = day_of(now_s)

    async def take(name: str, skew_s: float, lease_s: float) -> Standing:
        wall_s = now_s + skew_s
        made = Reservation(id=name, day=day, micro_usd=10, expires_at_s=wall_s + lease_s)
        return await store.reserve(made, LIMIT, wall_s)

    assert (await take("right", 0.0, 600.0)).accepted
    assert (await take("fast", 12 * 3600.0, 600.0)).expired == ()
    assert (await take("slow", -12 * 3600.0, 0.05)).expired == ()
    await asyncio.sleep(0.2)
    assert [reservation.id for reservation in (await take("last", -12 * 3600.0, 600.0)).expired] == ["slow"]
    await store.aclose()


async def test_nothing_confirmed_is_lost_when_redis_is_killed(redis_server: Server) -> None:
    """With `appendfsync always` every confirmed step survives SIGKILL, and a pool of dead connections is no news."""
    store = RedisBudgetStore(redis_server.url, timeout_s=2, own_clock=False)
    held = [claim(f"r{n}", n) for n in range(50)]
    await asyncio.gather(*(reserve(store, reservation) for reservation in held))
    for reservation in held[:25]:
        await store.settle(reservation, reservation.micro_usd // 2)
    redis_server.kill()
    redis_server.start(*DURABLE)
    # The first step meets a connection that died with the old server, and does not tell.
    again = await reserve(store, held[30])
    expected = sum(n // 2 for n in range(25)) + sum(range(25, 50))
    assert (again.accepted, again.total_micro_usd) == (True, expected)
    far_s = time.time() + 61
    last = await store.reserve(claim("last", 1), LIMIT, far_s)
    assert {reservation.id for reservation in last.expired} == {reservation.id for reservation in held[25:]}
    assert last.total_micro_usd == expected + 1
    redis_server.kill()
    took, result = await timed(reserve(store, claim("nobody")))
    assert isinstance(result, BudgetStoreDown)
    assert took < 2 + SLACK_S
    redis_server.start(*DURABLE)
    assert await answers_again(store) < SLACK_S
    await store.aclose()


async def test_error_of_redis_is_no_outage(quick_redis: Server) -> None:
    """An error that Redis answers with is told, costs one step only, and holds nothing."""
    quick_redis.ask("FLUSHALL")
    store = RedisBudgetStore(quick_redis.url)
    day = claim("day").day
    quick_redis.ask("LPUSH", f"daily_spend:{day}:open", "not ours")
    _, result = await timed(reserve(store, claim("r")))
    assert isinstance(result, BudgetStoreDown)
    assert not result.asked
    assert "WRONGTYPE" in str(result)
    quick_redis.ask("FLUSHALL")
    assert (await reserve(store, claim("r"))).accepted
    await store.aclose()


async def test_cluster_gets_keys_of_one_slot(redis_server: Server, tmp_path: Path) -> None:
    """Where all keys of a step must be in one slot, they are; `daily_spend` stays what it is called."""
    redis_server.kill()
    redis_server.start("--cluster-enabled", "yes", "--cluster-config-file", str(tmp_path / "nodes.conf"))
    assert redis_server.ask("CLUSTER", "ADDSLOTS", *map(str, range(16_384))) == b"+OK\r\n"
    await until(lambda: b"cluster_state:ok" in redis_server.ask("CLUSTER", "INFO"))
    store = RedisBudgetStore(redis_server.url, timeout_s=2)
    reservation = claim("r", 1_500_000)
    assert (await reserve(store, reservation)).accepted
    assert (await store.settle(reservation, 1_250_000)).total_micro_usd == 1_250_000
    assert (await store.adjust(reservation.day, 5, "fault")).adjusted_micro_usd == 5
    assert await store.spent(reservation.day) == 1_250_000
    assert redis_server.ask("GET", "daily_spend") == b"$8\r\n1.250000\r\n"
    assert redis_server.ask("GET", f"{{daily_spend}}:{reservation.day}") == b"$7\r\n1250000\r\n"
    await store.aclose()


async def test_password_opens_and_is_never_told(redis_server: Server) -> None:
    """The URL's password is used; no error of a wrong one shows it."""
    redis_server.kill()
    redis_server.start("--requirepass", "hidden-word")
    right = RedisBudgetStore(f"redis://:hidden-word@127.0.0.1:{redis_server.port}/3", timeout_s=2)
    assert (await reserve(right, claim("r"))).accepted
    await right.aclose()
    wrong = RedisBudgetStore(f"redis://:another-word@127.0.0.1:{redis_server.port}", timeout_s=2)
    _, result = await timed(reserve(wrong, claim("r")))
    assert isinstance(result, BudgetStoreDown)
    assert "another-word" not in str(result)
    await wrong.aclose()


def test_without_the_package_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """BUDGET_STORE=redis without the extra is a configuration error that names it."""
    monkeypatch.delitem(sys.modules, "seawall.stores.redis_store")
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"seawall\[redis\]"):
        EquippedRouter(test_settings(budget_store="redis"))

"""
Eight processes with 64 calls each on one budget, killed at random, Redis too: the books are right to the micro-dollar.

SEAWALL_KILL_ROUNDS=20 plays twenty rounds of each, every one with other kills.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis
from redis.exceptions import RedisError

from router.budget import BudgetStore, Reservation, day_of
from seawall.stores.redis_store import RedisBudgetStore
from seawall.stores.sqlite_store import SqliteBudgetStore

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Server = Any  # a Redis of the test's own: see conftest.py
WORKER = Path(__file__).with_name("budget_worker.py")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
ROUNDS = range(int(os.environ.get("SEAWALL_KILL_ROUNDS", "1")))
WORKERS = 8
KILLS = 6
LEASE_S = 4.0
LIMIT_USD = 3.5
"""Less than what 512 calls at once want to reserve: the limit is felt from the first second to the last."""
LIMIT = round(LIMIT_USD * 1e6)


class Books(NamedTuple):
    """What the store has at the end: ids settled, ids expired, reservations outstanding, the day's total."""

    settled: set[str]
    expired: set[str]
    outstanding: int
    total: int


@pytest.fixture(autouse=True)
def within_one_day() -> None:
    """Wait for the new day where the old one is about to end: the audit adds up one day."""
    left_s = 86_400 - time.time() % 86_400
    if left_s < 90:
        time.sleep(left_s)


@pytest.mark.parametrize("seed", ROUNDS)
def test_redis_has_every_micro_dollar_whoever_dies(seed: int, redis_server: Server, tmp_path: Path) -> None:
    """Workers and Redis itself are killed at random: never over the limit, nothing lost, nothing booked twice."""
    draw = random.Random(seed)
    victims = ["redis", "redis", *draw.choices(["worker", "redis"], [2, 1], k=KILLS - 4), "worker", "worker"]
    draw.shuffle(victims)
    with _workers(redis_server.url, tmp_path) as workers, _watched(lambda: _redis_total(redis_server.url)) as seen:
        for victim in victims:
            time.sleep(0.2 + draw.random() * 0.6)
            if victim == "worker":
                workers.kill(draw)
            else:
                redis_server.kill()
                time.sleep(draw.random() * 0.3)
                redis_server.start(*DURABLE)
    _expire_all(lambda: RedisBudgetStore(redis_server.url, timeout_s=5, own_clock=False))
    _audit(tmp_path, _redis_books(redis_server.url), seen)


@pytest.mark.parametrize("seed", ROUNDS)
def test_sqlite_has_every_micro_dollar_whoever_dies(seed: int, tmp_path: Path) -> None:
    """Workers are killed in the midst of their transactions: never over the limit, nothing lost or booked twice."""
    draw = random.Random(seed)
    path = tmp_path / "budget.db"
    with _workers(str(path), tmp_path) as workers, _watched(lambda: _sqlite_total(path)) as seen:
        for _ in range(KILLS):
            time.sleep(0.2 + draw.random() * 0.6)
            workers.kill(draw)
    _expire_all(lambda: SqliteBudgetStore(path, timeout_s=5))
    _audit(tmp_path, _sqlite_books(path), seen)


class Workers:
    """Eight workers, forked by one process that has loaded what they need; who is killed is replaced."""

    def __init__(self, where: str, folder: Path) -> None:
        argv = [sys.executable, str(WORKER), where, str(LIMIT_USD), str(LEASE_S)]
        self.parent = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._folder = folder
        self._begun = 0
        self.alive: list[tuple[int, Path]] = []

    def begin(self) -> None:
        """Start one more."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        log = self._folder / f"log{self._begun}"
        self._begun += 1
        self.parent.stdin.write(f"{log}\n")
        self.parent.stdin.flush()
        self.alive.append((int(self.parent.stdout.readline()), log))

    def kill(self, draw: random.Random) -> None:
        """End one at once that has begun to spend, and replace it."""
        _until(self.all_spend)
        pid, _ = self.alive.pop(draw.randrange(len(self.alive)))
        os.kill(pid, signal.SIGKILL)
        self.begin()

    def all_spend(self) -> bool:
        """Whether every worker that should has written something down."""
        return all(log.exists() and log.stat().st_size for _, log in self.alive)

    def stop(self, number: int) -> None:
        """Send a signal to all."""
        for pid, _ in self.alive:
            os.kill(pid, number)


@contextmanager
def _workers(where: str, folder: Path) -> Iterator[Workers]:
    """Run eight workers; at the end stop those that are left: every one must go in order."""
    workers = Workers(where, folder)
    try:
        for _ in range(WORKERS):
            workers.begin()
        _until(workers.all_spend)
        yield workers
        time.sleep(0.5)
        _until(workers.all_spend)
        workers.stop(signal.SIGTERM)
    except BaseException:
        workers.stop(signal.SIGKILL)
        raise
    finally:
        out, _ = workers.parent.communicate(timeout=30)
    assert (workers.parent.returncode, out) == (0, "")


def _expire_all(make: Callable[[], BudgetStore]) -> None:
    """Wait until every lease is over, then ask the store as a next call would."""
    time.sleep(LEASE_S)

    async def ask() -> None:
        store = make()
        now_s = time.time()
        for n in range(20):
            probe = Reservation(id=f"probe{n}-0", day=day_of(now_s), micro_usd=10**12, expires_at_s=now_s + 1)
            assert not (await store.reserve(probe, LIMIT, now_s)).accepted
        await store.aclose()

    asyncio.run(ask())


@contextmanager
def _watched(total: Callable[[], int]) -> Iterator[list[int]]:
    """Look at the total from outside, again and again; a store that is away just then is no matter."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            with suppress(RedisError, sqlite3.Error):
                seen.append(total())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _redis_total(url: str) -> int:
    with closing(Redis.from_url(url, socket_timeout=1)) as redis:
        return int(redis.get(f"daily_spend:{day_of(time.time())}") or 0)  # type: ignore[arg-type]


def _sqlite_total(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT coalesce(sum(total), 0) FROM day").fetchone()[0]


def _redis_books(url: str) -> Books:
    day = day_of(time.time())
    with closing(Redis.from_url(url, decode_responses=True)) as redis:
        names: set[str] = set(redis.zrange(f"daily_spend:{day}:closed", 0, -1))  # type: ignore[arg-type]
        outstanding = int(redis.zcard(f"daily_spend:{day}:open"))  # type: ignore[arg-type]
        total = int(redis.get(f"daily_spend:{day}"))  # type: ignore[arg-type]
    expired = {name[1:] for name in names if name.startswith("!")}
    return Books({name for name in names if name[0] != "!"} - expired, expired, outstanding, total)


def _sqlite_books(path: Path) -> Books:
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT id, state, micro_usd FROM reservation").fetchall()
        ((_, usd),) = file.execute("SELECT * FROM daily_spend").fetchall()
    total = round(float(usd) * 1e6)
    assert total == sum(amount for *_, amount in rows)
    named = {kind: {name for name, state, _ in rows if state == kind} for kind in ("settled", "expired", "open")}
    return Books(named["settled"], named["expired"], len(named["open"]), total)


def _audit(folder: Path, books: Books, seen: list[int]) -> None:
    """Compare what the workers wrote down with what the store has, and had when it was looked at meanwhile."""
    lines = [line for log in folder.glob("log*") if log.name != "log" for line in log.read_text().split("\n")[:-1]]
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    spends = [event for event in events if event["kind"] == "spend"]
    told: dict[str, dict[str, int]] = {
        action: {event["reservation_id"]: event["micro_usd"] for event in spends if event["action"] == action}
        for action in ("reserve", "settle", "expire")
    }
    meant = {event["id"]: event["micro_usd"] for event in events if event["kind"] == "meant"}
    by_store = [event for event in spends if event["action"] == "reserve" and event["reserved_by"] == "store"]

    peak = max([*seen, *(event["total_micro_usd"] for event in by_store)])
    assert peak <= LIMIT
    assert books.total <= LIMIT
    assert peak > 0.9 * LIMIT, "the limit was never felt"
    assert any(event["kind"] == "refused" for event in events)
    assert len(by_store) > 200, "hardly anything happened"
    assert books.outstanding == 0
    steps = Counter((event["action"], event["reservation_id"]) for event in spends)
    assert set(steps.values()) == {1}, "a step was told twice"

    assert told["expire"].keys() <= books.expired
    assert books.expired, "no lease ran out, though workers died"
    assert told["settle"].keys() <= books.settled
    assert {event["reservation_id"] for event in by_store} <= books.settled | books.expired
    # A worker may die between a settlement and writing it down: of these the intent is known, or none was (no call).
    untold = {name: meant.get(name, 0) for name in books.settled - told["settle"].keys()}
    charged = {name: int(name.rsplit("-")[1]) for name in books.expired}
    assert books.total == sum(told["settle"].values()) + sum(charged.values()) + sum(untold.values())


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""The fault `budget` against a real Redis: lowered and raised again by delta, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from faults import registry
from faults.base import FaultError, Undo
from faults.budget import BudgetFault, read_back
from router.budget import Reservation, Standing, day_of
from seawall.processes import free_port
from seawall.stores.redis_store import RedisBudgetStore
from seawall.toolchain import resolve

pytestmark = pytest.mark.real

LIMIT = 50_000_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a real Redis that these tests share."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    with redis_server(port, folder) as process:
        yield f"redis://127.0.0.1:{port}/0"
        process.kill()


@pytest.fixture
def url(redis: str) -> str:
    """Return the URL of a Redis in which nothing was ever spent."""
    assert ask(redis, b"FLUSHALL\r\n") == b"+OK\r\n"
    return redis


def redis_server(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a Redis and wait until it answers."""
    program = resolve("redis").path
    assert program is not None
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while not _answers(f"redis://127.0.0.1:{port}"):
        assert time.monotonic() < deadline, "Redis did not start"
        time.sleep(0.02)
    return process


def ask(url: str, command: bytes) -> bytes:
    """Send one command and return the beginning of the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5) as wire:
        wire.sendall(command)
        return wire.recv(100)


def in_store(url: str, work: Callable[[RedisBudgetStore], Coroutine[Any, Any, Standing]]) -> Standing:
    """Do something in the store as a router would."""

    async def done() -> Standing:
        store = RedisBudgetStore(url, timeout_s=5)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(done())


def reserve(url: str, micro_usd: int) -> Standing:
    """Reserve an amount of today's budget."""
    now_s = time.time()
    claim = Reservation(id=f"r-{time.monotonic_ns()}", day=day_of(now_s), micro_usd=micro_usd, expires_at_s=now_s + 60)
    return in_store(url, lambda store: store.reserve(claim, LIMIT, now_s))


def fault_at(url: str, remaining: int = 100_000) -> BudgetFault:
    """Return the fault that leaves so many micro-dollars."""
    return BudgetFault(id="broke", run="a-run", url=url, limit_micro_usd=LIMIT, remaining_micro_usd=remaining)


def on_disk(record: Undo, **changed: object) -> Undo:
    """Return a record as it comes back from the undo file."""
    read = msgspec.json.decode(msgspec.json.encode(record), type=Undo)
    return Undo(kind=read.kind, arguments={**read.arguments, **changed})


def test_only_so_much_is_left(url: str) -> None:
    """In force the day takes no more than what the fault leaves, and its read-back says so; prepare changes nothing."""
    assert reserve(url, 2_000_000).accepted
    fault = fault_at(url)
    fault.prepare()
    assert read_back(fault).left_micro_usd == LIMIT - 2_000_000
    fault.inject()
    assert read_back(fault).left_micro_usd == 100_000
    assert read_back(fault).data()["criterion"] == "read_back"
    assert not reserve(url, 100_001).accepted
    assert reserve(url, 100_000).accepted
    assert fault.describe() == "remaining 0.10 USD (of 50.00 USD a day)"


def test_the_undo_keeps_what_was_spent_meanwhile(url: str) -> None:
    """Undone by delta, as often as one likes: what was spent under the fault stays booked."""
    fault = fault_at(url)
    record = on_disk(fault.prepare())
    fault.inject()
    assert reserve(url, 60_000).accepted
    registry.undo(record)
    registry.undo(record)
    assert registry.verify(record)
    now = read_back(fault)
    assert (now.spent_micro_usd, now.adjusted_micro_usd, now.left_micro_usd) == (60_000, 0, LIMIT - 60_000)


def test_what_was_never_injected_is_undone_too(url: str) -> None:
    """The undo of a fault that never got so far changes nothing, and an injection that comes after it has no effect."""
    fault = fault_at(url)
    record = on_disk(fault.prepare())
    registry.undo(record)
    assert registry.verify(record)
    another = fault_at(url)
    again = on_disk(another.prepare())
    another.inject()
    assert read_back(another).left_micro_usd == 100_000
    registry.undo(again)
    fault.inject()
    assert read_back(fault).left_micro_usd == LIMIT
    assert registry.verify(record)


def test_a_fault_in_force_is_not_verified_as_undone(url: str) -> None:
    """Before it was taken back a fault is never told to be gone."""
    fault = fault_at(url)
    record = on_disk(fault.prepare())
    fault.inject()
    assert not registry.verify(record)


def test_every_occurrence_is_an_adjustment_of_its_own(url: str) -> None:
    """A fault that repeats bites each time, also after its undo."""
    fault = fault_at(url)
    for _ in range(2):
        record = on_disk(fault.prepare())
        fault.inject()
        assert read_back(fault).left_micro_usd == 100_000
        registry.undo(record)
        assert read_back(fault).left_micro_usd == LIMIT


def test_midnight_in_the_middle_of_a_fault(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that began before midnight is undone on its own day; the new day is never touched."""
    yesterday = day_of(time.time() - 86_400)
    fault = fault_at(url)
    with monkeypatch.context() as clock:
        clock.setattr("faults.budget.time.time", lambda now=time.time: now() - 86_400)
        record = on_disk(fault.prepare())
        fault.inject()
    assert record.arguments["day"] == yesterday
    assert reserve(url, 1_000_000).accepted
    registry.undo(record)
    assert registry.verify(record)
    assert read_back(fault).adjusted_micro_usd == 0
    assert read_back(fault_at(url)).left_micro_usd == LIMIT - 1_000_000


def test_no_effect_is_refused(url: str) -> None:
    """Where no more is left anyhow the fault is refused with the figures, before anything is changed."""
    assert reserve(url, LIMIT - 50_000).accepted
    with pytest.raises(FaultError, match=r"only 0\.05 USD .* are left already, so 0\.10 USD would change nothing"):
        fault_at(url).prepare()


def test_a_redis_that_ended_with_its_harness_holds_nothing() -> None:
    """Where nobody listens a record is done if its harness is dead; while that lives, Redis may come back."""
    arguments: dict[str, Any] = {
        "url": f"redis://127.0.0.1:{free_port()}/0",
        "day": day_of(time.time()),
        "delta": 1,
        "adjustment": "seawall/a-run/broke/0",
        "harness": os.getpid(),
        "harness_started": "another start",
    }
    dead = Undo(kind="budget", arguments=arguments)
    registry.undo(dead)
    assert registry.verify(dead)
    fault = fault_at(arguments["url"])
    with pytest.raises(FaultError, match="the budget cannot be changed or read"):
        fault.prepare()


def test_a_redis_that_was_killed_is_waited_for(tmp_path: Path) -> None:
    """While its harness lives a Redis that refuses is no proof: the undo fails, and is good once Redis is back."""
    port = free_port()
    fault = fault_at(f"redis://127.0.0.1:{port}/0")
    process = redis_server(port, tmp_path)
    try:
        record = on_disk(fault.prepare())
        fault.inject()
        process.kill()
        process.wait(10)
        with pytest.raises(FaultError):
            registry.undo(record)
        process = redis_server(port, tmp_path)
        registry.undo(record)
        assert registry.verify(record)
    finally:
        process.kill()
        process.wait(10)


def test_a_redis_elsewhere_is_refused() -> None:
    """A budget on another machine is never touched."""
    with pytest.raises(FaultError, match="is not on this machine"):
        fault_at("redis://10.1.2.3:6379/0")


def _answers(url: str) -> bool:
    try:
        return ask(url, b"PING\r\n").startswith(b"+PONG")
    except OSError:
        return False

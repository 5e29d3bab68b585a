"""The budget in SQLite when its file is locked, broken, or left behind: bounded waits, and nothing lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import pytest

from router.budget import REMEMBERED_S, Reservation, Standing, day_of
from router.errors import BudgetStoreDown, ConfigurationError
from seawall.stores.sqlite_store import SqliteBudgetStore

LIMIT = 10**9
TIMEOUT_S = 0.2
SLACK_S = 1.5
"""What a busy machine may add to a bounded wait."""


def claim(name: str, amount: int = 100, lease_s: float = 60.0) -> Reservation:
    """Return a reservation made now."""
    now_s = time.time()
    return Reservation(id=name, day=day_of(now_s), micro_usd=amount, expires_at_s=now_s + lease_s)


async def reserve(store: SqliteBudgetStore, reservation: Reservation) -> Standing:
    """Take a reservation now."""
    return await store.reserve(reservation, LIMIT, time.time())


async def refused(step: Awaitable[object]) -> tuple[float, BudgetStoreDown]:
    """Return how long a step took to be refused, in seconds, and how."""
    began = time.monotonic()
    with pytest.raises(BudgetStoreDown) as found:
        await step
    return time.monotonic() - began, found.value


async def test_spend_can_be_read_and_outlives_the_process(tmp_path: Path) -> None:
    """Any SQLite shell shows the days in dollars; a store opened later goes on where the last one was."""
    path = tmp_path / "budget.db"
    store = SqliteBudgetStore(path, timeout_s=5)
    paid = claim("paid", 12_000_000)
    await reserve(store, paid)
    await store.settle(paid, 3_345_678)
    await reserve(store, claim("held", 1_000_000))
    await store.aclose()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT * FROM daily_spend").fetchall() == [(paid.day, "4.345678")]
    again = SqliteBudgetStore(path, timeout_s=5)
    assert await again.spent(paid.day) == 4_345_678
    assert (await again.settle(claim("held", 1_000_000), 0)).total_micro_usd == 3_345_678
    await again.aclose()


async def test_every_step_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    """The file is in WAL mode, and each commit waits for the disk; 64 steps at once share a few commits."""
    store = SqliteBudgetStore(tmp_path / "budget.db", timeout_s=5)
    commits: list[str] = []

    def watch(file: sqlite3.Connection) -> tuple[str, int]:
        file.set_trace_callback(lambda words: commits.append(words) if words == "COMMIT" else None)
        return (*file.execute("PRAGMA journal_mode").fetchone(), *file.execute("PRAGMA synchronous").fetchone())

    assert await store._bounded(watch) == ("wal", 2)  # FULL
    commits.clear()
    standings = await asyncio.gather(*(reserve(store, claim(f"r{n}")) for n in range(64)))
    assert sorted(standing.total_micro_usd for standing in standings) == [100 * n for n in range(1, 65)]
    assert 1 <= len(commits) < 16
    await store.aclose()


async def test_locked_file_never_holds_anybody(tmp_path: Path) -> None:
    """Held by somebody else: one bounded wait, then none, and the loop goes on; given back, steps do by themselves."""
    path = tmp_path / "budget.db"
    store = SqliteBudgetStore(path, timeout_s=TIMEOUT_S)
    await reserve(store, claim("before"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1

        beating = asyncio.create_task(beat())
        lost = await asyncio.gather(*(refused(reserve(store, claim(f"r{n}"))) for n in range(64)))
        assert max(took for took, _ in lost) < TIMEOUT_S + SLACK_S
        assert beats > 3
        began = time.monotonic()
        for n in range(100):
            await refused(reserve(store, claim(f"s{n}")))
        assert time.monotonic() - began < SLACK_S
        beating.cancel()
        other.execute("ROLLBACK")
    async with asyncio.timeout(5):
        while True:
            try:
                await store.spent("2026-01-01")
                break
            except BudgetStoreDown:
                await asyncio.sleep(0.02)
    # What may have been taken after all is taken back by whoever asked for it, as the ledger does.
    for n, (_, error) in enumerate(lost):
        if error.asked:
            await store.settle(claim(f"r{n}"), 0)
    assert await store.spent(claim("day").day) == 100
    await store.aclose()


async def test_reservations_are_forgotten_and_totals_are_not(tmp_path: Path) -> None:
    """An hour after its lease a reservation is no row any more; a clock that jumps ahead and back loses no spend."""
    store = SqliteBudgetStore(tmp_path / "budget.db", timeout_s=5)
    now_s = time.time()
    for n in range(3):
        await reserve(store, claim(f"r{n}"))
        await store.settle(claim(f"r{n}"), 40)
    later_s = now_s + 5 * 86_400
    later = Reservation(id="later", day=day_of(later_s), micro_usd=1, expires_at_s=later_s + REMEMBERED_S)
    await store.reserve(later, LIMIT, later_s)
    assert await store._bounded(lambda file: file.execute("SELECT id FROM reservation").fetchall()) == [("later",)]
    assert await store.spent(day_of(now_s)) == 120
    await store.aclose()


async def test_closing_ends_the_thread_also_while_the_file_is_locked(tmp_path: Path) -> None:
    """Closing takes a bounded time whoever holds the file, and leaves no thread behind once it is free."""
    path = tmp_path / "budget.db"
    store = SqliteBudgetStore(path, timeout_s=TIMEOUT_S)
    await reserve(store, claim("r"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refused(reserve(store, claim("s")))
        began = time.monotonic()
        await store.aclose()
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S
        other.execute("ROLLBACK")
    async with asyncio.timeout(5):
        while any(thread.name == "budget" for thread in threading.enumerate()):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def test_file_that_is_no_database_is_told_and_no_step_is_taken(tmp_path: Path) -> None:
    """A file of somebody else's is left as it is; each step is refused with the reason."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes" * 10)
    store = SqliteBudgetStore(path, timeout_s=5)
    _, error = await refused(reserve(store, claim("r")))
    assert "file is not a database" in str(error)
    assert not error.asked
    assert path.read_text().startswith("not a database")
    await store.aclose()


def test_path_must_be_a_file_in_a_folder_that_is_there(tmp_path: Path) -> None:
    """A folder, or a file in no folder, is a configuration error that names the setting."""
    for path in (tmp_path, tmp_path / "absent" / "budget.db", ""):
        with pytest.raises(ConfigurationError, match="BUDGET_SQLITE_PATH"):
            SqliteBudgetStore(path)


async def test_memory_is_a_name_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` is a file: a budget that each process has for itself would be no budget."""
    monkeypatch.chdir(tmp_path)
    store = SqliteBudgetStore(":memory:", timeout_s=5)
    await reserve(store, claim("r"))
    await store.aclose()
    assert (tmp_path / ":memory:").stat().st_size > 0

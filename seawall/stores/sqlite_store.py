"""
The budget of all workers of one host in one SQLite file: no server, and as durable as its disk.

A thread of its own talks to the file, so that no disk holds up the event loop. One immediate transaction takes all
steps that wait (each is atomic, and told only after the commit): one `fsync` serves 64 calls at once as it serves one.
The file is in WAL mode with `synchronous=FULL`: a step that was told survives a crash of the process and of the host.

The file must be on a local disk: SQLite's WAL needs shared memory, which no network file system has. To look at it:

    $ sqlite3 budget.db 'SELECT * FROM daily_spend'
    2026-01-31|12.345678

Reservations are forgotten an hour after their lease; the totals of all days stay.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from router.budget import EXPIRED_PER_STEP_MAX, REMEMBERED_S, Reservation, Standing, day_before
from router.errors import BudgetStoreDown, ConfigurationError
from seawall.stores.outage import Outage

__all__ = ["SqliteBudgetStore"]

STEPS_MAX = 256
"""Steps of one transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS day (day TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS adjustment (
    day TEXT NOT NULL, id TEXT NOT NULL, delta INTEGER NOT NULL, PRIMARY KEY (day, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservation (
    day TEXT NOT NULL, id TEXT NOT NULL, micro_usd INTEGER NOT NULL, expires_at_s REAL NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (day, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservation_by_end ON reservation (state, expires_at_s);
CREATE VIEW IF NOT EXISTS daily_spend AS
    SELECT day, printf('%d.%06d', total / 1000000, total % 1000000) AS usd FROM day ORDER BY day;
"""
_BOOKS = """
SELECT coalesce((SELECT total FROM day WHERE day = :day), 0),
       coalesce((SELECT sum(delta) FROM adjustment WHERE day = :day), 0)
"""
_DUE = "SELECT day, id, micro_usd, expires_at_s FROM reservation WHERE state = 'open' AND expires_at_s <= ? LIMIT ?"
_FORGET = """
DELETE FROM reservation WHERE (day, id) IN (
    SELECT day, id FROM reservation WHERE state IN ('settled', 'expired') AND expires_at_s <= ? LIMIT ?
)
"""
_ADD = "INSERT INTO day VALUES (?, ?) ON CONFLICT (day) DO UPDATE SET total = total + excluded.total"


class _Step:
    """Work for the thread, and its result; None as work closes the file."""

    __slots__ = ("done", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any] | None) -> None:
        self.work = work
        self.done: Future[Any] = Future()


class SqliteBudgetStore:
    """
    A `BudgetStore` in the SQLite file at `path`, for any number of processes of one host.

    Every step takes at most `timeout_s`, whoever else holds the file. After a step was lost, the next ones fail at once
    until the file can be written again, which is looked for in the background. Raises ConfigurationError when there is
    no folder for the file.
    """

    def __init__(self, path: str | Path, *, timeout_s: float = 0.25) -> None:
        self._path = Path(path).absolute()
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise ConfigurationError(f"BUDGET_SQLITE_PATH is {path}: it must be a file in a folder that is there")
        self._timeout_s = timeout_s
        self._steps: SimpleQueue[_Step] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._outage = Outage(lambda: self._bounded(lambda _: None), (BudgetStoreDown,))

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""

        def work(file: sqlite3.Connection) -> Standing:
            expired = _expire(file, wall_s, (reservation.day, day_before(reservation.day)))
            total, adjusted = _books(file, reservation.day)
            state, _ = _seen(file, reservation)
            accepted = state == "open"
            if not state and total + max(0, adjusted) + reservation.micro_usd <= limit_micro_usd:
                accepted = True
                total += reservation.micro_usd
                _put(file, reservation, reservation.micro_usd, "open")
                file.execute(_ADD, (reservation.day, reservation.micro_usd))
            return Standing(accepted=accepted, total_micro_usd=total, adjusted_micro_usd=adjusted, expired=expired)

        return await self._step(work)

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""

        def work(file: sqlite3.Connection) -> Standing:
            total, adjusted = _books(file, reservation.day)
            state, held = _seen(file, reservation)
            if state in ("", "open"):
                paid = min(micro_usd, held if state else reservation.micro_usd)
                total += paid - held
                _put(file, reservation, paid, "settled")
                file.execute(_ADD, (reservation.day, paid - held))
            return Standing(accepted=state != "expired", total_micro_usd=total, adjusted_micro_usd=adjusted)

        return await self._step(work)

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        return (await self._step(lambda file: _books(file, day)))[0]

    async def adjust(self, day: str, delta_micro_usd: int, id: str) -> Standing:  # noqa: A002 - see BudgetStore
        """See BudgetStore."""

        def work(file: sqlite3.Connection) -> Standing:
            added = file.execute("INSERT OR IGNORE INTO adjustment VALUES (?, ?, ?)", (day, id, delta_micro_usd))
            total, adjusted = _books(file, day)
            return Standing(accepted=added.rowcount == 1, total_micro_usd=total, adjusted_micro_usd=adjusted)

        return await self._step(work)

    async def aclose(self) -> None:
        """Close the file, after the steps under way; in bounded time."""
        await self._outage.end()
        if self._thread is not None:
            with suppress(BudgetStoreDown):  # then the thread closes the file as soon as the disk lets it
                await self._bounded(None)
            self._thread, self._steps = None, SimpleQueue()

    async def _step(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._outage:
            raise BudgetStoreDown("the budget's SQLite file cannot be written")
        try:
            return await self._bounded(work)
        except BudgetStoreDown:
            self._outage.begin()
            raise

    async def _bounded(self, work: Callable[[sqlite3.Connection], Any] | None) -> Any:
        if self._thread is None:
            # No thread of the pool of `asyncio.to_thread`: others may fill that up.
            self._thread = threading.Thread(target=self._serve, args=(self._steps,), name="budget", daemon=True)
            self._thread.start()
        step = _Step(work)
        self._steps.put(step)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(step.done)
        except TimeoutError:
            asked = not step.done.cancel()  # atomic: a step that the thread has not begun will never be
            message = f"the budget's SQLite file was not written within {self._timeout_s:g} s"
            raise BudgetStoreDown(message, asked=asked) from None

    def _serve(self, waiting: SimpleQueue[_Step]) -> None:
        """Take steps until one closes the file: the thread."""
        file: sqlite3.Connection | None = None
        closing = False
        while not closing:
            steps = _taken_from(waiting)
            closing = steps[-1].work is None
            steps = [step for step in steps if step.done.set_running_or_notify_cancel()]
            committing = False
            try:
                file = file or self._open()
                file.execute("BEGIN IMMEDIATE")
                results = [step.work(file) if step.work is not None else None for step in steps]
                committing = True
                file.execute("COMMIT")
            except Exception as error:  # noqa: BLE001 - a thread that dies would take the budget with it
                told = BudgetStoreDown(f"the budget's SQLite file: {error}", asked=committing)
                for step in steps:
                    step.done.set_exception(told)
                if file is not None:
                    file.close()  # rolls back; the next step opens it afresh
                    file = None
            else:
                for step, result in zip(steps, results, strict=True):
                    step.done.set_result(result)
        if file is not None:
            file.close()

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
        try:
            for name, value in (("journal_mode", "WAL"), ("synchronous", "FULL"), ("fullfsync", "ON")):
                file.execute(f"PRAGMA {name}={value}")
            file.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        except sqlite3.Error:
            file.close()
            raise
        return file


def _taken_from(waiting: SimpleQueue[_Step]) -> list[_Step]:
    """Wait for a step, and return it with those behind it, up to one that closes."""
    steps = [waiting.get()]
    with suppress(Empty):
        while len(steps) < STEPS_MAX and steps[-1].work is not None:
            steps.append(waiting.get_nowait())
    return steps


def _expire(file: sqlite3.Connection, wall_s: float, days: tuple[str, str]) -> tuple[Reservation, ...]:
    """Charge lost reservations (the totals hold them already), forget those closed long ago; return those of `days`."""
    due = file.execute(_DUE, (wall_s, EXPIRED_PER_STEP_MAX)).fetchall()
    for day, name, *_ in due:
        file.execute("UPDATE reservation SET state = 'expired' WHERE day = ? AND id = ?", (day, name))
    file.execute(_FORGET, (wall_s - REMEMBERED_S, EXPIRED_PER_STEP_MAX))
    return tuple(
        Reservation(id=name, day=day, micro_usd=amount, expires_at_s=until)
        for day, name, amount, until in due
        if day in days
    )


def _books(file: sqlite3.Connection, day: str) -> tuple[int, int]:
    """Return a day's total and adjustments."""
    return file.execute(_BOOKS, {"day": day}).fetchone()


def _seen(file: sqlite3.Connection, reservation: Reservation) -> tuple[str, int]:
    """Return how a reservation stands, and its amount; an empty text for one that was never seen."""
    words = "SELECT state, micro_usd FROM reservation WHERE day = ? AND id = ?"
    return file.execute(words, (reservation.day, reservation.id)).fetchone() or ("", 0)


def _put(file: sqlite3.Connection, reservation: Reservation, amount: int, state: str) -> None:
    row = (reservation.day, reservation.id, amount, reservation.expires_at_s, state)
    file.execute("INSERT OR REPLACE INTO reservation VALUES (?, ?, ?, ?, ?)", row)

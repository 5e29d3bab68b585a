"""
Drive the storm table: every row, at 8 and 32 clients, JSON and streams, one worker and two.

A row goes through five phases, all with the clients' own eyes open:

    burst (all at once, no pause) ─▶ trickle (a steady rate, longer than a recovery period) ─▶ known (one by one, where
    nobody can answer) ─▶ healed ─▶ return (a steady rate until every worker is back at the primary, and stays)
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from storm_client import Connection, Seen
from storm_parts import FALLBACK, PRIMARY, TOKENS, Journal, Provider, Records, gateway, providers
from storm_rows import RECOVERY_S, ROWS, SETTINGS, SLOW, THROTTLED, Row

_RATE = 40.0  # requests a second of all clients together, once the burst is over
_TRICKLE_S = 1.6 * RECOVERY_S
_RETURN_LIMIT_S = 6.0
_HELD = 3  # answers of each worker that must come from the primary before it counts as back
_AT_ONCE = 8
_OBSERVED_S = 29.0  # of a cooldown of 30 s
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Variant:
    """How the clients come, and what they meet."""

    workers: int
    clients: int
    stream: bool

    def __str__(self) -> str:
        return f"{self.workers}w {self.clients}c {'stream' if self.stream else 'JSON'}"


VARIANTS = [Variant(w, c, s) for w in (1, 2) for c in (8, 32) for s in (False, True)]


@dataclass
class Cell:
    """What was seen of one row in one variant. Times in seconds of the monotonic clock."""

    row: Row
    variant: Variant
    clients_of: dict[str, int]
    """Connections by worker."""
    noise_s: float = 0.0
    """The longest wait of the same clients when nothing was wrong."""
    start_s: float = 0.0
    healed_s: float = 0.0
    """When the fault was gone, for those too who still hung in it, and the last cooldown that it asked for was over."""
    burst: list[Seen] = field(default_factory=list[Seen])
    trickle: list[Seen] = field(default_factory=list[Seen])
    known: list[Seen] = field(default_factory=list[Seen])
    back: list[Seen] = field(default_factory=list[Seen])
    records: Records = field(default_factory=lambda: Records([], []))
    """Of the whole row, up to the healing and the return."""

    @property
    def seen(self) -> list[Seen]:
        """All requests while the fault was there."""
        return [*self.burst, *self.trickle, *self.known]

    def returned_s(self, worker: str) -> float | None:
        """Return how long after the healing a worker was served by the primary again, and from then on only by it."""
        late = [seen for seen in self.back if seen.worker == worker]
        for seen in sorted(late, key=lambda seen: seen.end_s):
            if seen.provider == PRIMARY and seen.is_whole(TOKENS):
                since = [other for other in late if other.start_s >= seen.end_s]
                if len(since) >= _HELD and all(other.provider == PRIMARY for other in since):
                    return seen.end_s - self.healed_s
        return None


class Storm:
    """Runs the table; `requests` is how many a burst has."""

    def __init__(self, folder: Path, requests: Callable[[Variant], int], *, full: bool) -> None:
        self._folder = folder
        self._requests = requests
        self._full = full
        self._quiet = asyncio.Lock()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> list[Cell]:
        """Return every cell. The one that needs its 30 s goes on beside the others."""
        patient = replace(VARIANTS[0], workers=2)
        work = [self._observe_in_full(patient), *(self._group(variant) for variant in VARIANTS)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
        return [cell for task in tasks for cell in task.result()]

    async def _group(self, variant: Variant) -> list[Cell]:
        async with self._room, AsyncExitStack() as stack:
            folder = self._folder / str(variant).replace(" ", "-")
            folder.mkdir()
            upstreams = await stack.enter_async_context(providers(folder))
            journal = Journal(folder)
            cells: list[Cell] = []
            port = await stack.enter_async_context(gateway(upstreams, folder, variant.workers, SETTINGS))
            connections = await _connect(port, variant)
            for row in ROWS:
                observed_s = _OBSERVED_S if row is THROTTLED and self._full else _trickle_s(row)
                cells.append(await self._row(row, variant, upstreams, connections, journal, observed_s))
                cells[-1].noise_s = max(seen.took_s for seen in cells[0].seen)
            await asyncio.gather(*(connection.close() for connection in connections))
            return cells

    async def _observe_in_full(self, variant: Variant) -> list[Cell]:
        """Wait out a whole `Retry-After: 30`, and see the traffic return after it."""
        folder = self._folder / "observed-in-full"
        folder.mkdir()
        async with (
            providers(folder) as upstreams,
            gateway(upstreams, folder, variant.workers, SETTINGS) as port,
        ):
            connections = await _connect(port, variant)
            row = replace(THROTTLED, name=f"{THROTTLED.name}, observed in full")
            cell = await self._row(row, variant, upstreams, connections, Journal(folder), _OBSERVED_S, rate=10.0)
            await asyncio.gather(*(connection.close() for connection in connections))
            return [cell]

    async def _row(
        self,
        row: Row,
        variant: Variant,
        upstreams: tuple[Provider, Provider],
        connections: list[Connection],
        journal: Journal,
        trickle_s: float,
        *,
        rate: float = _RATE,
    ) -> Cell:
        clients_of = {c.worker: sum(1 for other in connections if other.worker == c.worker) for c in connections}
        cell = Cell(row, variant, clients_of)
        journal.news()
        await _inject(row, upstreams)
        cell.start_s = time.monotonic()
        each = max(1, self._requests(variant) // len(connections))
        # One burst at a time: they would only take each other's cores. Those that wait for a time-out need none.
        async with self._quiet if not row.first_answer_s else nullcontext():
            cell.burst = await _burst(connections, variant, each, spaced_s=0.1 if _is_spaced(row, variant) else 0.0)
        # What is observed in full has to be healed before its cooldown ends, or the next call begins another one.
        in_full = trickle_s == _OBSERVED_S
        ends_s = (cell.start_s if in_full else time.monotonic()) + trickle_s
        cell.trickle = await _paced(connections, variant, rate, lambda _: time.monotonic() >= ends_s)
        if row.nobody_answers:
            one_each = {connection.worker: connection for connection in connections}.values()
            cell.known = [await _ask(connection, variant) for connection in one_each for _ in range(10)]
        await _heal(row, upstreams)
        cell.healed_s = time.monotonic()
        records = journal.news()
        if row is SLOW or row.cooldown_s < _OBSERVED_S or in_full:
            cell.back = await _paced(connections, variant, rate, _has_returned(cell))
        late = journal.news()
        cell.records = Records(records.calls + late.calls, records.events + late.events)
        faulty_s = [c["end_ns"] / 1e9 + row.cooldown_s for c in cell.records.calls if c["behaviour"] == "storm"]
        cell.healed_s = max([cell.healed_s, *faulty_s])
        if row.nobody_answers:
            await _call_back(FALLBACK, connections, variant)
        return cell


def _trickle_s(row: Row) -> float:
    return 2.0 if row is THROTTLED else _TRICKLE_S


def _is_spaced(row: Row, variant: Variant) -> bool:
    """Whether requests come one by one, so that "within ten calls" means something: 32 at once are on their way."""
    return row is SLOW and variant.clients < 10


async def _connect(port: int, variant: Variant) -> list[Connection]:
    """Return as many connections as there are clients, the same number to each worker."""
    share = variant.clients // variant.workers
    found: dict[str, list[Connection]] = {}
    while sum(map(len, found.values())) < variant.clients:
        made = await Connection.to(port)
        if len(mine := found.setdefault(made.worker, [])) < share:
            mine.append(made)
        else:
            await made.close()
    return [connection for pair in zip(*found.values(), strict=True) for connection in pair]


async def _inject(row: Row, upstreams: tuple[Provider, Provider]) -> None:
    primary, fallback = upstreams
    if row.refused:
        await primary.stop()
    for provider, what in ((primary, row.primary), (fallback, row.fallback)):
        if what is not None:
            await provider.behave(what)


async def _heal(row: Row, upstreams: tuple[Provider, Provider]) -> None:
    primary, fallback = upstreams
    if row.refused:
        await primary.start()
    for provider, what in ((primary, row.primary), (fallback, row.fallback)):
        if what is not None:
            await provider.behave(None)


async def _call_back(provider: str, connections: list[Connection], variant: Variant) -> None:
    """Have each worker find out that a provider is well: the next row may need it, and nobody asks it unless named."""
    for connection in {connection.worker: connection for connection in connections}.values():
        deadline_s = time.monotonic() + _RETURN_LIMIT_S
        while time.monotonic() < deadline_s:
            seen = await connection.ask(f"s{next(_numbers)}", stream=variant.stream, model=provider)
            if seen.provider == provider:
                break
            await asyncio.sleep(RECOVERY_S / 5)


async def _ask(connection: Connection, variant: Variant) -> Seen:
    return await connection.ask(f"s{next(_numbers)}", stream=variant.stream)


async def _burst(connections: list[Connection], variant: Variant, each: int, *, spaced_s: float) -> list[Seen]:
    async def client(n: int, connection: Connection) -> list[Seen]:
        await asyncio.sleep(n * spaced_s)
        return [await _ask(connection, variant) for _ in range(each)]

    found = await asyncio.gather(*(client(n, connection) for n, connection in enumerate(connections)))
    return [seen for some in found for seen in some]


async def _paced(
    connections: list[Connection], variant: Variant, rate: float, is_over: Callable[[list[Seen]], bool]
) -> list[Seen]:
    """Ask at `rate` until it is over; a client that waits for its answer leaves its turns to nobody."""
    pause_s = len(connections) / rate
    found: list[Seen] = []

    async def client(n: int, connection: Connection) -> None:
        await asyncio.sleep(pause_s * n / len(connections))
        while not is_over(found):
            due_s = time.monotonic() + pause_s
            found.append(await _ask(connection, variant))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    await asyncio.gather(*(client(n, connection) for n, connection in enumerate(connections)))
    return found


def _has_returned(cell: Cell) -> Callable[[list[Seen]], bool]:
    deadline_s = time.monotonic() + _RETURN_LIMIT_S

    def is_over(found: list[Seen]) -> bool:
        cell.back = found
        return time.monotonic() > deadline_s or all(cell.returned_s(worker) is not None for worker in cell.clients_of)

    return is_over

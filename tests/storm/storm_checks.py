"""
What must hold of a cell of the storm table, and its figures.

Calls are the emulators' own records. The gateway's word is taken for two things only: when its breaker turned, and when
a call that was on its way then had left.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from storm_parts import FALLBACK, PRIMARY, TOKENS
from storm_rows import RECOVERY_S, SLOW, TIMEOUT_S
from storm_runs import Cell

THRESHOLD = 3
JITTER = 1.1
PLANNED_S = 0.05
"""So much later a call may leave that was planned before its provider was found slow: slowness takes no permits."""
KNOWN_MS = 50.0
SLOW_CALLS_MAX = 10


@dataclass(frozen=True)
class Start:
    """One call to a provider that is at fault: when it left, and by which worker."""

    worker: str
    at_s: float


def not_whole(cell: Cell) -> list[str]:
    """Return the answers that are not whole where somebody can answer, and what is no right error where nobody can."""
    if not cell.row.nobody_answers:
        return [str(seen) for seen in [*cell.seen, *cell.back] if not seen.is_whole(TOKENS)]
    wrong = [seen for seen in cell.seen if (seen.status, seen.code) != (503, "all_clouds_down")]
    wrong += [seen for seen in cell.known if seen.retry_after_s is None or not 1 <= seen.retry_after_s <= 2]
    wrong += [seen for seen in cell.back if not seen.is_whole(TOKENS) and seen.code != "all_clouds_down"]
    return [str(seen) for seen in wrong]


def too_slow(cell: Cell) -> list[str]:
    """Return what took longer than the first time-out; a second more where clients have to wait for it."""
    limit_s = TIMEOUT_S + (1.0 if cell.row.first_answer_s else 0.0)
    slow = [str(seen) for seen in cell.seen if seen.took_s > limit_s]
    if cell.known and known_ms(cell) > KNOWN_MS:
        slow.append(f"known to be down, and yet {known_ms(cell):.0f} ms for an error")
    return slow


def known_ms(cell: Cell) -> float:
    """Return the median wait for an error that is known already."""
    return statistics.median(seen.took_s for seen in cell.known) * 1000


def starts(cell: Cell, provider: str) -> list[Start]:
    """Return the calls that a provider at fault got, by the time they left, in order."""
    worker_of = {seen.request_id: seen.worker for seen in [*cell.seen, *cell.back]}
    left_ns = {attempt["request_id"]: attempt["start_ns"] for attempt in cell.records.of("attempt", provider)}
    if cell.row.refused:  # what is refused is no call; only who tried can tell
        tried = ((id_, ns) for id_, ns in left_ns.items() if ns / 1e9 < cell.healed_s)
        return sorted((Start(worker_of[id_], ns / 1e9) for id_, ns in tried), key=lambda start: start.at_s)
    faulty = (call for call in cell.records.calls_to(provider) if call["behaviour"] == "storm")
    found = (Start(worker_of[c["request_id"]], left_ns.get(c["request_id"], c["arrival_ns"]) / 1e9) for c in faulty)
    return sorted(found, key=lambda start: start.at_s)


def at_fault(cell: Cell) -> tuple[str, ...]:
    """Return who does wrong."""
    return (PRIMARY, FALLBACK) if cell.row.nobody_answers else (PRIMARY,)


def before_known(cell: Cell, provider: str) -> dict[str, int]:
    """Return, for each worker, the calls that left before it knew: before its breaker opened, or saw the slowness."""
    calls = starts(cell, provider)
    return {
        worker: sum(1 for call in calls if call.worker == worker and call.at_s <= at_s)
        for worker, at_s in _known_s(cell, provider).items()
    }


def probes(cell: Cell, provider: str) -> dict[str, list[float]]:
    """Return, for each worker, the times of the calls that left after it knew."""
    calls = starts(cell, provider)
    return {
        worker: [call.at_s for call in calls if call.worker == worker and call.at_s > at_s]
        for worker, at_s in _known_s(cell, provider).items()
    }


def called_too_often(cell: Cell) -> list[str]:
    """Return what was called that should have been left alone."""
    problems: list[str] = []
    for provider in at_fault(cell):
        for worker, count in before_known(cell, provider).items():
            at_once = cell.clients_of[worker]
            spaced = cell.row == SLOW and at_once < SLOW_CALLS_MAX
            limit = SLOW_CALLS_MAX if spaced else at_once + (0 if cell.row == SLOW else THRESHOLD)
            if count > limit:
                problems.append(f"{provider}: {count} calls of {worker} before it knew, {limit} are the floor")
        for worker, times in probes(cell, provider).items():
            problems += [
                f"{provider}: {worker} called again after {(later - earlier) * 1000:.0f} ms"
                for earlier, later in pairwise([_known_s(cell, provider)[worker], *times])
                if later - earlier < 0.9 * RECOVERY_S
            ]
            problems += _while_open(cell, provider, worker, times)
        problems += _while_cooling(cell, provider)
    return problems


def _while_open(cell: Cell, provider: str, worker: str, times: Iterable[float]) -> Iterator[str]:
    if cell.row == SLOW:
        return
    turns = [e for e in cell.records.of("breaker", provider) if e["worker"] == worker]
    for opening in (turn for turn in turns if turn["to"] == "open"):
        ends = (t["mono_ns"] for t in turns if t["mono_ns"] > opening["mono_ns"])
        until_s = min(ends, default=float("inf")) / 1e9
        inside = [at for at in times if opening["mono_ns"] / 1e9 < at < until_s]
        if inside:
            yield f"{provider}: {len(inside)} calls of {worker} started while its breaker was open"


def _while_cooling(cell: Cell, provider: str) -> Iterator[str]:
    if not cell.row.cooldown_s:
        return
    told_s: dict[str, list[float]] = {}
    for attempt in cell.records.of("attempt", provider):
        if attempt["error"] == "rate_limited":
            told_s.setdefault(attempt["worker"], []).append(attempt["end_ns"] / 1e9)
    for call in starts(cell, provider):
        waits = (told + cell.row.cooldown_s - call.at_s for told in told_s[call.worker] if told < call.at_s)
        if (early_s := max(waits, default=0.0)) > 0:
            yield f"{provider}: called by {call.worker} {early_s:.1f} s before its cooldown ended"


def not_back(cell: Cell) -> list[str]:
    """
    Return the workers that did not come back to the primary within one open period and a second.

    A machine that is busy with something else is excused for what it took when nothing was wrong.
    """
    if not cell.back:
        return []
    limit_s = JITTER * RECOVERY_S + 1.0 + cell.noise_s
    took = {worker: cell.returned_s(worker) for worker in cell.clients_of}
    return [f"{worker}: {found}" for worker, found in took.items() if found is None or found > limit_s]


def _known_s(cell: Cell, provider: str) -> dict[str, float]:
    """Return when each worker first turned away from a provider; infinity for one that had no need to."""
    kind, to = ("latency", "slow") if cell.row == SLOW else ("breaker", "open")
    settled_s = PLANNED_S if cell.row == SLOW else 0.0
    turns = [event for event in cell.records.of(kind, provider) if event["to"] == to]
    return {
        worker: min((t["mono_ns"] / 1e9 + settled_s for t in turns if t["worker"] == worker), default=float("inf"))
        for worker in cell.clients_of
    }


def table(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield the lines of the table: the worst of each row's variants, for each number of clients."""
    by_row: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        by_row.setdefault((cell.row.name, cell.variant.clients), []).append(cell)
    head = f"{'fault at the primary':<38} {'clients':>7} {'requests':>8} {'whole':>7} {'refused':>7} "
    yield head + f"{'before':>6} {'probes':>6} {'slowest':>8} {'known':>8} {'back':>7}"
    for (name, clients), some in by_row.items():
        seen = [seen for cell in some for seen in cell.seen]
        whole = sum(1 for each in seen if each.is_whole(TOKENS)) / len(seen)
        refused = sum(1 for each in seen if each.code == "all_clouds_down") / len(seen)
        before = max((n for cell in some for n in before_known(cell, PRIMARY).values()), default=0)
        probed = max((len(times) for cell in some for times in probes(cell, PRIMARY).values()), default=0)
        slowest = max(each.took_s for each in seen)
        known = [f"{known_ms(cell):.1f}" for cell in some if cell.known]
        back = [took for cell in some for worker in cell.clients_of if (took := cell.returned_s(worker)) is not None]
        yield (
            f"{name:<38} {clients:>7} {len(seen):>8} {whole:>7.1%} {refused:>7.1%} {before:>6} {probed:>6} "
            f"{slowest:>6.2f} s {max(known, key=float, default='–'):>5} ms "
            f"{f'{max(back):.2f}' if back else '–':>5} s"
        )

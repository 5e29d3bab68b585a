"""
Invariants on the budget: never over the limit, every reservation closed once, the total is the sum. Pure.

Totals are the store's, as it said after each step: one store a worker, or one for all (`BUDGET_STORE=redis`). While a
shared store is away each worker may have an allowance of its own, of which the store hears when it is back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from router.budget import day_of
from seawall.journal.events import Spend
from seawall.journal.view import Timed
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = ["reservations_are_closed", "spend_within_limit", "total_is_the_sum"]

_MADE, _CLOSED = 1, 1_000_000
_HELD_MAX = 1000
_UNDER_WAY_MAX = 64
"""How many steps of a shared store may have been under way at once, so that they are stamped in another order."""
_DRAIN_NS = 3_000_000_000
"""How long a worker that ends in order tries to book what is left, and a little more."""


def spend_within_limit(case: Case) -> Check:
    """
    What is settled and reserved never passes the limit, at no step.

    The limit of a reservation is what there was of it then: less under a fault `remaining`, the worker's own share
    under an allowance. What workers spent of their allowances may come on top of the store's limit, and no more.
    """
    name = "spend never passes the limit"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    allowances: dict[str, int] = {}
    found: list[Evidence] = []
    for timed in case.journal.spends:
        step = timed.event
        limit = step.limit_micro_usd
        if step.source == "allowance" and step.action == "reserve":
            allowances[step.worker] = limit
        else:
            limit += sum(allowances.values())
        if step.total_micro_usd > limit:
            text = f"{_usd(step.total_micro_usd)} after a {step.action} of {_usd(step.micro_usd)}"
            text += f", over the limit of {_usd(limit)}"
            found.append(case.evidence(text, timed.mono_ns, step.request_id or None))
    return invariant(name, found, examined=len(case.journal.spends), of="budget steps")


def reservations_are_closed(case: Case) -> Check:
    """
    Every reservation is made once, and settled or expired once.

    One that died with its worker, or with the run, may stay open: the store charges it when its lease ends.
    """
    name = "every reservation is settled or expired once"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    steps: Counter[str] = Counter()
    examined = 0
    for timed in case.journal.spends:
        step = timed.event
        examined += step.action == "reserve"
        steps[step.reservation_id] += _MADE if step.action == "reserve" else _CLOSED
        if steps[step.reservation_id] == _MADE + _CLOSED:
            del steps[step.reservation_id]  # a third step finds nothing, and is told from those that are left
    odd = set(steps)
    made = Counter(t.event.reservation_id for t in _steps_of(case, odd) if t.event.action == "reserve")
    closed = Counter(t.event.reservation_id for t in _steps_of(case, odd) if t.event.action != "reserve")
    last = {timed.event.reservation_id: timed for timed in _steps_of(case, odd)}
    ends = {death.worker: death.at_ns for death in case.deaths if death.is_bad or _store_was_away(case, death.at_ns)}
    found: list[Evidence] = []
    for reservation_id, timed in last.items():
        opened, ended = made[reservation_id], closed[reservation_id]
        died = case.journal.end is None or ends.get(timed.event.worker, 0) >= timed.mono_ns
        if not (opened == 1 and ended == 0 and died):
            text = f"reservation {reservation_id} was made {opened} times and closed {ended} times"
            found.append(case.evidence(text, timed.mono_ns, timed.event.request_id or None))
    return invariant(name, found, examined=examined, of="reservations", limit="1 each")


def total_is_the_sum(case: Case) -> Check:
    """The last total is what there was at first, plus all that was settled or charged, plus what is still open."""
    name = "the total spent is the sum of the settlements"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    spends = case.journal.spends
    if (note := _why_no_sum(case)) is not None:
        return invariant(name, [], examined=0, of="budget steps that can be summed", note=note)
    shared = case.setting("BUDGET_STORE", "memory").lower() != "memory"
    workers = len({timed.event.worker for timed in spends})
    together = _Books(_UNDER_WAY_MAX if shared else workers)
    for timed in spends:
        together.add(timed.event)
    apart: dict[str, _Books] = {}
    for timed in spends if not together.adds_up() else ():
        apart.setdefault(timed.event.worker, _Books(_UNDER_WAY_MAX if shared else 1)).add(timed.event)
    found: list[Evidence] = []
    # Workers may share one store or have one each; either is in order when it adds up.
    if not together.adds_up():
        for worker, books in {"the store": together}.items() if shared else apart.items():
            if not books.adds_up():
                text = f"{worker} says {_usd(books.told[-1])}, but its steps add up to {_usd(books.total)}"
                found.append(case.evidence(text, spends[-1].mono_ns, spends[-1].event.request_id or None))
    return invariant(name, found, examined=len(spends), of="budget steps")


class _Books:
    """
    What budget steps add up to, and the totals that were told at their beginning and end.

    `tolerance`: so many of the first and of the last steps may be stamped in another order than they were taken in.
    """

    def __init__(self, tolerance: int) -> None:
        self.tolerance = tolerance
        self.starts: list[int] = []
        self.told: deque[int] = deque(maxlen=tolerance)
        self._booked = 0
        self._held: dict[str, int] = {}
        self._unheard: dict[str, int] = {}
        """What was reserved with the store away: it may have taken it all the same, and only its answer be lost."""

    @property
    def total(self) -> int:
        """What the steps add up to: settled or charged, still reserved, and what there was before them."""
        return (self.starts[0] if self.starts else 0) + self._sum

    @property
    def _sum(self) -> int:
        return self._booked + sum(self._held.values())

    def add(self, step: Spend) -> None:
        """Take one step, in order of time. Only the store's own totals count: an allowance is none of its money."""
        if step.action == "reserve":
            if step.source == "store":
                self._held[step.reservation_id] = step.micro_usd
                self.told.append(step.total_micro_usd)
                if len(self.starts) < self.tolerance:
                    self.starts.append(step.total_micro_usd - step.micro_usd)
            else:
                self._unheard[step.reservation_id] = step.micro_usd
            return
        self._held.pop(step.reservation_id, None)
        self._unheard.pop(step.reservation_id, None)
        self._booked += step.micro_usd
        if step.action == "settle":
            if step.source == "allowance" and len(self.starts) < self.tolerance:
                # The store hears of it only now: what it says after that is no beginning of the sum.
                # It may hold others by then, whose reservation it took without being heard.
                held = {0}
                for amount in self._unheard.values():
                    held |= {more + amount for more in held}
                self.starts += [step.total_micro_usd - step.micro_usd - more for more in sorted(held)[:_HELD_MAX]]
            self.told.append(step.total_micro_usd)

    def adds_up(self) -> bool:
        """Whether one of the first totals and one of the last fit the steps between them."""
        return not self.told or not self.starts or any(start + self._sum in self.told for start in self.starts)


def _why_no_sum(case: Case) -> str | None:
    """Return why the steps cannot be summed, None when they can."""
    spends = case.journal.spends
    made: set[str] = set()
    for timed in spends:
        step = timed.event
        if step.action == "reserve":
            made.add(step.reservation_id)
        elif step.reservation_id in made:
            made.discard(step.reservation_id)
        else:
            return "Reservations are missing, so there is no sum; another invariant tells of them."
    if len({day_of(timed.wall) for timed in spends}) > 1:
        return "The UTC day, and with it the total, changed during the run."
    if any(fault.clock_skew for fault in case.scenario.faults):
        return "A worker's clock was off, so its steps may be of another day."
    if any(death.is_bad for death in case.deaths):
        return "A worker died, and with it the word of its last steps."
    return None


def _store_was_away(case: Case, end_ns: int) -> bool:
    """Whether a worker that ended in order could not book what was left: that is charged when its lease ends."""
    return any(
        interval.injected_ns is not None
        and interval.injected_ns <= end_ns
        and (interval.healed_ns is None or interval.healed_ns >= end_ns - _DRAIN_NS)
        for fault in case.scenario.faults
        if fault.target == "redis"
        for interval in case.intervals(fault.id)
    )


def _steps_of(case: Case, reservations: set[str]) -> Iterator[Timed[Spend]]:
    for timed in case.journal.spends if reservations else ():
        if timed.event.reservation_id in reservations:
            yield timed


def _usd(micro_usd: int) -> str:
    return f"{micro_usd / 1_000_000:.6f} USD"

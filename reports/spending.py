"""
What was spent against the limit, on the time axis of the run. Pure.

Totals are the stores' own words, settled plus reserved. Where each worker has a store of its own, theirs are added up;
what a worker may spend of its allowance while the store is away is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from reports.timeline import Timeline
from seawall.journal.view import Journal

__all__ = ["Spending", "spending_of"]


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """For each step of the time axis, in US dollars: the most that was spent or reserved, and the least limit."""

    spent_usd: tuple[float, ...]
    limit_usd: tuple[float, ...]
    """Of all stores together; before the first step the first that is known."""
    stores: int


def spending_of(journal: Journal, line: Timeline) -> Spending | None:
    """Return the spending of a run in which the budget played a part, None of any other."""
    if not len(journal.spends) or not _matters(journal):
        return None
    settings = journal.header.settings if journal.header is not None else {}
    is_shared = settings.get("BUDGET_STORE", "memory") != "memory"
    most, last = _Steps(line), _Steps(line)
    limits = _Steps(line)
    totals: dict[str, int] = {}
    for stamped in journal.spends:
        step, at_s = stamped.event, journal.seconds(stamped.mono_ns)
        if step.action == "expire" or (step.action == "reserve" and step.source != "store"):
            continue
        totals["" if is_shared else step.worker] = step.total_micro_usd
        total = sum(totals.values())
        most.keep(at_s, max(most.at(at_s, total), total))
        last.keep(at_s, total)
        if step.action == "reserve":
            limits.keep(at_s, min(limits.at(at_s, step.limit_micro_usd), step.limit_micro_usd))
    stores = max(len(totals), 1)
    first = next((value for value in limits.values if value is not None), journal.spends[0].event.limit_micro_usd)
    return Spending(
        spent_usd=tuple(_usd(most.carried(last, 0))),
        limit_usd=tuple(_usd(value * stores for value in limits.carried(limits, first))),
        stores=stores,
    )


class _Steps:
    """One number a step of the time axis, where there is one."""

    def __init__(self, line: Timeline) -> None:
        self._line = line
        self.values: list[int | None] = [None] * len(line.buckets)

    def at(self, at_s: float, default: int) -> int:
        """Return the number of the step that a moment lies in."""
        value = self.values[self._place(at_s)]
        return default if value is None else value

    def keep(self, at_s: float, value: int) -> None:
        """Set the number of the step that a moment lies in."""
        self.values[self._place(at_s)] = value

    def carried(self, ends: _Steps, first: int) -> Iterator[int]:
        """Yield the numbers; a step without one is as the step before it was at its end."""
        now = first
        for value, end in zip(self.values, ends.values, strict=True):
            yield now if value is None else value
            now = now if end is None else end

    def _place(self, at_s: float) -> int:
        place = math.floor((at_s - self._line.start_s) / self._line.step_s + 1e-9)
        return min(max(place, 0), len(self.values) - 1)


def _matters(journal: Journal) -> bool:
    """Whether the limit was reached, or a fault was aimed at the budget."""
    if any(stamped.event.target == "budget" for stamped in journal.fault_events):
        return True
    return any(stamped.event.reason == "budget" for stamped in journal.skips) or any(
        stamped.event.total_micro_usd >= stamped.event.limit_micro_usd for stamped in journal.spends
    )


def _usd(micro_usd: Iterable[int]) -> Iterator[float]:
    return (value / 1_000_000 for value in micro_usd)

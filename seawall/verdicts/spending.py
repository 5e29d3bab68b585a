"""Invariants on the budget: never over the limit, every reservation closed once, the total is the sum. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from router.budget import day_of
from seawall.journal.events import Spend
from seawall.journal.view import Timed
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = ["reservations_are_closed", "spend_within_limit", "total_is_the_sum"]


def spend_within_limit(case: Case) -> Check:
    """What is settled and reserved never passes the limit, at no step."""
    name = "spend never passes the limit"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    found = [
        case.evidence(
            f"{_usd(timed.event.total_micro_usd)} after a {timed.event.action} of "
            f"{_usd(timed.event.micro_usd)}, over the limit of {_usd(timed.event.limit_micro_usd)}",
            timed.mono_ns,
            timed.event.request_id or None,
        )
        for timed in case.journal.spends
        if timed.event.total_micro_usd > timed.event.limit_micro_usd
    ]
    return invariant(name, found, examined=len(case.journal.spends), of="budget steps")


def reservations_are_closed(case: Case) -> Check:
    """Every reservation is made once, and settled or expired once; one that died with its process may stay open."""
    name = "every reservation is settled or expired once"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    made: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    last: dict[str, Timed[Spend]] = {}
    for timed in case.journal.spends:
        reservation_id = timed.event.reservation_id
        (made if timed.event.action == "reserve" else closed)[reservation_id] += 1
        last[reservation_id] = timed
    found: list[Evidence] = []
    for reservation_id, timed in last.items():
        opened, ended = made[reservation_id], closed[reservation_id]
        killed = case.journal.end is None or any(exit_ns >= timed.mono_ns for exit_ns in case.bad_exits_ns)
        if opened == 1 and (ended == 1 or (ended == 0 and killed)):
            continue
        text = f"reservation {reservation_id} was made {opened} times and closed {ended} times"
        found.append(case.evidence(text, timed.mono_ns, timed.event.request_id or None))
    return invariant(name, found, examined=len(last), of="reservations", limit="1 each")


def total_is_the_sum(case: Case) -> Check:
    """The last total is what there was at first, plus all that was settled or charged, plus what is still open."""
    name = "the total spent is the sum of the settlements"
    if not case.journal.observes("spend"):
        return unobservable("invariant", name, "spend")
    spends = case.journal.spends
    made = {timed.event.reservation_id for timed in spends if timed.event.action == "reserve"}
    if any(timed.event.reservation_id not in made for timed in spends):
        note = "Reservations are missing, so there is no sum; another invariant tells of them."
        return invariant(name, [], examined=0, of="budget steps that can be summed", note=note)
    if spends and day_of(spends[0].wall) != day_of(spends[-1].wall):
        note = "The UTC day, and with it the total, changed during the run."
        return invariant(name, [], examined=0, of="budget steps of a single day", note=note)
    by_worker: defaultdict[str, list[Spend]] = defaultdict(list)
    for timed in spends:
        by_worker[timed.event.worker].append(timed.event)
    # Workers may share one store or have one each; the events do not say, and either is in order when it adds up.
    found: list[Evidence] = []
    if not _adds_up([timed.event for timed in spends], workers=len(by_worker)):
        for worker, part in by_worker.items():
            if not _adds_up(part, workers=1):
                told = [event for event in part if event.action != "expire"]
                text = f"{worker} says {_usd(told[-1].total_micro_usd)}, but its steps add up to "
                text += _usd(_starts(part, 1).pop() + _sum(part))
                found.append(case.evidence(text, spends[-1].mono_ns, told[-1].request_id))
    return invariant(name, found, examined=len(spends), of="budget steps")


def _adds_up(spends: Sequence[Spend], *, workers: int) -> bool:
    """Whether the totals fit; with several workers the first and last steps may be stamped in another order."""
    told = [event for event in spends if event.action != "expire"]  # an expiry does not know the total
    ends = {event.total_micro_usd for event in told[-workers:]}
    return not told or any(start + _sum(spends) in ends for start in _starts(spends, workers))


def _starts(spends: Sequence[Spend], workers: int) -> set[int]:
    """Return what the total may have been before the first step: earlier spending of the day."""
    reservations = [event for event in spends if event.action == "reserve"]
    return {event.total_micro_usd - event.micro_usd for event in reservations[:workers]}


def _sum(spends: Sequence[Spend]) -> int:
    """Return what the steps add to the total: what was settled or charged, and what is still reserved."""
    held: dict[str, int] = {}
    total = 0
    for event in spends:
        if event.action == "reserve":
            held[event.reservation_id] = event.micro_usd
        else:
            held.pop(event.reservation_id, None)
            total += event.micro_usd
    return total + sum(held.values())


def _usd(micro_usd: int) -> str:
    return f"{micro_usd / 1_000_000:.6f} USD"

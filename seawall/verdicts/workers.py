"""
The ends of gateway workers, and what a fault that killed one explains. Pure.

What was under way in a worker that a fault killed dies with it: the client sees its connection end, and neither
attempt nor settlement can be written any more. None of that is the router's doing, so it is told and not held against
it. That an answer was passed on as whole which was not is never explained by a death.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import msgspec

from seawall.journal.events import RequestRecord
from seawall.journal.view import Journal
from seawall.scenario.model import Scenario

__all__ = ["DYING_NS", "Death", "deaths_of", "orphans_of"]

DYING_NS = 1_000_000_000
"""How long after the death of a worker its clients and providers may notice it."""
_PART = "gateway"
_ENDING = ("kill", "restart")
"""Who has not ended in order by the end of a `restart` is killed then; until then a bad end is its own."""
_BROKEN_OFF = ("error", "cut", "hung")


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one gateway worker. A worker that takes its place is another, with breakers of its own."""

    worker: str
    """Its name in its own events, `gateway-<pid>`."""
    from_ns: int
    """When it was struck, or, where nothing struck it, `at_ns`."""
    at_ns: int
    """When the harness saw that it had ended."""
    code: int | None
    killed_by: str | None
    """The id of the fault that was in force and killed it, at once or at its end (`restart`); None when none did."""

    @property
    def is_bad(self) -> bool:
        """Whether it could not end in order: by a signal, or with an exit code other than 0."""
        return self.code not in (0, None)

    def explains(self, request: RequestRecord) -> bool:
        """Whether a request's connection may have ended with this worker: under way then, and over soon after."""
        return request.intended_ns <= self.at_ns and self.from_ns <= request.end_ns <= self.at_ns + DYING_NS


def deaths_of(journal: Journal, scenario: Scenario) -> tuple[Death, ...]:
    """Return the ends of gateway workers, in order of time."""
    kills = {fault.id: fault.process for fault in scenario.faults if fault.target == _PART and fault.process in _ENDING}
    kills |= {fault.id: "kill" for fault in scenario.faults if fault.chaos_mesh is not None and fault.chaos_mesh.kills}
    strikes = [
        (from_ns, interval.healed_ns if interval.healed_ns is not None else journal.last_ns, fault_id)
        for fault_id in sorted(kills.keys() & journal.faults.keys())
        for interval in journal.faults[fault_id].intervals
        if (from_ns := interval.injected_ns if kills[fault_id] == "kill" else interval.healing_ns) is not None
    ]
    ends = {
        f"{_PART}-{timed.event.pid}": (timed.mono_ns, timed.event.code)
        for timed in journal.processes
        if timed.event.action == "exit" and timed.event.name.startswith(_PART)
    }
    for timed in journal.pods:
        # In a simulation the process has been told of already.
        if timed.event.action == "exit" and timed.event.pid is not None:
            ends.setdefault(f"{_PART}-{timed.event.pid}", (timed.mono_ns, timed.event.code))
    deaths: list[Death] = []
    for worker, (at_ns, code) in sorted(ends.items(), key=lambda end: end[1][0]):
        struck = [strike for strike in strikes if strike[0] <= at_ns <= strike[1] and code not in (0, None)]
        deaths.append(
            Death(
                worker=worker,
                from_ns=struck[0][0] if struck else at_ns,
                at_ns=at_ns,
                code=code,
                killed_by=struck[0][2] if struck else None,
            )
        )
    return tuple(deaths)


def orphans_of(journal: Journal, deaths: Iterable[Death]) -> dict[str, Death]:
    """Return the requests that ended because a fault killed their worker, by id, with that worker's death."""
    kills = [death for death in deaths if death.killed_by is not None]
    orphans: dict[str, Death] = {}
    for request in journal.requests.having("outcome", *_BROKEN_OFF) if kills else ():
        orphans.update((request.request_id, death) for death in kills if death.explains(request))
    if orphans:
        # Another worker that has a part in the request is the one that answers for it.
        reports = chain(journal.attempts, (timed.event for timed in journal.skips))
        served = [(event.request_id, event.worker) for event in reports if event.request_id in orphans]
        for request_id, worker in served:
            if request_id in orphans and orphans[request_id].worker != worker:
                del orphans[request_id]
    return orphans

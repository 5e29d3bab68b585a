"""The life of every breaker as the journal shows it, and where a call falls in it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from seawall.journal.events import BreakerChange
from seawall.journal.view import Journal, Timed
from seawall.verdicts.joins import Joined

__all__ = ["NEVER_NS", "PROBE_NS", "TRAVEL_NS", "Period", "Periods", "changes_of", "periods_of", "place"]

NEVER_NS = 2**63 - 1
"""The end of a period that the journal does not show the end of."""
TRAVEL_NS = 50_000_000
"""How long a call may travel to the provider: one that had left before an opening may arrive so long after it."""
PROBE_NS = 50_000_000
"""How long before the half-open event its probe may be stamped: the event is written while the probe is made."""

Where = Literal["outside", "in_flight", "starts"]


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker of one worker in one state. `generation` is the number of the transition that began it."""

    worker: str
    provider: str
    state: str
    generation: int | None
    start_ns: int
    end_ns: int


class Periods:
    """The periods of every breaker: by (worker, provider), in order of time. A breaker without events is closed."""

    def __init__(self, by_breaker: Mapping[tuple[str, str], Sequence[Period]]) -> None:
        self._by_breaker = by_breaker
        self._starts = {key: [period.start_ns for period in periods] for key, periods in by_breaker.items()}

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers that reported a transition."""
        return tuple(sorted({worker for worker, _ in self._by_breaker}))

    def of(self, worker: str, provider: str) -> Sequence[Period]:
        """Return the periods of one breaker."""
        return self._by_breaker.get((worker, provider)) or (_closed(worker, provider),)

    def at(self, provider: str, worker: str, ns: int) -> Period:
        """Return the period that `ns` lies in."""
        periods = self.of(worker, provider)
        starts = self._starts.get((worker, provider), [0])
        return periods[max(bisect_right(starts, ns) - 1, 0)]

    def in_state(self, state: str, provider: str | None = None) -> list[Period]:
        """Return all reported periods in a state, in order of their start."""
        found = [
            period
            for periods in self._by_breaker.values()
            for period in periods
            if period.state == state and provider in (None, period.provider)
        ]
        return sorted(found, key=lambda period: (period.start_ns, period.worker, period.provider))


def changes_of(journal: Journal) -> dict[tuple[str, str], list[Timed[BreakerChange]]]:
    """Return the transitions of each breaker by (worker, provider), in order of time."""
    changes: defaultdict[tuple[str, str], list[Timed[BreakerChange]]] = defaultdict(list)
    for timed in journal.breakers:
        changes[timed.event.worker, timed.event.provider].append(timed)
    return dict(changes)


def periods_of(journal: Journal, ends_ns: Mapping[str, int]) -> Periods:
    """Return the life of every breaker: each begins closed, and ends with its worker, of which `ends_ns` tells when."""
    by_breaker: dict[tuple[str, str], list[Period]] = {}
    for (worker, provider), changes in changes_of(journal).items():
        # What a dying worker wrote last may be stamped after its end was seen.
        end_ns = max(ends_ns.get(worker, NEVER_NS), changes[-1].mono_ns + 1)
        ends = [timed.mono_ns for timed in changes[1:]] + [end_ns]
        periods = [_closed(worker, provider, until_ns=changes[0].mono_ns)]
        periods.extend(
            Period(
                worker=worker,
                provider=provider,
                state=timed.event.to,
                generation=timed.event.generation,
                start_ns=timed.mono_ns,
                end_ns=end_ns,
            )
            for timed, end_ns in zip(changes, ends, strict=True)
        )
        by_breaker[worker, provider] = periods
    return Periods(by_breaker)


def place(pair: Joined, period: Period, *, delayed: bool) -> Where:
    """
    Say whether a call starts in a period of its breaker.

    A call that its attempt had begun before the period is `in_flight` when it arrives within the travel time, or when
    it was `delayed` on the way by a fault; later than that the attempt's stamp is not believed. The probe, which may
    be stamped a moment before the half-open event, belongs to the half-open period, not to the open one before it.
    """
    arrival_ns = pair.call.arrival_ns
    arrives = period.start_ns <= arrival_ns < period.end_ns
    if pair.attempt is None:
        return "starts" if arrives else "outside"
    start_ns = pair.attempt.start_ns
    if start_ns >= period.end_ns:
        return "outside"
    if period.state == "half_open":
        begins = period.start_ns - PROBE_NS <= start_ns and arrival_ns >= period.start_ns
        return "starts" if begins else "outside"
    if start_ns > period.start_ns:
        is_probe = period.state == "open" and start_ns >= period.end_ns - PROBE_NS and arrival_ns >= period.end_ns
        return "outside" if is_probe else "starts"
    if not arrives:
        return "outside"
    return "in_flight" if delayed or arrival_ns - period.start_ns <= TRAVEL_NS else "starts"


def _closed(worker: str, provider: str, until_ns: int = NEVER_NS) -> Period:
    return Period(worker=worker, provider=provider, state="closed", generation=None, start_ns=0, end_ns=until_ns)

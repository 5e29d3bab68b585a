"""The indexed view of a journal that verdicts and reports are computed from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from seawall.journal.events import (
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Exchange,
    Fault,
    Header,
    Hpa,
    Lag,
    LatencyChange,
    MetricsAnswer,
    Note,
    Pod,
    Process,
    RequestRecord,
    Skip,
    Spend,
    Stamped,
)
from seawall.journal.faults import FaultTrace, trace_faults
from seawall.journal.kept import Kept
from seawall.journal.packed import Packed

__all__ = ["MERGE_SOURCE", "PROBLEMS_MAX", "Journal", "Tally", "Timed", "index"]

MERGE_SOURCE = "merge"
"""The `source` of the notes that the merge adds."""

PROBLEMS_MAX = 100

E = TypeVar("E")


class Tally(msgspec.Struct, kw_only=True):
    """What was passed over while a journal was read."""

    unknown_kinds: dict[str, int] = {}
    """Events of kinds that this version does not know, by kind."""
    bad_lines: int = 0
    problems: list[str] = []
    """Line and reason of the first 100 bad lines."""
    torn: bool = False
    """Whether the last line was cut off; it is not among the bad ones."""
    sealed: bool | None = None
    """Whether it has a seal (see `seal.py`), by which an edit would show; None of a journal that was in no file."""
    edited: str | None = None
    """What shows that it was edited after the run, or that its copy is broken."""

    def add(self, problem: str) -> None:
        """Count one bad line."""
        self.bad_lines += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


class Timed(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """An event of one kind with its place in the journal."""

    mono_ns: int
    wall: float
    """Seconds since the epoch."""
    source: str
    seq: int
    event: E


_of_request: Callable[[RequestRecord], int] = attrgetter("intended_ns")
_of_call: Callable[[CallRecord], int] = attrgetter("arrival_ns")
_of_attempt: Callable[[Attempt], int] = attrgetter("start_ns")
_of_any: Callable[[Timed[Any]], int] = attrgetter("mono_ns")


class Journal(msgspec.Struct, kw_only=True):
    """
    A run's events by kind, each in order of time.

    `requests` are ordered by the intended start, `calls` by arrival, `attempts` by start, the rest by `mono_ns`.
    Kinds of which there is one a request, or more, are kept encoded: go through them, and keep what is needed of each.
    """

    path: Path
    header: Header | None = None
    end: End | None = None
    """None for a run that was killed."""
    requests: Packed[RequestRecord] = msgspec.field(default_factory=lambda: Packed(RequestRecord, _of_request))
    calls: Packed[CallRecord] = msgspec.field(default_factory=lambda: Packed(CallRecord, _of_call))
    attempts: Packed[Attempt] = msgspec.field(default_factory=lambda: Packed(Attempt, _of_attempt))
    skips: Packed[Timed[Skip]] = msgspec.field(default_factory=lambda: Packed(Timed[Skip], _of_any))
    breakers: list[Timed[BreakerChange]] = []
    spends: Packed[Timed[Spend]] = msgspec.field(default_factory=lambda: Packed(Timed[Spend], _of_any))
    fault_events: list[Timed[Fault]] = []
    processes: list[Timed[Process]] = []
    pods: list[Timed[Pod]] = []
    metrics_answers: list[Timed[MetricsAnswer]] = []
    exchanges: list[Timed[Exchange]] = []
    hpas: list[Timed[Hpa]] = []
    lags: list[Timed[Lag]] = []
    latencies: list[Timed[LatencyChange]] = []
    """When a predictive breaker called a provider slow, and fast again."""
    notes: list[Timed[Note]] = []
    faults: dict[str, FaultTrace] = {}
    """The life of each fault by id, in order of the plan."""
    events: int = 0
    """How many events there are."""
    first_ns: int = 0
    last_ns: int = 0
    """`mono_ns` of the first and the last event."""
    tally: Tally = msgspec.field(default_factory=Tally)

    @property
    def t0_ns(self) -> int:
        """The start of the load; without an `end` the first intended request, and without any the first event."""
        if self.end is not None and self.end.load_start_ns is not None:
            return self.end.load_start_ns
        return self.requests[0].intended_ns if self.requests else self.first_ns

    @property
    def load_end_ns(self) -> int:
        """The end of the load; without an `end` the last event."""
        if self.end is not None and self.end.load_end_ns is not None:
            return self.end.load_end_ns
        return self.last_ns

    def seconds(self, ns: int) -> float:
        """Return a time of the journal as seconds after the start of the load."""
        return (ns - self.t0_ns) / 1e9

    def observes(self, kind: str) -> bool:
        """Whether the system under test reports events of this kind; what it does not report is n/a, never 0."""
        return self.header is not None and kind in self.header.observes


def index(events: Iterable[Stamped], path: Path, tally: Tally | None = None, *, packs: bool = True) -> Journal:
    """
    Return the indexed view of `events`, which may come in any order. `path` says where they are from.

    `tally` is what was passed over when they were read, and grows by what cannot be kept. Without `packs` the events
    are kept as they are: quicker to read, and several times as large.
    """
    tally = tally if tally is not None else Tally()
    journal = Journal(path=path, tally=tally) if packs else _unpacked(path, tally)
    ends: list[Timed[Header | End]] = []
    for stamped in events:
        try:
            _keep(journal, stamped, ends)
        except (OverflowError, UnicodeEncodeError) as error:
            journal.tally.add(f"event {stamped.seq} of {stamped.source} cannot be kept: {error}")
            continue
        moment_ns = stamped.mono_ns
        journal.first_ns = min(journal.first_ns, moment_ns) if journal.events else moment_ns
        journal.last_ns = max(journal.last_ns, moment_ns) if journal.events else moment_ns
        journal.events += 1
    # Of several headers the first counts, of several ends the last.
    for timed in sorted(ends, key=_place, reverse=True):
        if isinstance(timed.event, Header):
            journal.header = timed.event
        elif journal.end is None:
            journal.end = timed.event
    _sort(journal)
    journal.faults = trace_faults((timed.mono_ns, timed.event) for timed in journal.fault_events)
    return journal


def _unpacked(path: Path, tally: Tally) -> Journal:
    return Journal(
        path=path,
        tally=tally,
        requests=Kept(_of_request),
        calls=Kept(_of_call),
        attempts=Kept(_of_attempt),
        skips=Kept(_of_any),
        spends=Kept(_of_any),
    )


_LISTS: dict[type, str] = {
    BreakerChange: "breakers",
    Fault: "fault_events",
    Process: "processes",
    Pod: "pods",
    MetricsAnswer: "metrics_answers",
    Exchange: "exchanges",
    Hpa: "hpas",
    Lag: "lags",
    LatencyChange: "latencies",
    Note: "notes",
}
"""Where the events of the kinds of which there are few are kept."""


def _keep(journal: Journal, stamped: Stamped, ends: list[Timed[Header | End]]) -> None:
    event = stamped.event
    match event:
        case RequestRecord():
            journal.requests.append(event)
        case CallRecord():
            journal.calls.append(event)
        case Attempt():
            journal.attempts.append(event)
        case Spend():
            journal.spends.append(_timed(stamped, event))
        case Skip():
            journal.skips.append(_timed(stamped, event))
        case Header() | End():
            ends.append(_timed(stamped, event))
        case _:
            few: list[Timed[Any]] = getattr(journal, _LISTS[type(event)])
            few.append(_timed(stamped, event))


def _timed(stamped: Stamped, event: E) -> Timed[E]:
    return Timed(mono_ns=stamped.mono_ns, wall=stamped.wall, source=stamped.source, seq=stamped.seq, event=event)


def _place(timed: Timed[E]) -> tuple[int, str, int]:
    return (timed.mono_ns, timed.source, timed.seq)


def _sort(journal: Journal) -> None:
    journal.requests.sort(lambda request: (request.request_id, request.end_ns))
    journal.calls.sort(lambda call: (call.provider, call.request_id or "", call.end_ns))
    journal.attempts.sort(lambda attempt: (attempt.request_id, attempt.n, attempt.provider))
    journal.skips.sort(_place)
    journal.spends.sort(_place)
    journal.breakers.sort(key=_place)
    journal.fault_events.sort(key=_place)
    journal.processes.sort(key=_place)
    journal.pods.sort(key=_place)
    journal.metrics_answers.sort(key=_place)
    journal.exchanges.sort(key=lambda timed: timed.event.start_ns)
    journal.hpas.sort(key=_place)
    journal.lags.sort(key=_place)
    journal.latencies.sort(key=_place)
    journal.notes.sort(key=_place)

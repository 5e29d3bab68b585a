"""The indexed view of a journal that verdicts and reports are computed from. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from seawall.journal.events import (
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Fault,
    Header,
    Lag,
    LatencyChange,
    Note,
    Process,
    RequestRecord,
    Skip,
    Spend,
    Stamped,
)
from seawall.journal.faults import FaultTrace, trace_faults

__all__ = ["MERGE_SOURCE", "Journal", "Tally", "Timed", "index"]

MERGE_SOURCE = "merge"
"""The `source` of the notes that the merge adds."""

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


class Timed(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """An event of one kind with its place in the journal."""

    mono_ns: int
    wall: float
    """Seconds since the epoch."""
    source: str
    seq: int
    event: E


class Journal(msgspec.Struct, kw_only=True):
    """
    A run's events by kind, each list in order of time.

    `requests` are ordered by the intended start, `calls` by arrival, `attempts` by start, the rest by `mono_ns`.
    """

    path: Path
    header: Header | None = None
    end: End | None = None
    """None for a run that was killed."""
    requests: list[RequestRecord] = []
    calls: list[CallRecord] = []
    attempts: list[Attempt] = []
    skips: list[Timed[Skip]] = []
    breakers: list[Timed[BreakerChange]] = []
    spends: list[Timed[Spend]] = []
    fault_events: list[Timed[Fault]] = []
    processes: list[Timed[Process]] = []
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


def index(events: Iterable[Stamped], path: Path) -> Journal:
    """Return the indexed view of `events`, which may come in any order. `path` says where they are from."""
    journal = Journal(path=path)
    same = _Same()
    moments: list[int] = []
    ends: list[Timed[Header | End]] = []
    for stamped in events:
        moments.append(stamped.mono_ns)
        event = stamped.event
        match event:
            case RequestRecord():
                _share_request(event, same)
                journal.requests.append(event)
            case CallRecord():
                _share_call(event, same)
                journal.calls.append(event)
            case Attempt():
                _share_attempt(event, same)
                journal.attempts.append(event)
            case Spend():
                event.request_id, event.reservation_id = same[event.request_id], same[event.reservation_id]
                event.provider, event.worker = same[event.provider], same[event.worker]
                journal.spends.append(_timed(stamped, event, same))
            case Skip():
                event.request_id = same[event.request_id]
                event.provider, event.worker = same[event.provider], same[event.worker]
                journal.skips.append(_timed(stamped, event, same))
            case Header() | End():
                ends.append(_timed(stamped, event, same))
            case _:
                _keep_rare(journal, stamped, event, same)
    if moments:
        journal.events, journal.first_ns, journal.last_ns = len(moments), min(moments), max(moments)
    for timed in sorted(
        ends, key=_place, reverse=True
    ):  # of several headers the first counts, of several ends the last
        if isinstance(timed.event, Header):
            journal.header = timed.event
        elif journal.end is None:
            journal.end = timed.event
    _sort(journal)
    journal.faults = trace_faults((timed.mono_ns, timed.event) for timed in journal.fault_events)
    return journal


class _Same(dict[str, str]):
    """Hands back one object for equal strings: a request's id occurs in a dozen events."""

    def __missing__(self, text: str) -> str:
        self[text] = text
        return text

    def maybe(self, text: str | None) -> str | None:
        return None if text is None else self[text]


def _keep_rare(
    journal: Journal, stamped: Stamped, event: BreakerChange | Fault | Process | Lag | LatencyChange | Note, same: _Same
) -> None:
    match event:
        case BreakerChange():
            journal.breakers.append(_timed(stamped, event, same))
        case Fault():
            journal.fault_events.append(_timed(stamped, event, same))
        case Process():
            journal.processes.append(_timed(stamped, event, same))
        case Lag():
            journal.lags.append(_timed(stamped, event, same))
        case LatencyChange():
            journal.latencies.append(_timed(stamped, event, same))
        case _:
            journal.notes.append(_timed(stamped, event, same))


def _timed(stamped: Stamped, event: E, same: _Same) -> Timed[E]:
    source = same[stamped.source]
    return Timed(mono_ns=stamped.mono_ns, wall=stamped.wall, source=source, seq=stamped.seq, event=event)


def _place(timed: Timed[E]) -> tuple[int, str, int]:
    return (timed.mono_ns, timed.source, timed.seq)


def _share_request(event: RequestRecord, same: _Same) -> None:
    event.request_id = same[event.request_id]
    event.provider = same.maybe(event.provider)
    event.code = same.maybe(event.code)
    event.providers_in_text = [same[name] for name in event.providers_in_text]


def _share_call(event: CallRecord, same: _Same) -> None:
    event.request_id = same.maybe(event.request_id)
    event.provider = same[event.provider]
    event.model = same.maybe(event.model)
    event.behaviour = same[event.behaviour]


def _share_attempt(event: Attempt, same: _Same) -> None:
    event.request_id = same[event.request_id]
    event.provider = same[event.provider]
    event.model = same[event.model]
    event.reason = same[event.reason]
    event.error = same.maybe(event.error)
    event.worker = same[event.worker]


def _sort(journal: Journal) -> None:
    journal.requests.sort(key=lambda request: (request.intended_ns, request.request_id, request.end_ns))
    journal.calls.sort(key=lambda call: (call.arrival_ns, call.provider, call.request_id or "", call.end_ns))
    journal.attempts.sort(key=lambda attempt: (attempt.start_ns, attempt.request_id, attempt.n, attempt.provider))
    journal.skips.sort(key=_place)
    journal.breakers.sort(key=_place)
    journal.spends.sort(key=_place)
    journal.fault_events.sort(key=_place)
    journal.processes.sort(key=_place)
    journal.lags.sort(key=_place)
    journal.latencies.sort(key=_place)
    journal.notes.sort(key=_place)

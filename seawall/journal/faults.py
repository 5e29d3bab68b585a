"""The life of each fault, as measured: from its `fault` events to intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from seawall.journal.events import Fault

__all__ = ["FaultInterval", "FaultTrace", "trace_faults"]


class FaultInterval(msgspec.Struct, kw_only=True):
    """One occurrence of a fault. Times are `mono_ns`; None is a phase that the journal does not show."""

    planned_at_s: float | None = None
    """Its planned start in seconds of the load, by which its events are told from those of other occurrences."""
    injected_ns: int | None = None
    """When the injection began: the fault may have had an effect from here on."""
    active_ns: int | None = None
    met: bool = False
    healing_ns: int | None = None
    healed_ns: int | None = None
    undo_verified: bool = False


class FaultTrace(msgspec.Struct, kw_only=True):
    """One fault of the plan with all its occurrences, in order of time. Planned times in seconds of the load."""

    id: str
    target: str
    description: str
    planned_at_s: float
    duration_s: float
    intervals: list[FaultInterval] = []
    evidence: dict[str, dict[str, Any]] = {}
    """What showed it, by phase (the last occurrence's)."""
    errors: list[str] = []


def trace_faults(events: Iterable[tuple[int, Fault]]) -> dict[str, FaultTrace]:
    """Return the trace of each fault by id, in order of the planned start. `events` are (mono_ns, event), in order."""
    traces: dict[str, FaultTrace] = {}
    for mono_ns, event in events:
        trace = traces.get(event.id)
        if trace is None:
            trace = FaultTrace(
                id=event.id,
                target=event.target,
                description=event.description,
                planned_at_s=event.planned_at_s,
                duration_s=event.duration_s,
            )
            traces[event.id] = trace
        if event.error is not None:
            trace.errors.append(event.error)
        if event.evidence:
            trace.evidence[event.phase] = event.evidence
        _step(trace, mono_ns, event)
    return dict(sorted(traces.items(), key=lambda item: (item[1].planned_at_s, item[0])))


def _step(trace: FaultTrace, mono_ns: int, event: Fault) -> None:
    if event.phase == "planned":
        return
    last = trace.intervals[-1] if trace.intervals else None
    starts = event.phase == "injecting" and (last is None or last.injected_ns is not None)
    if starts and last is not None and event.error is not None:
        starts = event.planned_at_s != last.planned_at_s  # an injection that failed is told in the same phase
    if starts or last is None:
        trace.intervals.append(FaultInterval(planned_at_s=event.planned_at_s))
    interval = trace.intervals[-1]
    if event.phase == "met":  # which may show only when the next occurrence has begun
        same = (i for i in reversed(trace.intervals) if i.planned_at_s == event.planned_at_s)
        interval = next(same, interval)
    match event.phase:
        case "injecting":
            interval.injected_ns = mono_ns if interval.injected_ns is None else interval.injected_ns
        case "active":
            interval.active_ns = mono_ns if interval.active_ns is None else interval.active_ns
        case "met":
            interval.met = True
        case "healing":
            interval.healing_ns = mono_ns if interval.healing_ns is None else interval.healing_ns
        case "healed":
            interval.healed_ns = mono_ns if interval.healed_ns is None else interval.healed_ns
        case _:
            # An undo that failed is reported in the same phase, with its error.
            interval.undo_verified = event.error is None

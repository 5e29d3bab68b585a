"""
Each fault as it was measured: when it was in force, what showed it, whom it touched. Pure.

A fault is in force from `active` to `healed`. A repeated fault has several episodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from reports.svg import number, seconds_text
from seawall.journal.events import Fault, RequestRecord
from seawall.journal.view import Journal

__all__ = ["Episode", "FaultView", "Figure", "faults_of"]

_EVIDENCE_MAX = 24
_JUDGED = (
    ("time_to_detect_s", "Time to detect", "from active to the opening of a breaker of {target}"),
    ("time_to_fail_over_s", "Time to fail over", "from active to the first whole answer by another"),
    ("time_to_recover_s", "Time to recover", "from healed to the first whole answer by {target}"),
    ("calls_before_opening", "Calls before opening", "that {target} saw"),
    ("in_flight_at_opening", "In flight at opening", "attempts at {target}"),
)
"""Figures that the verdict has of each fault: name, label, how it was got."""


class Episode(msgspec.Struct, kw_only=True):
    """One time that a fault was injected; None where a step never came. Seconds after the start of the load."""

    planned_start_s: float | None = None
    planned_end_s: float | None = None
    injecting_s: float | None = None
    active_s: float | None = None
    healing_s: float | None = None
    healed_s: float | None = None
    met: bool = False
    undone: bool = False

    @property
    def start_s(self) -> float:
        """The earliest moment that is known of it."""
        known = (self.planned_start_s, self.injecting_s, self.active_s, self.healing_s, self.healed_s)
        return min((moment for moment in known if moment is not None), default=0.0)

    def covers(self, start_s: float, end_s: float) -> bool:
        """Return whether it was in force at some instant from `start_s` to `end_s`."""
        if self.active_s is None:
            return False
        return end_s >= self.active_s and (self.healed_s is None or start_s <= self.healed_s)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its name and, where the name is not enough, how it was got."""

    label: str
    value: str
    note: str = ""


class FaultView(msgspec.Struct, kw_only=True):
    """One fault with all that is known of it."""

    id: str
    target: str
    description: str
    episodes: tuple[Episode, ...] = ()
    evidence: tuple[tuple[str, str], ...] = ()
    """What showed it: where it was seen, and what."""
    problems: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def met(self) -> bool:
        """Whether it was in force and somebody met it, each time."""
        return bool(self.episodes) and all(episode.met and episode.active_s is not None for episode in self.episodes)


def faults_of(journal: Journal, judged: Mapping[str, float | None]) -> tuple[FaultView, ...]:
    """Return the faults in order of their first moment. `judged` are the figures of the verdict."""
    steps: dict[str, list[tuple[float, Fault]]] = {}
    for stamped in journal.fault_events:
        steps.setdefault(stamped.event.id, []).append((journal.seconds(stamped.mono_ns), stamped.event))
    views = [_view(list(life)) for life in steps.values()]
    views.sort(key=lambda view: (min((e.start_s for e in view.episodes), default=0.0), view.id))
    crowd = _Crowd(journal)
    for view in views:
        view.figures = crowd.figures(view, judged)
    return tuple(views)


def _view(life: Sequence[tuple[float, Fault]]) -> FaultView:
    """Cut the steps of one fault into episodes: each `injecting` begins a new one."""
    last = life[-1][1]
    episodes: list[Episode] = []
    planned: list[tuple[float, float]] = []
    evidence: list[tuple[str, str]] = []
    problems: list[str] = []
    for moment, step in life:
        if step.phase == "planned":
            planned.append((step.planned_at_s, step.planned_at_s + step.duration_s))
            continue
        if step.phase == "injecting" or not episodes:
            episodes.append(Episode())
        _advance(episodes[-1], step, moment)
        evidence += [
            (f"{step.phase} at {number(moment, 2)} s", f"{key}: {_plain(value)}")
            for key, value in step.evidence.items()
        ]
        if step.error:
            problems.append(f"{step.phase} at {number(moment, 2)} s: {step.error}")
    for episode, (start_s, end_s) in zip(episodes, planned, strict=False):
        episode.planned_start_s, episode.planned_end_s = start_s, end_s
    episodes += [Episode(planned_start_s=start, planned_end_s=end) for start, end in planned[len(episodes) :]]
    return FaultView(
        id=last.id,
        target=last.target,
        description=last.description,
        episodes=tuple(episodes),
        evidence=tuple(evidence[:_EVIDENCE_MAX]),
        problems=tuple(problems),
    )


def _advance(episode: Episode, step: Fault, moment: float) -> None:
    if step.phase == "met":
        episode.met = True
    elif step.phase == "undo_verified":
        episode.undone = step.error is None  # an undo that failed is told in the same phase
    elif getattr(episode, f"{step.phase}_s") is None:
        setattr(episode, f"{step.phase}_s", moment)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value[:300]
    return msgspec.json.encode(value).decode()[:300]


class _Crowd:
    """Requests, calls and attempts in order of their start, to look up those that overlap a stretch of time."""

    def __init__(self, journal: Journal) -> None:
        second = journal.seconds
        self.requests = [(second(r.intended_ns), second(r.end_ns), r) for r in journal.requests]
        self._starts = [item[0] for item in self.requests]
        self._longest = max((end - start for start, end, _ in self.requests), default=0.0)
        self.calls = [(second(c.arrival_ns), second(c.end_ns), c.provider) for c in journal.calls]
        self.attempts = [(second(a.start_ns), second(a.end_ns), a.provider) for a in journal.attempts]
        self.sees_calls = bool(journal.calls) or journal.observes("call")
        self.sees_attempts = bool(journal.attempts) or journal.observes("attempt")
        self.providers = {call[2] for call in self.calls} | {attempt[2] for attempt in self.attempts}
        self.providers |= {r.provider for r in journal.requests if r.provider}

    def figures(self, fault: FaultView, judged: Mapping[str, float | None]) -> tuple[Figure, ...]:
        """Return what the fault did, over all its episodes; durations are the worst of them."""
        active = [episode for episode in fault.episodes if episode.active_s is not None]
        if not active:
            return ()
        touched = {r.request_id: r for episode in active for r in self._overlapping(episode)}
        missed = sum(1 for r in touched.values() if r.outcome != "whole")
        figures = [
            Figure(label="Time to active", value=_worst([_span(e.injecting_s, e.active_s) for e in active])),
            Figure(label="In force", value=_worst([_span(e.active_s, e.healed_s) for e in active], "not healed")),
            Figure(label="Requests touched", value=str(len(touched)), note=f"{missed} of them not answered whole"),
            *self._traffic(fault.target, active, len(touched)),
        ]
        figures += [
            Figure(label=label, value=_told(judged[f"{name}:{fault.id}"], name), note=note.format(target=fault.target))
            for name, label, note in _JUDGED
            if f"{name}:{fault.id}" in judged
        ]
        return tuple(figures)

    def _traffic(self, target: str, active: Sequence[Episode], requests: int) -> list[Figure]:
        """Return calls to the target and the amplification, each from both ends where both are observed."""
        figures: list[Figure] = []
        calls, attempts = _inside(self.calls, active), _inside(self.attempts, active)
        if target in self.providers:
            seen = [f"{calls.count(target)} seen by it"] if self.sees_calls else []
            made = [f"{attempts.count(target)} attempts by the router"] if self.sees_attempts else []
            value = str(max(calls.count(target), attempts.count(target))) if seen or made else "n/a"
            figures.append(Figure(label=f"Calls to {target}", value=value, note=", ".join(seen + made)))
        most = max(len(calls), len(attempts))
        overall = max(len(self.calls), len(self.attempts))
        if requests and (self.sees_calls or self.sees_attempts):
            note = f"{overall / max(len(self.requests), 1):.2f} over the whole run"
            figures.append(Figure(label="Calls a request", value=f"{most / requests:.2f}", note=note))
        return figures

    def _overlapping(self, episode: Episode) -> list[RequestRecord]:
        if episode.active_s is None:
            return []
        first = bisect_left(self._starts, episode.active_s - self._longest)
        last = len(self._starts) if episode.healed_s is None else bisect_left(self._starts, episode.healed_s)
        return [r for _, end, r in self.requests[first:last] if end >= episode.active_s]


def _inside(records: Sequence[tuple[float, float, str]], active: Sequence[Episode]) -> list[str]:
    return [who for start, end, who in records if any(episode.covers(start, end) for episode in active)]


def _told(value: float | None, name: str) -> str:
    if value is None:
        return "not seen"
    return seconds_text(value) if name.endswith("_s") else number(value)


def _span(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else max(end_s - start_s, 0.0)


def _worst(values: Sequence[float | None], never: str = "n/a") -> str:
    if any(value is None for value in values):
        return never
    return seconds_text(max(value for value in values if value is not None))

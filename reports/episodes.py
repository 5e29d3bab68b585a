"""
Each fault as it was measured: when it was in force, what showed it, whom it touched. Pure.

A fault is in force from `active` to `healed`. A repeated fault has several episodes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from reports.svg import number, seconds_text
from seawall.journal.events import Fault
from seawall.journal.view import Journal
from seawall.scenario.model import PROVIDERS

__all__ = ["Episode", "FaultView", "Figure", "faults_of"]

_EVIDENCE_MAX = 24
_JUDGED = (
    ("time_to_detect_s", "Time to detect", "from the injection to the opening of a breaker of {target}"),
    ("time_to_fail_over_s", "Time to fail over", "from the injection to the first whole answer by another"),
    ("time_to_recover_s", "Time to recover", "from healed to the first whole answer by {who}"),
    ("calls_before_opening", "Calls before opening", "that {target} saw from the injection on"),
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
        occurrence = (step.planned_at_s, step.planned_at_s + step.duration_s)
        if step.phase == "planned":
            planned.append(occurrence)
            continue
        # An injection that failed is told in the same phase as one that begins.
        if not episodes or (step.phase == "injecting" and not (step.error and _is_of(episodes[-1], occurrence))):
            episodes.append(Episode(planned_start_s=occurrence[0], planned_end_s=occurrence[1]))
        # That it was met may show only when the next has begun.
        same = next((episode for episode in reversed(episodes) if _is_of(episode, occurrence)), episodes[-1])
        _advance(same if step.phase == "met" else episodes[-1], step, moment)
        evidence += [
            (f"{step.phase} at {number(moment, 2)} s", f"{key}: {_plain(value)}")
            for key, value in step.evidence.items()
        ]
        if step.error:
            problems.append(f"{step.phase} at {number(moment, 2)} s: {step.error}")
    begun = {episode.planned_start_s for episode in episodes}
    missing = [(start_s, end_s) for start_s, end_s in planned if start_s not in begun]
    episodes += [Episode(planned_start_s=start_s, planned_end_s=end_s) for start_s, end_s in missing]
    return FaultView(
        id=last.id,
        target=last.target,
        description=last.description,
        episodes=tuple(episodes),
        evidence=tuple(evidence[:_EVIDENCE_MAX]),
        problems=tuple(problems),
    )


def _is_of(episode: Episode, occurrence: tuple[float, float]) -> bool:
    return episode.planned_start_s == occurrence[0]


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


class _Lasting:
    """What lasts from a start to an end, in nanoseconds, and whose it is; in order of the start."""

    def __init__(self, things: Iterable[tuple[int, int, str]]) -> None:
        self._starts, self._ends, self._who = array("q"), array("q"), array("H")
        self._names: dict[str, int] = {}
        for start_ns, end_ns, who in things:
            self._starts.append(start_ns)
            self._ends.append(end_ns)
            self._who.append(self._names.setdefault(who, len(self._names)))
        self._longest = max((end - start for start, end in zip(self._starts, self._ends, strict=True)), default=0)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def names(self) -> set[str]:
        """Everybody of whom there is something."""
        return set(self._names)

    def overlapping(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Return the places of those that overlap one of `spans`, each once."""
        found: set[int] = set()
        for start_ns, end_ns in spans:
            first, last = bisect_left(self._starts, start_ns - self._longest), bisect_right(self._starts, end_ns)
            found.update(place for place in range(first, last) if self._ends[place] >= start_ns)
        return sorted(found)

    def count(self, places: Iterable[int], who: str) -> int:
        """Count how many at `places` are theirs."""
        wanted = self._names.get(who, -1)
        return sum(self._who[place] == wanted for place in places)


class _Crowd:
    """Requests, calls and attempts, to look up those that overlap a stretch of time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.requests = _Lasting((r.intended_ns, r.end_ns, r.provider or "") for r in journal.requests)
        self.calls = _Lasting((c.arrival_ns, c.end_ns, c.provider) for c in journal.calls)
        self.attempts = _Lasting((a.start_ns, a.end_ns, a.provider) for a in journal.attempts)
        self.sees_calls = bool(journal.calls) or journal.observes("call")
        self.sees_attempts = bool(journal.attempts) or journal.observes("attempt")
        self.providers = (self.requests.names | self.calls.names | self.attempts.names) - {""}

    def figures(self, fault: FaultView, judged: Mapping[str, float | None]) -> tuple[Figure, ...]:
        """Return what the fault did, over all its episodes; durations are the worst of them."""
        active = [episode for episode in fault.episodes if episode.active_s is not None]
        if not active:
            return ()
        spans = [self._span(episode) for episode in active]
        touched = self.requests.overlapping(spans)
        missed = sum(self._journal.requests[place].outcome != "whole" for place in touched)
        figures = [
            Figure(label="Time to active", value=_worst([_span(e.injecting_s, e.active_s) for e in active])),
            Figure(label="In force", value=_worst([_span(e.active_s, e.healed_s) for e in active], "not healed")),
            Figure(label="Requests touched", value=str(len(touched)), note=f"{missed} of them not answered whole"),
            *self._traffic(fault.target, spans, len(touched)),
        ]
        is_provider = fault.target in PROVIDERS
        who = fault.target if is_provider else "anybody"
        figures += [
            Figure(label=label, value=_told(value, name), note=note.format(target=fault.target, who=who))
            for name, label, note in _JUDGED
            if (value := judged.get(f"{name}:{fault.id}")) is not None
            or (is_provider and f"{name}:{fault.id}" in judged)
        ]
        return tuple(figures)

    def _traffic(self, target: str, spans: Sequence[tuple[int, int]], requests: int) -> list[Figure]:
        """Return calls to the target and the amplification, each from both ends where both are observed."""
        figures: list[Figure] = []
        calls, attempts = self.calls.overlapping(spans), self.attempts.overlapping(spans)
        seen_count, made_count = self.calls.count(calls, target), self.attempts.count(attempts, target)
        if target in self.providers:
            seen = [f"{seen_count} seen by it"] if self.sees_calls else []
            made = [f"{made_count} attempts by the router"] if self.sees_attempts else []
            value = str(max(seen_count, made_count)) if seen or made else "n/a"
            figures.append(Figure(label=f"Calls to {target}", value=value, note=", ".join(seen + made)))
        most = max(len(calls), len(attempts))
        overall = max(len(self.calls), len(self.attempts))
        if requests and (self.sees_calls or self.sees_attempts):
            note = f"amplification; {overall / max(len(self.requests), 1):.2f} over the whole run"
            figures.append(Figure(label="Calls a request", value=f"{most / requests:.2f}", note=note))
        return figures

    def _span(self, episode: Episode) -> tuple[int, int]:
        def ns(moment_s: float) -> int:
            return self._journal.t0_ns + round(moment_s * 1e9)

        return ns(episode.active_s or 0.0), self._journal.last_ns if episode.healed_s is None else ns(episode.healed_s)


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

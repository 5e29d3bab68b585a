"""
A scenario together with its file, and its planned times: what the cross checks look at.

Some parts may have been left out because they are broken already; nothing is concluded from what is missing then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from seawall.plan import LoadPlan, duration_of
from seawall.scenario.model import FaultSpec, Scenario
from seawall.scenario.nodes import Mapping
from seawall.scenario.problems import Problem
from seawall.scenario.sentences import Path, place_of

__all__ = ["Situation", "count_between"]


@dataclass
class Situation:
    """`indexes` maps each part of a list to its place in the file where broken neighbours were left out."""

    scenario: Scenario
    tree: Mapping
    file: str
    load_known: bool = True
    """Whether the load is the file's own."""
    ghosts: frozenset[str] = frozenset()
    """Ids of faults that were left out."""
    faults_known: bool = True
    """Whether no fault was left out."""
    indexes: dict[Path, tuple[int, ...]] = field(default_factory=dict[Path, tuple[int, ...]])

    def problem(
        self,
        path: Path,
        message: str,
        fix: str,
        *,
        on_key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> Problem:
        """Return a problem at the place of `path`."""
        line, column = place_of(self.tree, self._in_file(path), on_key=on_key)
        return Problem(self.file, line, column, message, fix, severity)

    def warning(self, path: Path, message: str, fix: str, *, on_key: bool = False) -> Problem:
        """Return a warning at the place of `path`."""
        return self.problem(path, message, fix, on_key=on_key, severity="warning")

    def _in_file(self, path: Path) -> Path:
        for depth, part in enumerate(path):
            if isinstance(part, int) and path[:depth] in self.indexes:
                return (*path[:depth], self.indexes[path[:depth]][part], *path[depth + 1 :])
        return path

    @cached_property
    def plan(self) -> LoadPlan:
        """The load as it will be executed."""
        return self.scenario.load.plan(self.scenario.seed)

    @cached_property
    def load_end_s(self) -> float:
        """When the last request is sent, in seconds after the first."""
        return duration_of(self.plan)

    @cached_property
    def stream_share(self) -> float:
        """The share of requests that are streams."""
        arrivals = self.plan.arrivals
        return sum(spec.stream for spec in arrivals) / len(arrivals) if arrivals else self.plan.stream_share

    @cached_property
    def starts_s(self) -> dict[int, float]:
        """Planned start of each fault by its index, where it can be told: what follows nothing or itself has none."""
        by_id: dict[str, int] = {}
        for index, fault in enumerate(self.scenario.faults):
            by_id.setdefault(fault.id, index)
        starts: dict[int, float] = {}
        for index in range(len(self.scenario.faults)):
            start = self._start_s(index, by_id)
            if start is not None:
                starts[index] = start
        return starts

    def _start_s(self, index: int, by_id: dict[str, int]) -> float | None:
        after_s = 0.0
        seen: set[int] = set()
        while index not in seen:
            seen.add(index)
            fault = self.scenario.faults[index]
            if fault.at is not None:
                return fault.at + after_s
            before = by_id.get(fault.follows or "")
            if before is None:
                return None
            after_s += fault.delay + self.scenario.faults[before].duration
            index = before
        return None

    def ends_s(self, fault_id: str) -> float | None:
        """Return the planned end of the fault with this id, or None where it cannot be told."""
        window = self.window_s(fault_id)
        return None if window is None else window[1]

    def window_s(self, fault_id: str) -> tuple[float, float] | None:
        """Return the planned start and end of the fault with this id, or None where they cannot be told."""
        for index, fault in enumerate(self.scenario.faults):
            if fault.id == fault_id and index in self.starts_s:
                return self.starts_s[index], self.starts_s[index] + fault.duration
        return None

    def timed_faults(self) -> list[tuple[int, FaultSpec, float, float]]:
        """Return index, fault, planned start and end of every fault whose time can be told, in order of the file."""
        return [
            (index, self.scenario.faults[index], start_s, start_s + self.scenario.faults[index].duration)
            for index, start_s in self.starts_s.items()
        ]


def count_between(plan: LoadPlan, start_s: float, end_s: float) -> float:
    """Return how many requests are planned in a stretch of time, exact to one: no list of them is made."""
    if plan.executor == "arrivals":
        return float(sum(start_s <= spec.at_s < end_s for spec in plan.arrivals))
    total = 0.0
    stage_start_s = 0.0
    for stage in plan.stages:
        stage_end_s = stage_start_s + stage.duration_s
        low, high = max(start_s, stage_start_s), min(end_s, stage_end_s)
        if low < high:
            slope = (stage.end_rate - stage.start_rate) / stage.duration_s
            middle_s = (low + high) / 2 - stage_start_s
            total += (stage.start_rate + slope * middle_s) * (high - low)
        stage_start_s = stage_end_s
    return total

"""
A scenario together with its file, and its planned times: what the cross checks look at.

Some parts may have been left out because they are broken already; nothing is concluded from what is missing then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
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
    system_known: bool = True
    """Whether the system under test and its settings are the file's own."""
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
        if not arrivals:
            return self.plan.stream_share
        return sum(spec.count for spec in arrivals if spec.stream) / sum(spec.count for spec in arrivals)

    @cached_property
    def starts_s(self) -> dict[int, float]:
        """Planned first start of each fault by its index; none of those that follow themselves or nobody."""
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
        chain: dict[int, None] = {}  # in order, and quick to ask
        while index not in chain:
            chain[index] = None
            fault = self.scenario.faults[index]
            if fault.at is not None:
                return self._follow(list(chain), fault.at)
            before = by_id.get(fault.follows or "")
            if before is None:
                return None
            index = before
        return None

    def _follow(self, chain: list[int], first_s: float) -> float:
        """Return the start of the first fault of a chain of followers, of which the last starts at `first_s`."""
        start_s = first_s
        for before, fault in pairwise(reversed(chain)):
            start_s = self._times_s(before, start_s)[-1][1] + self.scenario.faults[fault].delay
        return start_s

    def _times_s(self, index: int, first_s: float) -> list[tuple[float, float]]:
        fault = self.scenario.faults[index]
        # Where the load is not known, nothing is known of how often a fault fits into it.
        end_s = self.load_end_s if self.load_known else 0.0
        return [(start_s, start_s + fault.duration) for start_s in fault.starts_from(first_s, end_s)]

    def windows_s(self, fault_id: str) -> list[tuple[float, float]]:
        """Return every planned start and end of the fault with this id; none where they cannot be told."""
        for index, fault in enumerate(self.scenario.faults):
            if fault.id == fault_id and index in self.starts_s:
                return self._times_s(index, self.starts_s[index])
        return []

    @cached_property
    def timed_faults(self) -> list[tuple[int, FaultSpec, float, float]]:
        """Index, fault, planned start and end of each time that a fault is in force, where it can be told."""
        return [
            (index, self.scenario.faults[index], *window_s)
            for index, first_s in self.starts_s.items()
            for window_s in self._times_s(index, first_s)
        ]

    def setting(self, name: str) -> str | int | float | bool | None:
        """Return a setting of the system under test by its name in any case, or None where the scenario has none."""
        settings = self.scenario.system.settings
        return next((value for key, value in settings.items() if key.lower() == name.lower()), None)

    def turns_on(self, name: str) -> bool:
        """Whether a setting that is on or off is on."""
        return str(self.setting(name)).lower() in ("true", "1", "yes", "on")

    @property
    def shares_budget(self) -> bool:
        """Whether the budget is kept in Redis."""
        return str(self.setting("BUDGET_STORE")).lower() == "redis"


def count_between(plan: LoadPlan, start_s: float, end_s: float) -> float:
    """Return how many requests are planned in a stretch of time, exact to one: no list of them is made."""
    if plan.executor == "arrivals":
        return float(sum(spec.count for spec in plan.arrivals if start_s <= spec.at_s < end_s))
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

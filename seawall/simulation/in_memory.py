"""What a run has that leaves nothing behind: no folder, no undo file, a header that names none."""

from __future__ import annotations

from faults.base import Undo
from seawall.journal.events import Header
from seawall.scenario.model import Scenario
from seawall.systems import SeawallSystem

__all__ = ["InMemoryUndo", "header_in_memory"]


class InMemoryUndo:
    """An undo file of a run that leaves nothing behind: when its process ends, so have its faults."""

    def append(self, _record: Undo) -> int:
        """Nothing is written."""
        return 0

    def mark_done(self, _number: int) -> None:
        """Nothing is left to do."""


def header_in_memory(scenario: Scenario) -> Header:
    """Return the header of a run of `scenario` that nobody writes down."""
    system = SeawallSystem()
    return Header(
        run="in-memory",
        title=scenario.title,
        scenario="",
        scenario_name="in-memory",
        scenario_sha256="",
        seed=scenario.seed,
        arena="simulation",
        system=f"{system.name} {system.version()}",
        commit=None,
        versions={},
        settings=system.settings(scenario),
        observes=list(system.observes),
    )

"""What the tests of single checks share: scenarios of one expectation, and faults put into a recording."""

from __future__ import annotations

from journal_builder import HARNESS, SCENARIO, Recording, healthy, ns

from seawall.journal.events import Fault
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check

HEAD = SCENARIO[: SCENARIO.index("expect:")]
UNSTEADY = SCENARIO[: SCENARIO.index("steady_state")] + SCENARIO[SCENARIO.index("faults:") :]
"""The scenario without its steady state, whose windows leave no room for more faults."""
NO_STEADY = HEAD[: HEAD.index("steady_state")] + HEAD[HEAD.index("faults:") :]


def expecting(group: str, line: str, more: str = "") -> str:
    return f"{NO_STEADY}expect:\n  {group}:\n    - {{{line}}}\n{more}"


def judged(run: Recording, group: str) -> Check:
    (check,) = [check for check in judge(run.journal()).checks if check.group == group]
    return check


def one(group: str, line: str, run: Recording | None = None, more: str = "") -> Check:
    """Return the check of a single expectation on the healthy run, or on `run` made with the same scenario."""
    return judged(run or healthy(expecting(group, line, more)), group)


def fault(fault_id: str, phase: str, at_s: float, target: str = "gemini") -> Fault:
    return Fault(id=fault_id, phase=phase, target=target, description="d", planned_at_s=at_s, duration_s=1)  # type: ignore[arg-type]


def inject(run: Recording, fault_id: str, start_s: float, end_s: float, target: str = "gemini") -> None:
    """Add an occurrence of a fault."""
    for phase, at_s in {"injecting": start_s, "active": start_s, "met": start_s, "healed": end_s}.items():
        run.add(ns(at_s), HARNESS, fault(fault_id, phase, start_s, target))
    run.add(ns(45), HARNESS, fault(fault_id, "undo_verified", start_s, target))


def with_fault(line: str, scenario: str = UNSTEADY) -> str:
    """Return a scenario with one fault more, on the wire."""
    scenario = scenario.replace("arenas: [simulation, wire]", "arenas: [wire]")
    return scenario.replace("expect:\n", f"  - {{{line}}}\nexpect:\n")


def check(run: Recording, name: str) -> Check:
    """Return the check of this name."""
    return next(check for check in judge(run.journal()).checks if check.name == name)

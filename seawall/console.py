"""
What a run prints: one plain line an event, the same on a terminal and in CI; colour only on a terminal.

`NO_COLOR` is obeyed. Nothing else in the harness writes to standard output.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from seawall.journal.events import Fault, JournalEvent
from seawall.live import LiveView
from seawall.plan import count_of, duration_of
from seawall.scenario.model import Scenario
from seawall.systems import SystemUnderTest
from seawall.toolchain import Resolved
from seawall.verdicts.model import RunVerdict, Verdict

__all__ = ["Console", "parts_line"]

_COLOURS = {
    Verdict.PASS: "32",
    Verdict.PARTIAL: "33",
    Verdict.SAFE: "36",
    Verdict.INVALID: "35",
    Verdict.FAIL: "31",
}
_EVIDENCE_SHOWN = 3


class Console:
    """Prints to `stream` (default: standard output)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and "NO_COLOR" not in os.environ

    def line(self, text: str) -> None:
        """Print one line of text."""
        self._write(f"  {text}")

    def title(self, name: str, scenario: Scenario) -> None:
        """Print what is about to run."""
        plan = scenario.load.plan(scenario.seed)
        load = f"{count_of(plan)} requests in {duration_of(plan):g} s"
        self._write(self._paint(f"▶ {name}", "1") + f": {scenario.title}")
        self._write(f"  on the wire, seed {scenario.seed}, {load}, {len(scenario.faults)} faults")

    def event(self, at_s: float, text: str) -> None:
        """Print something that happened `at_s` seconds after the start of the load."""
        self._write(f"  {at_s:6.1f} s  {text}")

    def fault(self, at_s: float, event: JournalEvent) -> None:
        """Print a step in the life of a fault; `planned` goes without saying."""
        if not isinstance(event, Fault) or event.phase == "planned":
            return
        words = {
            "injecting": f"injecting {event.description} at {event.target}",
            "active": f"active, proven by {event.evidence.get('criterion', 'evidence')}",
            "healing": "healing",
            "healed": "healed",
            "undo_verified": "undo verified",
        }.get(event.phase, event.phase)
        if event.error:
            words = f"{event.phase} failed: {event.error}"
        self.event(at_s, f"fault {event.id}: {words}")

    def status(self, at_s: float, total: int, live: LiveView) -> None:
        """Print how the load stands."""
        whole = live.outcomes["whole"]
        others = ", ".join(f"{count} {name}" for name, count in sorted(live.outcomes.items()) if name != "whole")
        served = ", ".join(f"{name} {count}" for name, count in live.served.most_common())
        not_closed = ", ".join(f"{name} {state}" for name, state in live.breakers.items() if state != "closed")
        parts = [f"{live.requests} of {total} answered: {whole} whole" + (f", {others}" if others else "")]
        parts += [f"by {served}"] if served else []
        parts += [f"breakers: {not_closed}"] if not_closed else []
        self.event(at_s, "; ".join(parts))

    def verdict(self, name: str, verdict: RunVerdict, report: Path) -> None:
        """Print the verdict, why, what was broken, and where the report is."""
        word = self._paint(verdict.verdict.upper(), _COLOURS[verdict.verdict], "1")
        self._write(f"{word} {name}: {verdict.why}")
        missed = [check for check in verdict.checks if check.verdict is not Verdict.PASS]
        for check in missed:
            limit = f" (limit {check.limit})" if check.limit else ""
            self._write(f"  {check.verdict} {check.group}: {check.name}: {check.figure}{limit}. {check.reason}")
            for evidence in check.evidence[:_EVIDENCE_SHOWN]:
                at = "" if evidence.at_s is None else f"{evidence.at_s:.2f} s: "
                self._write(f"      {at}{evidence.text}")
        if verdict.undone is False:
            self._write("  NOT EVERYTHING WAS UNDONE: run `seawall recover`")
        self._write(f"  report: {_short(report)}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _paint(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour else text


def parts_line(toxiproxy: Resolved, system: SystemUnderTest, seconds: float) -> str:
    """Return one line on what was started."""
    where = "yours" if toxiproxy.url else f"from {toxiproxy.origin}"
    return (
        f"ready after {seconds:.1f} s: Toxiproxy {toxiproxy.version} ({where}), emulators of 4 providers, "
        f"{system.name} {system.version()}, Locust"
    )


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

"""
What a run prints: one plain line an event, and on a terminal one status line that says how things stand now.

Of several runs side by side each has a console of its own: its lines begin with its name, or are held back until it
has ended. Everything is written by `seawall.screen`.
"""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

import msgspec

from seawall.journal.events import Fault, JournalEvent
from seawall.live import LiveView
from seawall.plan import count_of, duration_of
from seawall.scenario.model import Scenario
from seawall.screen import Screen
from seawall.systems import SystemUnderTest
from seawall.toolchain import Resolved
from seawall.verdicts.model import Check, RunVerdict, Verdict

__all__ = ["Console", "headline", "parts_line", "short_path"]

COLOURS = {
    Verdict.PASS: "32",
    Verdict.PARTIAL: "33",
    Verdict.SAFE: "36",
    Verdict.INVALID: "35",
    Verdict.FAIL: "31",
}
_GOOD = (Verdict.PASS, Verdict.SAFE, Verdict.PARTIAL)
_EVIDENCE_SHOWN = 3
_SAID_EVERY_S = 5.0
_WINDOW_S = 2.0


class _Look(msgspec.Struct, frozen=True):
    """The counts at a moment, to have rates by difference."""

    at_s: float
    requests: int
    whole: int
    served: Counter[str]


class Console:
    """
    Prints what one run does to `screen`.

    `prefix` stands before every line, for runs side by side. With `holds`, nothing is written before `release`; with
    `brief` nothing but the verdict of what passes.
    """

    def __init__(
        self, screen: Screen | None = None, *, prefix: str = "", holds: bool = False, brief: bool = False
    ) -> None:
        self._screen = screen or Screen()
        self._prefix = prefix
        self._brief = brief
        self._held: list[str] | None = [] if holds or brief else None
        self._key = prefix or "run"
        self._faults: dict[str, str] = {}
        self._looks: deque[_Look] = deque()
        self._said_s = 0.0
        self._load_s = 0.0

    def line(self, text: str) -> None:
        """Print one line of text."""
        self._write(f"  {text}")

    def title(self, name: str, scenario: Scenario, *, arena: str = "wire") -> None:
        """Print what is about to run."""
        plan = scenario.load.plan(scenario.seed)
        self._load_s = duration_of(plan)
        load = f"{_counted(count_of(plan), 'request')} in {self._load_s:g} s"
        self._write(self._screen.paint(f"▶ {name}", "1") + f": {scenario.title}")
        where = {"wire": "on the wire", "cluster": "on a cluster"}.get(arena, "in the simulation")
        self._write(f"  {where}, seed {scenario.seed}, {load}, {_counted(len(scenario.faults), 'fault')}")
        parts = "starting gateway, emulators, Toxiproxy and Locust"
        self.doing("simulating" if arena == "simulation" else parts)

    def doing(self, text: str | None) -> None:
        """Show on a terminal what takes a moment; None when it is done."""
        self._screen.show(self._key, None if text is None else f"  {self._tag()}{text} …")

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
        if event.phase in ("healed", "undo_verified"):
            self._faults.pop(event.id, None)
        else:
            now = {"injecting": "being injected", "active": "in force", "healing": "healing"}
            self._faults[event.id] = f"{event.id} {now.get(event.phase, event.phase)} at {event.target}"
        self.event(at_s, f"fault {event.id}: {words}")

    def status(self, at_s: float, total: int, live: LiveView) -> None:
        """Show how the load stands: in place on a terminal, else as a line every five seconds. Call it often."""
        if self._screen.is_live:
            self._screen.show(self._key, self._now(at_s, live))
        elif at_s - self._said_s >= _SAID_EVERY_S:
            self._said_s = at_s
            self.event(at_s, _standing(total, live))

    def verdict(self, name: str, verdict: RunVerdict, report: Path) -> None:
        """Print the verdict, why, what was broken, and where the report is."""
        self.doing(None)
        is_short = self._brief and verdict.verdict in _GOOD
        if is_short and self._held:
            self._held.clear()
        word = self._screen.paint(verdict.verdict.upper(), COLOURS[verdict.verdict], "1")
        self._write(f"{word} {name}: {headline(verdict)}")
        for check in verdict.checks:
            if check.verdict is Verdict.PASS or is_short:
                continue
            self._write(f"  {check.verdict} {check.group}: {check.name}: {check.figure}{_measure(check)}")
            if check.reason != headline(verdict):
                self._write(f"      {check.reason}")
            for evidence in check.evidence[:_EVIDENCE_SHOWN]:
                at = "" if evidence.at_s is None else f"{evidence.at_s:.2f} s: "
                self._write(f"      {at}{evidence.text}")
            if len(check.evidence) > _EVIDENCE_SHOWN:
                self._write(f"      and {len(check.evidence) - _EVIDENCE_SHOWN} more, in the report")
        if verdict.undone is False:
            self._write("  NOT EVERYTHING WAS UNDONE: run `seawall recover`")
        self._write(f"  report: {short_path(report)}")

    def release(self) -> None:
        """Take the status away, and write what was held back, in one piece."""
        self.doing(None)
        if self._held:
            self._screen.write("\n".join(self._held))
        self._held = [] if self._held is not None else None

    def _write(self, text: str) -> None:
        if self._held is not None:
            self._held.append(text)
            return
        mark = f"{self._screen.paint(self._prefix, '2')} │ " if self._prefix else ""
        self._screen.write("\n".join(f"{mark}{line}" for line in text.split("\n")))

    def _tag(self) -> str:
        return f"{self._prefix} │ " if self._prefix else ""

    def _now(self, at_s: float, live: LiveView) -> str:
        """Return the status line: time, what is injected, rate, who answers, which breakers are not closed."""
        look = _Look(at_s, live.requests, live.outcomes["whole"], Counter(live.served))
        self._looks.append(look)
        while len(self._looks) > 1 and self._looks[0].at_s < at_s - _WINDOW_S:
            self._looks.popleft()
        first = self._looks[0]
        seconds = look.at_s - first.at_s
        answered = look.requests - first.requests
        parts = [f"{at_s:5.1f} of {self._load_s:g} s"]
        parts.append(" + ".join(self._faults.values()) or "no fault")
        # What matters most stands first: a narrow terminal cuts the end.
        if opened := _not_closed(live):
            parts.append(f"breakers: {opened}")
        if seconds > 0 and answered > 0:
            parts.append(f"{answered / seconds:.0f}/s, {(look.whole - first.whole) / answered:.0%} whole")
            served = Counter(look.served)
            served.subtract(first.served)
            parts.append("by " + (", ".join(f"{n} {name}" for name, n in served.most_common() if n > 0) or "nobody"))
        elif at_s > 0:
            parts.append("no answer")
        return f"  {self._tag()}" + " · ".join(parts)


def headline(verdict: RunVerdict) -> str:
    """Return one line that says it all: of a failure which check, by how much and when; else why."""
    guilty = [check for check in verdict.checks if check.verdict is verdict.verdict and check.group != "undo"]
    if verdict.verdict is not Verdict.FAIL or not guilty:
        return verdict.why
    check = verdict.told or guilty[0]
    first = check.evidence[0] if check.evidence else None
    when = "" if first is None or first.at_s is None else f" First at {first.at_s:.2f} s: {first.text}."
    more = f" ({len(guilty)} checks failed.)" if len(guilty) > 1 else ""
    return f"{check.group}: {check.name}: {check.figure}{_measure(check)}.{when or ' ' + check.reason}{more}"


def parts_line(toxiproxy: Resolved, system: SystemUnderTest, seconds: float) -> str:
    """Return one line on what was started."""
    where = "yours" if toxiproxy.url else f"from {toxiproxy.origin}"
    return (
        f"ready after {seconds:.1f} s: Toxiproxy {toxiproxy.version} ({where}), emulators of 4 providers, "
        f"{system.name} {system.version()}, Locust"
    )


def short_path(path: Path) -> str:
    """Return a path as it is written in the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _standing(total: int, live: LiveView) -> str:
    whole = live.outcomes["whole"]
    others = ", ".join(f"{count} {name}" for name, count in sorted(live.outcomes.items()) if name != "whole")
    served = ", ".join(f"{name} {count}" for name, count in live.served.most_common())
    parts = [f"{live.requests} of {total} answered: {whole} whole" + (f", {others}" if others else "")]
    parts += [f"by {served}"] if served else []
    opened = _not_closed(live)
    parts += [f"breakers: {opened}"] if opened else []
    return "; ".join(parts)


def _not_closed(live: LiveView) -> str:
    return ", ".join(f"{name} {state}" for name, state in live.breakers.items() if state != "closed")


def _measure(check: Check) -> str:
    parts = [f"limit {check.limit}"] if check.limit else []
    parts += [check.margin] if check.margin else []
    return f" ({', '.join(parts)})" if parts else ""


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

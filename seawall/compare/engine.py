"""
Carry out a comparison: for each repeat and each scenario every system in turn, each run in fresh processes.

    install ─▶ smoke (A refused: does B answer?) ─▶ runs, interleaved ─▶ costs ─▶ compare.json, report

Whatever becomes of one run, the next one is carried out. What has been run is kept in `cells.jsonl` and not run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from router.errors import ConfigurationError
from seawall import run as runs
from seawall.arenas.usage import USAGE_FILE, Usage, left_behind
from seawall.compare.costs import measure_cost
from seawall.compare.model import Comparison, Cost, Outcome, State, SystemInfo
from seawall.console import Console
from seawall.journal.writer import EVENTS_VARIABLE
from seawall.run import Exit, Render
from seawall.scenario import Loaded, load_text
from seawall.screen import Screen
from seawall.suite import late_only
from seawall.systems import SystemUnderTest, system_named
from seawall.toolchain import ToolchainError

__all__ = ["CELLS_FILE", "Options", "run_compare"]

CELLS_FILE = "cells.jsonl"
"""One line a run that is done: what a comparison that is begun again goes on from."""
_TRIES_MORE = 1  # where this machine was too busy for the load generator
_SMOKE = """
version: 1
title: The first provider is refused; somebody else answers
tags: [storm]
arenas: [wire]
seed: 1
load: {executor: constant-arrival-rate, rate: 5/s, duration: 4s, deadline: 10s}
faults:
  - {id: refused, at: 500ms, duration: 3s, target: gemini, toxic: {type: down}}
expect:
  sometimes:
    - {served_by: claude, requests: ">= 1", during: refused}
"""
_SMOKE_NAME = "smoke"
_EXAMPLE_PORT = 9401


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to compare, and how often. `cost_seconds` is for one measurement of what a system costs; 0 leaves it out."""

    systems: tuple[str, ...]
    scenarios: tuple[Loaded, ...]
    repeats: int = 1
    cost_seconds: float = 8.0
    command: str = ""


async def run_compare(
    options: Options, out: Path, *, screen: Screen, stop: asyncio.Event, render: Render
) -> Comparison:
    """
    Run what is left to run of a comparison into the folder `out` and return all of it.

    `stop` ends the run under way, with everything undone, and begins no other. Raises ConfigurationError for a system
    that there is not, and OSError where `out` cannot be written.
    """
    systems = [system_named(word) for word in options.systems]
    await asyncio.to_thread(out.mkdir, parents=True, exist_ok=True)
    comparer = _Comparer(options, out, screen, stop, render)
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    infos = [await comparer.prepare(system) for system in systems]
    ready = [system for system, info in zip(systems, infos, strict=True) if not info.problem]
    await comparer.run_all(ready)
    costs = await comparer.cost_all(ready)
    return Comparison(
        began=began,
        command=options.command,
        host=_host(),
        systems=tuple(infos),
        scenarios={loaded.name: loaded.scenario.title for loaded in options.scenarios},
        repeats=options.repeats,
        outcomes=tuple(comparer.outcomes),
        costs=tuple(costs),
        is_whole=not stop.is_set(),
    )


class _Comparer:
    def __init__(self, options: Options, out: Path, screen: Screen, stop: asyncio.Event, render: Render) -> None:
        self._options = options
        self._out = out
        self._screen = screen
        self._stop = stop
        self._render = render
        self._cells = out / CELLS_FILE
        self.outcomes: list[Outcome] = []
        self._known = {_key(outcome): outcome for outcome in _kept(self._cells)}
        self._versions: dict[str, str] = {}

    async def prepare(self, system: SystemUnderTest) -> SystemInfo:
        """Install a system, see that its failover works, and tell what it is."""
        scenario = load_text(_SMOKE, _SMOKE_NAME).scenario
        try:
            await asyncio.to_thread(system.install, lambda line: self._screen.write(f"  {line}"))
            version = await asyncio.to_thread(system.version)
            settings, files = system.settings(scenario), _files(system)
        except (ToolchainError, ConfigurationError, OSError) as error:
            self._screen.write(f"{system.label}: not to be had: {error}")
            return SystemInfo(label=system.label, version="unknown", settings={}, files={}, problem=str(error))
        self._versions[system.label] = version
        problem = "" if system.name == "direct" else await self._smoke(system)
        return SystemInfo(label=system.label, version=version, settings=settings, files=files, problem=problem)

    async def _smoke(self, system: SystemUnderTest) -> str:
        """Return why nothing can be said of a system: its failover does not work at all, or it does not start."""
        loaded = load_text(_SMOKE, _SMOKE_NAME)
        self._screen.write(f"smoke of {system.label} {self._versions[system.label]}: does its failover work at all?")
        outcome = await self._one(system, loaded, 0)
        shown = outcome.figures.get("served_share:claude") or 0.0
        if outcome.state in ("crashed", "did not start"):
            return f"{outcome.state}: {outcome.why}"
        if not self._stop.is_set() and not shown:
            return f"not configured: with its first provider refused nobody else answered ({outcome.why})"
        return ""

    async def run_all(self, systems: Sequence[SystemUnderTest]) -> None:
        """Run every cell: who begins changes from scenario to scenario, so that none has always the warmer machine."""
        total = len(systems) * len(self._options.scenarios) * self._options.repeats
        done = 0
        for repeat in range(1, self._options.repeats + 1):
            for turn, loaded in enumerate(self._options.scenarios):
                first = (turn + repeat - 1) % len(systems) if systems else 0
                for system in (*systems[first:], *systems[:first]):
                    done += 1
                    if self._stop.is_set():
                        return
                    outcome = await self._one(system, loaded, repeat)
                    self.outcomes.append(outcome)
                    share = outcome.figures.get("served_rate")
                    told = "" if share is None else f", {share:.0%} whole"
                    self._screen.write(
                        f"[{done}/{total}] {loaded.name} × {system.label}: {outcome.state}{told}"
                        + (f" ({outcome.left_behind} processes left behind, ended)" if outcome.left_behind else "")
                    )

    async def cost_all(self, systems: Sequence[SystemUnderTest]) -> list[Cost]:
        """Measure what each system costs, in turn, as often as there are repeats."""
        costs: list[Cost] = []
        if not self._options.cost_seconds:
            return costs
        for repeat in range(1, self._options.repeats + 1):
            for system in (*systems[repeat % len(systems) :], *systems[: repeat % len(systems)]):
                if self._stop.is_set():
                    return costs
                folder = self._out / "costs" / f"{_plain(system.label)}-{repeat}-{time.time_ns()}"
                cost = await measure_cost(
                    system, folder, seconds=self._options.cost_seconds, repeat=repeat, progress=_say_nothing
                )
                self._end_left_behind(folder)
                costs.append(cost)
                rate = cost.requests_a_second
                told = cost.problem or ("" if rate is None else f"{rate:.0f} requests a second with 8 clients")
                self._screen.write(f"costs of {system.label}: {told}")
        return costs

    async def _one(self, system: SystemUnderTest, loaded: Loaded, repeat: int) -> Outcome:
        """Return what one run came to: one that is kept, or a new one."""
        blank = Outcome(
            system=system.label,
            scenario=loaded.name,
            sha256=loaded.sha256,
            seed=loaded.scenario.seed,
            repeat=repeat,
            state="unsupported",
            why="",
            version=self._versions.get(system.label, ""),
        )
        known = self._known.get(_key(blank))
        if known is not None:
            return known
        missing = system.unsupported(loaded.scenario)
        if missing:
            return msgspec.structs.replace(blank, why="; ".join(missing))
        outcome, is_late = await self._try(system, loaded, blank)
        for _ in range(_TRIES_MORE if repeat else 0):
            if is_late and not self._stop.is_set():
                outcome, is_late = await self._try(system, loaded, blank)
        if not self._stop.is_set():
            with self._cells.open("ab") as file:
                file.write(msgspec.json.encode(outcome) + b"\n")
        return outcome

    async def _try(self, system: SystemUnderTest, loaded: Loaded, blank: Outcome) -> tuple[Outcome, bool]:
        out = self._out / "runs" / _plain(system.label)
        console = Console(self._screen, brief=True, holds=True)
        found = await runs.run_scenario(
            loaded, out, console=console, stop=self._stop, render=self._render, system=system
        )
        left = await asyncio.to_thread(self._end_left_behind, found.folder)
        state, why = _state(found)
        outcome = msgspec.structs.replace(
            blank,
            state=state,
            why=why + (f" It left {left} processes behind." if left else ""),
            figures={} if found.verdict is None else found.verdict.figures,
            report=_link(found.folder / "index.html", self._out),
            left_behind=left,
            start_s=_start_s(found.folder),
        )
        return outcome, late_only(found) is not None

    @staticmethod
    def _end_left_behind(folder: Path) -> int:
        """End what outlived a run; only its own processes carry the run's folder in their environment."""
        pids = left_behind(EVENTS_VARIABLE, str(folder))
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)


def _state(found: runs.Outcome) -> tuple[State, str]:
    """Return what a run came to, in the words of a comparison."""
    detail = (found.detail or "").splitlines()[0] if found.detail else ""
    if found.verdict is None:
        return ("did not start" if "gateway" in detail else "invalid"), detail
    if detail.startswith("gateway") and "ended unasked" in detail:
        return "crashed", detail
    if found.exit_code in (Exit.INTERRUPTED, Exit.NOT_UNDONE):
        return "invalid", detail or found.verdict.why
    state: State = found.verdict.verdict.value  # type: ignore[assignment]
    return state, found.verdict.why


def _link(report: Path, out: Path) -> str:
    return os.path.relpath(report, out) if report.is_file() else ""


def _start_s(folder: Path) -> float | None:
    try:
        return msgspec.json.decode((folder / USAGE_FILE).read_bytes(), type=Usage).start_s
    except (OSError, msgspec.MsgspecError):
        return None


def _files(system: SystemUnderTest) -> dict[str, str]:
    """Return the system's configuration in full, with addresses of an example."""
    if system.is_outside:
        return {}
    scenario = load_text(_SMOKE, _SMOKE_NAME).scenario
    names = ("gemini", "claude", "openai", "local")
    upstreams = {name: f"http://127.0.0.1:{_EXAMPLE_PORT + n}" for n, name in enumerate(names)}
    return system.render(scenario, upstreams).files


def _kept(path: Path) -> list[Outcome]:
    """Return the runs that are done already; a line that a kill cut short is none."""
    found: list[Outcome] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=Outcome))
    return found


def _key(outcome: Outcome) -> tuple[object, ...]:
    return (outcome.system, outcome.version, outcome.scenario, outcome.sha256, outcome.seed, outcome.repeat)


def _plain(label: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in label)


def _host() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count() or "unknown"),
        "python": platform.python_version(),
    }


def _say_nothing(_line: str) -> None:
    """The one line about a measurement comes at its end."""

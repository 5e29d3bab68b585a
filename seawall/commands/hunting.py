"""`seawall hunt`: search for a schedule that breaks the router, and write the smallest that does."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from router.errors import ConfigurationError
from router.settings import Settings
from seawall.console import short_path
from seawall.hunt.hunter import HuntResult, Progress
from seawall.hunt.jobs import Hunt, hunt, router_named, seed_of
from seawall.hunt.writing import Unsure, found_dir, write
from seawall.run import Exit
from seawall.scenario.quantities import parse_duration
from seawall.screen import Screen, complain
from seawall.version import commit

__all__ = ["run_hunt"]

_BUDGET_S = 60.0
_SAID_EVERY_S = 5.0
_SEEDS = 2**31


def run_hunt(options: Any) -> int:
    """Hunt as `options` say. 1 when something was found, 0 when not, 2 when the options cannot be used."""
    try:
        what = _hunt_of(options)
        make_router = router_named(what.router)
    except (ValueError, ConfigurationError, ImportError, AttributeError) as error:
        complain(f"seawall hunt: {error}")
        return Exit.USAGE
    screen = Screen()
    many_of = {"schedules": what.schedules, "requests": what.requests}
    ends = [f"for {what.budget_s:g} s"] if what.budget_s is not None else []
    until = " or ".join(ends + [f"through {count} {name}" for name, count in many_of.items() if count is not None])
    many = f", {what.jobs} searches side by side" if what.jobs > 1 else ""
    screen.write(f"▶ hunting {until} with seed {what.seed}{many}")
    said = _Said(screen)
    try:
        results = hunt(what, said.told)
    finally:
        said.clear()
    screen.write(_summary(results))
    finds = [(job, result) for job, result in enumerate(results) if result.found is not None]
    for job, result in finds:
        _report(result, job, what, options.out or found_dir(), make_router, screen)
    return Exit.FAIL if finds else Exit.PASS


def _hunt_of(options: Any) -> Hunt:
    """Return what to hunt. Raises ValueError or ConfigurationError."""
    budget_s = parse_duration(options.budget) if options.budget is not None else None
    if options.schedules is None and options.requests is None and budget_s is None:
        budget_s = _BUDGET_S
    counts = {"--jobs": options.jobs, "--schedules": options.schedules, "--requests": options.requests}
    for name, number in counts.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1")
    settings: dict[str, Any] = {}
    for written in options.set:
        name, found, value = written.partition("=")
        if not found:
            raise ValueError(f"--set takes NAME=VALUE, not {written!r}")
        settings[name.upper()] = value
    Settings.from_mapping(dict(settings))
    return Hunt(
        seed=secrets.randbelow(_SEEDS) if options.seed is None else options.seed,
        budget_s=budget_s,
        schedules=options.schedules,
        requests=options.requests,
        jobs=options.jobs,
        settings=settings,
        router=options.router,
    )


def _report(result: HuntResult, job: int, what: Hunt, folder: Path, make_router: Any, screen: Screen) -> None:
    """Tell of a find, and write it."""
    screen.write(screen.paint("FOUND", "31", "1") + f" {result.check}")
    screen.write(f"  {result.evidence}")
    faults, requests = _counted(result.faults_found, "fault"), _counted(result.requests_found, "request")
    screen.write(f"  schedule {result.found_after}, made small in {result.shrinks} steps: {faults}, {requests}")
    command = f"seawall hunt --seed {seed_of(what, job)}" + "".join(f" --set {k}={v}" for k, v in what.settings.items())
    command += f" --router {what.router}" if what.router else ""
    try:
        path = write(result, folder.resolve(), commit=commit(), command=command, make_router=make_router)
    except (Unsure, OSError) as error:
        complain(f"seawall hunt: not written: {error}")
        screen.write(result.text)
        return
    screen.write(f"  written: {short_path(path)}")
    screen.write(f"  again:   seawall run --arena simulation {short_path(path)}")


class _Said:
    """The progress: one line that is drawn again on a terminal, else a line every five seconds."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said_s = 0.0

    def told(self, standing: list[Progress]) -> None:
        elapsed_s = max(progress.elapsed_s for progress in standing)
        if self._screen.is_live:
            self._screen.show("hunt", f"  {_standing(standing)}")
        elif elapsed_s - self._said_s >= _SAID_EVERY_S:
            self._said_s = elapsed_s
            self._screen.write(f"  {_standing(standing)}")

    def clear(self) -> None:
        self._screen.show("hunt", None)


def _standing(standing: list[Progress]) -> str:
    elapsed_s = max(progress.elapsed_s for progress in standing)
    schedules = sum(progress.schedules for progress in standing)
    parts = [
        f"{elapsed_s:5.1f} s",
        f"{schedules} schedules ({schedules / max(elapsed_s, 1e-9):.0f}/s)",
        f"{sum(progress.requests for progress in standing)} requests",
        f"{max(progress.states for progress in standing)} states",
    ]
    shrinking = next((progress.shrinking for progress in standing if progress.shrinking), None)
    return " · ".join([*parts, f"making small: {shrinking}"] if shrinking else parts)


def _summary(results: list[HuntResult]) -> str:
    schedules, requests = sum(r.schedules for r in results), sum(r.requests for r in results)
    elapsed_s = max(result.elapsed_s for result in results)
    states = max(result.states for result in results)
    said = "nothing found" if all(result.found is None for result in results) else "searched"
    return f"{said}: {schedules} schedules, {requests} requests, {states} states in {elapsed_s:.1f} s"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

"""One scenario in the simulation, from its text to its verdict and reports: what `seawall.run` is on the wire."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from router.errors import ConfigurationError, SeawallError
from seawall.console import Console
from seawall.journal.events import End, Header, JournalEvent
from seawall.journal.merge import merge
from seawall.run import Exit, Outcome, Render, exit_code_of
from seawall.scenario import Loaded
from seawall.scenario.model import Scenario
from seawall.simulation.arena import run_scenario_virtually
from seawall.simulation.loop import Stalled
from seawall.systems import SeawallSystem
from seawall.version import commit, versions_of

__all__ = ["UNEQUAL_FIELDS", "header_of", "run_simulation", "write_journal"]

UNEQUAL_FIELDS = ("run", "commit", "versions")
"""The fields of a header in which journals of the same scenario, seed and commit may differ."""
_REPORTED = ("seawall", "httptools", "msgspec")
_commit = cache(commit)  # the code of a process is that of its beginning


async def run_simulation(
    loaded: Loaded, out: Path, *, console: Console, stop: asyncio.Event, render: Render, seed: int | None = None
) -> Outcome:
    """
    Simulate one scenario and report on it into a new folder below `out`.

    `seed` replaces the scenario's own. `stop` breaks it off: its faults are healed, and what has run is reported.
    """
    halt = threading.Event()

    async def heed() -> None:
        await stop.wait()
        halt.set()

    watcher = asyncio.create_task(heed())
    try:
        # In a thread, for it brings an event loop of its own.
        return await asyncio.to_thread(_simulated, loaded, out, console, render, seed, halt.is_set)
    finally:
        watcher.cancel()


def header_of(loaded: Loaded, scenario: Scenario, run: str) -> Header:
    """Return the header of the journal of a simulation."""
    system = SeawallSystem()
    return Header(
        run=run,
        title=scenario.title,
        scenario=loaded.text,
        scenario_name=Path(loaded.name).stem,
        scenario_sha256=loaded.sha256,
        seed=scenario.seed,
        arena="simulation",
        system=f"{system.name} {system.version()}",
        commit=_commit(),
        versions=versions_of(_REPORTED),
        settings=system.settings(scenario),
        observes=list(system.observes),
    )


def write_journal(
    loaded: Loaded,
    scenario: Scenario,
    folder: Path,
    console: Console | None = None,
    is_halted: Callable[[], bool] = lambda: False,
) -> End:
    """Simulate `scenario` and write its journal into `folder`, which exists. Raises what `simulate` raises."""
    ends: list[End] = []

    def told(at_s: float, event: JournalEvent) -> None:
        if isinstance(event, End):
            ends.append(event)
        elif console is not None:
            console.fault(at_s, event)

    recorder = run_scenario_virtually(
        scenario, header_of(loaded, scenario, folder.name), told=told, is_halted=is_halted
    )
    recorder.write_files(folder)
    merge(folder)
    return ends[-1]


def _simulated(
    loaded: Loaded, out: Path, console: Console, render: Render, seed: int | None, is_halted: Callable[[], bool]
) -> Outcome:
    scenario = loaded.scenario if seed is None else loaded.scenario.model_copy(update={"seed": seed})
    stem = Path(loaded.name).stem
    folder = out / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
        end = write_journal(loaded, scenario, folder, console, is_halted)
        verdict = render(folder)
    except ConfigurationError as error:
        return Outcome(folder=folder, verdict=None, exit_code=Exit.USAGE, detail=f"system.settings: {error}")
    except Stalled as error:
        return Outcome(folder=folder, verdict=None, exit_code=Exit.FAIL, detail=f"the gateway stands still: {error}")
    except (SeawallError, OSError) as error:
        return Outcome(folder=folder, verdict=None, exit_code=Exit.INVALID, detail=f"no report: {error}")
    return Outcome(folder=folder, verdict=verdict, exit_code=exit_code_of(end, verdict), detail=end.detail)

"""
Run several scenarios, judge each, and sum them up.

    take back what others left ─▶ side by side, at most `jobs` ─▶ `exclusive` ones alone ─▶ once more, alone ─▶ page

Once more goes a run that is invalid for one reason only: that this machine was too busy for the load generator to keep
its times. Whatever else a run came to is never repeated, a failure least of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from seawall import toolchain
from seawall.console import Console, short_path
from seawall.control.steering import Steering
from seawall.paths import undo_dir
from seawall.plan import duration_of
from seawall.recover import recover
from seawall.run import Exit, Outcome, Render, run_scenario
from seawall.scenario import Loaded
from seawall.screen import Screen
from seawall.systems import system_named
from seawall.verdicts.model import Check, Verdict

__all__ = [
    "LATE",
    "RUNS_FILE",
    "Result",
    "SuiteOptions",
    "Unready",
    "late_only",
    "ordered",
    "run_suite",
    "worst_exit",
    "write_suite",
]

LATE = "the load generator kept its times"
"""The check (group `validity`) that a busy machine fails."""
RUNS_FILE = "runs.json"
"""In a suite's folder: the folders of its runs, relative to it."""

_BETWEEN_S = 0.2
RenderSuite = Callable[[Path, Sequence[Path]], object]


class Unready(Exception):
    """No scenario can begin here; the message says why and what helps."""


class SuiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to go about it. `seed` replaces the scenarios' own."""

    jobs: int = 2
    fail_fast: bool = False
    repeats: bool = True
    seed: int | None = None
    brief: bool = False
    arena: Literal["wire", "simulation", "cluster"] = "wire"
    cluster: Any = None
    """In the arena cluster: the `ClusterTarget`."""
    system: str | None = None
    """The system under test in the place of the scenarios' own, as `system_named` takes it."""
    steering: Steering | None = None
    """Of a single scenario on the wire: by what it is watched and steered."""


class Result(msgspec.Struct, kw_only=True):
    """What became of one scenario; `outcome` is None while it has not run. `seconds` counts its last run only."""

    name: str
    loaded: Loaded
    outcome: Outcome | None = None
    seconds: float = 0.0


async def run_suite(
    scenarios: Sequence[Loaded],
    out: Path,
    *,
    screen: Screen,
    stop: asyncio.Event,
    render: Render,
    options: SuiteOptions,
) -> list[Result]:
    """
    Run the scenarios and return a result for each, in their order.

    `stop` ends those under way, with everything undone, and lets no other begin. Raises Unready when none can begin.
    """
    await asyncio.to_thread(_make_ready, out, screen, options.arena)
    results = [Result(name=Path(loaded.name).stem, loaded=loaded) for loaded in scenarios]
    runner = _Runner(out, screen, stop, render, options)
    # In virtual time nobody waits for anything, so side by side is no quicker; and a cluster is one for all.
    together, alone = ordered(results, options.jobs if options.arena == "wire" else 1)
    await runner.side_by_side(together)
    for result in alone:
        await runner.run(result, Console(screen, brief=options.brief))
    if options.repeats:
        await runner.repeat(results)
    return results


def ordered(results: Sequence[Result], jobs: int) -> tuple[list[Result], list[Result]]:
    """
    Return what runs side by side, and what runs alone after that.

    Of the first the longest begin first, so that none of them is left over at the end.
    """
    if jobs < 2 or len(results) < 2:
        return [], list(results)
    together = [result for result in results if not result.loaded.scenario.exclusive]
    together.sort(key=lambda result: -duration_of(result.loaded.scenario.load.plan(result.loaded.scenario.seed)))
    alone = [result for result in results if result.loaded.scenario.exclusive]
    return (together, alone) if len(together) > 1 else ([], list(results))


def late_only(outcome: Outcome | None) -> Check | None:
    """Return the check that says so when a run is invalid only because the load generator was late."""
    if outcome is None or outcome.verdict is None or outcome.exit_code is not Exit.INVALID or outcome.detail:
        return None
    if outcome.verdict.verdict is not Verdict.INVALID:
        return None
    guilty = [check for check in outcome.verdict.checks if check.verdict in (Verdict.FAIL, Verdict.INVALID)]
    is_late = len(guilty) == 1 and (guilty[0].group, guilty[0].name) == ("validity", LATE)
    return guilty[0] if is_late else None


def worst_exit(codes: Sequence[Exit]) -> Exit:
    """Return the exit code that says most: what is not undone, an interruption, then the verdicts; USAGE for none."""
    order = (Exit.NOT_UNDONE, Exit.INTERRUPTED, Exit.FAIL, Exit.STOPPED, Exit.USAGE, Exit.INVALID, Exit.PASS)
    return min(codes, key=order.index, default=Exit.USAGE)


def write_suite(out: Path, results: Sequence[Result], render_suite: RenderSuite) -> Path | None:
    """
    Write the page of all runs, let `latest` lead to it, and return its folder; None when there was no run.

    Of a single scenario there is no such page: `latest` leads to its run. Raises OSError.
    """
    folders = [result.outcome.folder for result in results if result.outcome is not None]
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        return None
    if len(results) == 1:
        _link_latest(folders[0])
        return folders[0]
    suite = out / f"suite-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    render_suite(suite, folders)
    names = [os.path.relpath(folder, suite) for folder in folders]
    (suite / RUNS_FILE).write_bytes(msgspec.json.encode(names) + b"\n")
    _link_latest(suite)
    return suite


class _Runner:
    """Carries out runs one after the other or side by side."""

    def __init__(self, out: Path, screen: Screen, stop: asyncio.Event, render: Render, options: SuiteOptions) -> None:
        self._out = out
        self._screen = screen
        self._stop = stop
        self._render = render
        self._options = options
        self._failed = False

    async def side_by_side(self, results: Sequence[Result]) -> None:
        """Run at most `jobs` at a time. On a terminal their lines are marked by name, else each comes in one piece."""
        waiting = iter(results)
        count = len(results)
        begun = 0

        async def work() -> None:
            nonlocal begun
            for result in waiting:
                begun += 1
                console = Console(
                    self._screen, prefix=result.name, holds=not self._screen.is_live, brief=self._options.brief
                )
                if not self._screen.is_live and not self._is_over():
                    self._screen.write(f"started {result.name} ({begun} of {count}, {self._options.jobs} at a time)")
                await self.run(result, console)
                # The next one's processes start when this one's are gone for good.
                await asyncio.sleep(_BETWEEN_S)

        await asyncio.gather(*(work() for _ in range(min(self._options.jobs, count))))

    async def repeat(self, results: Sequence[Result]) -> None:
        """Run once more, alone, what proved nothing because this machine was too busy."""
        for result in results:
            late = late_only(result.outcome)
            if late is None or result.outcome is None or self._is_over():
                continue
            first = short_path(result.outcome.folder / "index.html")
            self._screen.write(
                f"{result.name}: the machine was too busy: requests left late ({late.figure}; limit {late.limit}), "
                f"so this run proves nothing; running it again alone, once (the first report: {first})"
            )
            await self.run(result, Console(self._screen))

    async def run(self, result: Result, console: Console) -> None:
        """Run one scenario and keep what it came to, unless everything is being stopped."""
        if self._is_over():
            return
        scenario = result.loaded.scenario
        if self._options.seed is not None:
            scenario = scenario.model_copy(update={"seed": self._options.seed})
        console.title(result.name, scenario, arena=self._options.arena)
        for warning in result.loaded.warnings:
            console.line(f"warning: {warning}")
        began_s = time.monotonic()
        try:
            steered: dict[str, object] = {} if self._options.steering is None else {"steering": self._options.steering}
            if self._options.system is not None:
                steered["system"] = system_named(self._options.system)
            outcome = await _runner_of(self._options)(
                result.loaded,
                self._out,
                console=console,
                stop=self._stop,
                render=self._render,
                seed=self._options.seed,
                **steered,
            )
        except Exception as error:  # noqa: BLE001 - a defect of ours in one run must not leave another's faults behind
            console.line(traceback.format_exc())
            outcome = Outcome(
                folder=self._out / result.name,
                verdict=None,
                exit_code=Exit.INVALID,
                detail=f"a defect in Seawall: {type(error).__name__}: {error}",
            )
        result.outcome, result.seconds = outcome, time.monotonic() - began_s
        if outcome.detail is not None:
            console.line(f"{outcome.exit_code.name.lower().replace('_', ' ')}: {outcome.detail}")
        if outcome.verdict is None and (outcome.folder / "index.html").is_file():
            console.line(f"report: {short_path(outcome.folder / 'index.html')}")
        if outcome.verdict is not None:
            console.verdict(result.name, outcome.verdict, outcome.folder / "index.html")
        console.release()
        self._failed = self._failed or (outcome.exit_code is not Exit.PASS and late_only(outcome) is None)

    def _is_over(self) -> bool:
        return self._stop.is_set() or (self._options.fail_fast and self._failed)


def _runner_of(options: SuiteOptions) -> Callable[..., Awaitable[Outcome]]:
    if options.arena == "wire":
        return run_scenario
    if options.arena == "cluster":
        from seawall.arenas.cluster import ClusterArena  # noqa: PLC0415 - nor the client of Kubernetes

        return partial(run_scenario, make_arena=partial(ClusterArena, cluster=options.cluster))
    from seawall.simulation import run_simulation  # noqa: PLC0415 - a run on the wire need not load the simulation

    return run_simulation


def _make_ready(out: Path, screen: Screen, arena: str) -> None:
    """Take back what killed runs left, and see that there is a place for reports and every part. Raises Unready."""
    try:
        undo = undo_dir()
    except (OSError, RuntimeError) as error:
        raise Unready(
            f"there is no folder for what must be taken back after a crash: {error}; point SEAWALL_STATE at one"
        ) from error
    recover(undo, emit=lambda line: None if line == "Nothing to undo." else screen.write(f"  {line}"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial = out / f".seawall-{os.getpid()}"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unready(f"reports cannot be written to {out}: {reason}; choose another folder with --out") from error
    if arena == "simulation":
        return
    try:
        toolchain.resolve("toxiproxy", progress=lambda line: screen.write(f"  {line}"))
    except toolchain.ToolchainError as error:
        raise Unready(str(error)) from error
    except RuntimeError as error:  # no home folder
        raise Unready(f"there is no folder for programs: {error}; point SEAWALL_CACHE at one") from error


def _link_latest(folder: Path) -> None:
    """Let `latest` beside the folder lead to it. A file system without links does without."""
    link = folder.parent / "latest"
    draft = folder.parent / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):
        draft.unlink(missing_ok=True)
        draft.symlink_to(folder.name, target_is_directory=True)
        draft.replace(link)

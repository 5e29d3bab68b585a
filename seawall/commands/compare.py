"""`seawall compare`: several gateways under the same scenarios, side by side."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigurationError
from seawall.compare.engine import Options, run_compare
from seawall.compare.model import Comparison, cells_of, worse_than
from seawall.console import short_path
from seawall.paths import runs_dir, undo_dir
from seawall.recover import recover
from seawall.run import Exit, Render
from seawall.scenario import Loaded, ScenarioError, find, load_scenario
from seawall.screen import Screen, complain
from seawall.systems import system_named

__all__ = ["RenderComparison", "compare"]

RenderComparison = Callable[[Comparison, Path, Sequence[str]], Path]


def compare(options: Any, *, render: Render, render_comparison: RenderComparison) -> int:
    """Compare what `options` name; 1 when a cell is worse than in the baseline, 3 when nothing could be compared."""
    try:
        scenarios = [load_scenario(path) for path in find(options.scenarios.split(","), tags=())]
        systems = tuple(dict.fromkeys(word.strip() for word in options.systems.split(",") if word.strip()))
        for word in systems:
            system_named(word)
        baseline = None if options.baseline is None else _read(options.baseline)
    except (ScenarioError, ConfigurationError) as error:
        complain(f"seawall compare: {error}")
        return Exit.USAGE
    problem = _problem(options, scenarios, systems)
    if problem:
        complain(f"seawall compare: {problem}")
        return Exit.USAGE
    out: Path = (options.out or runs_dir() / "compare").resolve()
    how = Options(
        systems=systems,
        scenarios=tuple(scenarios),
        repeats=options.repeats,
        cost_seconds=options.cost_seconds,
        command=shlex.join(["seawall", *sys.argv[1:]]),
    )
    screen = Screen()
    try:
        comparison, interrupted = asyncio.run(_compared(how, out, screen, render))
        worse = [] if baseline is None else worse_than(baseline, comparison)
        page = render_comparison(comparison, out, worse)
    except OSError as error:
        complain(f"seawall compare: {out}: {error.strerror or error}; choose another folder with --out")
        return Exit.INVALID
    for line in worse:
        screen.write(f"worse: {line}")
    screen.write(f"comparison: {short_path(page)}")
    if interrupted:
        return Exit.INTERRUPTED
    if all(info.problem for info in comparison.systems):
        return Exit.INVALID
    failed = [] if options.require is None else _missed(comparison, options.require)
    for line in failed:
        screen.write(f"required: {line}")
    return Exit.FAIL if worse or failed else Exit.PASS


def _missed(comparison: Comparison, system: str) -> list[str]:
    """Return a sentence for each scenario in which a system that must do well did not, or was not run."""
    cells = cells_of(comparison)
    found: list[str] = []
    for scenario in comparison.scenarios:
        cell = cells.get((scenario, system))
        if cell is None or cell.state not in ("pass", "partial", "safe"):
            found.append(f"{system}, {scenario}: {'not run' if cell is None else f'{cell.state}, {cell.words}'}")
    return found


async def _compared(how: Options, out: Path, screen: Screen, render: Render) -> tuple[Comparison, bool]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    recover(undo_dir(), emit=lambda line: None if line == "Nothing to undo." else screen.write(f"  {line}"))
    comparison = await run_compare(how, out, screen=screen, stop=stop, render=render)
    return comparison, stop.is_set()


def _problem(options: Any, scenarios: Sequence[Loaded], systems: Sequence[str]) -> str:
    if not systems:
        return "name systems, such as --systems seawall,litellm,direct"
    if options.repeats < 1:
        return f"--repeats is {options.repeats}; it must be at least 1"
    elsewhere = [loaded.name for loaded in scenarios if "wire" not in loaded.scenario.arenas]
    return f"{', '.join(elsewhere)}: not a scenario for the wire; leave it out" if elsewhere else ""


def _read(path: Path) -> Comparison:
    """Return an earlier comparison. Raises ConfigurationError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise ConfigurationError(f"--baseline {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"--baseline {path} is no comparison: {error}") from error

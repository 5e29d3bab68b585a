"""`seawall run`: choose scenarios, run them or only say what would happen, and sum up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from faults.base import FaultError
from router.errors import SeawallError
from seawall.commands.planned import planned_text
from seawall.commands.under_test import put_under_test
from seawall.console import COLOURS, short_path
from seawall.control.steering import Steering
from seawall.paths import runs_dir
from seawall.run import Exit, Render
from seawall.scenario import Loaded, ScenarioError, find, load_scenario
from seawall.scenario.problems import Problem
from seawall.screen import Screen, complain
from seawall.suite import RenderSuite, Result, SuiteOptions, Unready, run_suite, worst_exit, write_suite

__all__ = ["run", "summary"]

_PLACES = {"wire": "on the wire", "simulation": "in the simulation", "cluster": "on a cluster"}


def run(options: Any, *, render: Render, render_suite: RenderSuite) -> int:
    """Run what `options` name and return the worst exit code."""
    problem = _misuse(options)
    if problem is not None:
        complain(f"seawall run: {problem}")
        return Exit.USAGE
    try:
        scenarios, elsewhere = _chosen(options)
    except ScenarioError as error:
        for problem in error.problems:
            complain(str(problem))
        return Exit.USAGE
    problem = _cluster_problem(options)
    if options.live and (len(scenarios) != 1 or options.arena != "wire"):
        problem = "--live watches one scenario on the wire; name just one, without --arena simulation"
    if problem is not None:
        complain(f"seawall run: {problem}")
        return Exit.USAGE
    screen = Screen()
    for line in elsewhere:
        screen.write(line)
    if options.system is not None and (code := put_under_test(options, scenarios, screen)) is not None:
        return code
    if options.plan:
        screen.write(planned_text(scenarios, seed=options.seed, jobs=options.jobs))
        return _planned_harm(scenarios, options, screen) if options.kubeconfig is not None else Exit.PASS
    return asyncio.run(_run(scenarios, options, screen, render, render_suite))


def _misuse(options: Any) -> str | None:
    if not (options.names or options.tag or options.all):
        return "name a scenario, or give --tag or --all; `seawall list` shows what there is"
    return None if options.jobs >= 1 else f"--jobs is {options.jobs}; it must be at least 1"


async def _run(
    scenarios: Sequence[Loaded], options: Any, screen: Screen, render: Render, render_suite: RenderSuite
) -> int:
    stop = asyncio.Event()
    _heed_signals(stop, screen)
    out: Path = (options.out or runs_dir()).resolve()
    steering = Steering() if options.live else None
    how = partial(
        SuiteOptions,
        jobs=options.jobs,
        fail_fast=options.fail_fast,
        repeats=not (options.no_repeat or options.live),
        seed=options.seed,
        brief=options.brief,
        arena=options.arena,
        system=options.system,
        steering=steering,
    )
    try:
        async with _watched(steering, render, screen), _cluster(options, screen) as target:
            chosen = how(cluster=target)
            results = await run_suite(scenarios, out, screen=screen, stop=stop, render=render, options=chosen)
    except (Unready, SeawallError) as error:
        complain(f"seawall run: {error}")
        return Exit.INVALID
    await asyncio.to_thread(_annotate, options, results, screen)
    codes = [result.outcome.exit_code for result in results if result.outcome is not None]
    if stop.is_set():
        codes.append(Exit.INTERRUPTED)
    try:
        page = await asyncio.to_thread(write_suite, out, results, render_suite)
    except OSError as error:
        screen.write(f"the page of all runs cannot be written: {error}")
        page = None
        codes.append(Exit.INVALID)
    if len(results) > 1:
        screen.write(summary(results, screen))
        if page is not None:
            screen.write(f"all runs: {short_path(page / 'index.html')}")
    return worst_exit(codes)


def _annotate(options: Any, results: Sequence[Result], screen: Screen) -> None:
    """Post the faults and verdicts to Grafana, where there is one; what goes wrong is told once and fails nothing."""
    url = options.annotate or os.environ.get("GRAFANA_URL", "").strip()
    if not url:
        return
    from seawall.grafana import Grafana, GrafanaError, marks_of  # noqa: PLC0415 - most have none
    from seawall.journal.read import JournalError, load_journal  # noqa: PLC0415

    try:
        grafana = Grafana(url, os.environ.get("GRAFANA_TOKEN", "").strip())
        for outcome in (result.outcome for result in results):
            if outcome is not None and outcome.verdict is not None:
                grafana.post(marks_of(load_journal(outcome.folder / "journal.jsonl"), outcome.verdict))
    except (GrafanaError, JournalError, OSError) as error:
        screen.write(f"not on Grafana: {error}")


def _watched(steering: Steering | None, render: Render, screen: Screen) -> AbstractAsyncContextManager[None]:
    """Serve the live report of a run that is steered."""
    if steering is None:
        return nullcontext()
    # Only now: it needs a web server, which most runs do without.
    from seawall.control.watched import watched  # noqa: PLC0415

    return watched(steering, render, lambda line: screen.write(f"  {line}"))


def _cluster_problem(options: Any) -> str | None:
    """Return what is wrong with what the command line says of a cluster, None where nothing is."""
    if options.arena != "cluster":
        named = [name for name in ("kubeconfig", "context", "namespace", "url") if getattr(options, name) is not None]
        return f"--{named[0]} belongs to --arena cluster" if named else None
    from seawall.commands.clustered import choice_of  # noqa: PLC0415 - only here

    return choice_of(options).problem()


def _cluster(options: Any, screen: Screen) -> AbstractAsyncContextManager[Any]:
    """Give the cluster of the arena cluster."""
    if options.arena != "cluster":
        return nullcontext()
    from seawall.commands.clustered import cluster_of  # noqa: PLC0415 - as above

    return cluster_of(options, screen)


def _planned_harm(scenarios: Sequence[Loaded], options: Any, screen: Screen) -> Exit:
    """Say which pods of the cluster that is named would be harmed."""
    from seawall.commands.clustered import cluster_of, harm_text  # noqa: PLC0415 - as above

    async def told() -> str:
        async with cluster_of(options, screen) as target:
            return await asyncio.to_thread(harm_text, target, scenarios)

    try:
        screen.write(asyncio.run(told()))
    except (SeawallError, FaultError) as error:
        complain(f"seawall run: {error}")
        return Exit.INVALID
    return Exit.PASS


def summary(results: Sequence[Result], screen: Screen) -> str:
    """Return the table of all runs: scenario, verdict, requests, seconds, report."""
    rows = [("scenario", "verdict", "requests", "seconds", "report")]
    rows += [_row(result) for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines: list[str] = []
    for row in rows:
        name, verdict, requests, seconds, report = row
        word = f"{verdict:<{widths[1]}}"
        colour = next((code for known, code in COLOURS.items() if known == verdict), None)
        word = screen.paint(word, colour, "1") if colour else word
        cells = f"{name:<{widths[0]}}  {word}  {requests:>{widths[2]}}  {seconds:>{widths[3]}}  {report}"
        lines.append(cells.rstrip())
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, str, str, str, str]:
    outcome = result.outcome
    if outcome is None:
        return (result.name, "not run", "–", "–", "")
    if outcome.verdict is None:
        return (result.name, outcome.exit_code.name.lower(), "–", f"{result.seconds:.1f}", outcome.detail or "")
    requests = outcome.verdict.figures.get("requests")
    return (
        result.name,
        str(outcome.verdict.verdict),
        "–" if requests is None else f"{requests:.0f}",
        f"{result.seconds:.1f}",
        short_path(outcome.folder / "index.html"),
    )


def _chosen(options: Any) -> tuple[list[Loaded], list[str]]:
    """Return the scenarios for the arena, and a line for each that was passed over. Raises ScenarioError."""
    arena: str = options.arena
    problems: list[Problem] = []
    scenarios: list[Loaded] = []
    elsewhere: list[str] = []
    for path in find(options.names, tags=() if options.all else options.tag):
        try:
            loaded = load_scenario(path)
        except ScenarioError as error:
            problems += error.problems
            continue
        if arena in loaded.scenario.arenas:
            scenarios.append(loaded)
            continue
        line = f"it runs in {', '.join(loaded.scenario.arenas)} only, not {_PLACES[arena]}"
        if options.names:
            problems.append(Problem(str(path), 0, 0, line, f"name another, or add `{arena}` to its arenas"))
        else:
            elsewhere.append(f"passed over {path.stem}: {line}")
    if problems:
        raise ScenarioError(problems)
    return scenarios, elsewhere


def _heed_signals(stop: asyncio.Event, screen: Screen) -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal end everything in order; a second one changes nothing."""

    def heed() -> None:
        if stop.is_set():
            screen.write("  still stopping: faults are being taken back, and it ends by itself when that is done")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored stays so: that is how nohup works.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, heed)

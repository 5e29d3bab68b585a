"""The `seawall` command."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from router.errors import SeawallError

__all__ = ["main"]

_OWN = ("router", "faults", "reports", "loadtests")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (`seawall.run.Exit`)."""
    shadow = _shadowed()
    if shadow is not None:
        sys.stderr.write(f"seawall: {shadow}\n")
        return 2
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        from seawall.gateway.serve import main as serve

        return serve(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in {"seawall", *_OWN}:
            raise
        sys.stderr.write(f"seawall: {error.name} is not installed; pip install 'seawall[harness]'\n")
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seawall",
        description="An LLM router that fails over, and the chaos harness that proves it.",
        epilog="Exit codes: 0 pass, 1 fail, 2 bad scenario or usage, 3 invalid, 4 stopped by stop_when, "
        "5 undo not verified, 130 interrupted and undone.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Any], int], words: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=words, description=words)
        command.set_defaults(command=run)
        return command

    run = add("run", _run, "Run scenarios, judge them and write reports.")
    run.add_argument("names", nargs="*", metavar="SCENARIO", help="a file, or a name from the scenarios folder")
    run.add_argument("--tag", action="append", default=[], help="all scenarios with this tag (may be repeated)")
    run.add_argument("--all", action="store_true", help="all scenarios")
    run.add_argument("--seed", type=int, help="replace the scenarios' own seed")
    run.add_argument("--out", type=Path, help="folder for the reports (default: reports/out in a checkout, "
                     "else seawall-reports)")  # fmt: skip
    validate = add("validate", _validate, "Check scenario files; start nothing.")
    validate.add_argument("names", nargs="*", metavar="SCENARIO", help="files or names (default: all)")
    add("list", _list, "List the scenarios with their tags and titles.")
    add("schema", _schema, "Print the JSON Schema of scenario files.")
    add("recover", _recover, "Take back what killed runs left behind.")
    report = add("report", _report, "Judge a run's journal again and write its reports.")
    report.add_argument("run", type=Path, nargs="?", help="the run's folder (default: the latest)")
    commands.add_parser("serve", help="Serve the gateway (seawall serve --help).", add_help=False)
    return parser


def _run(options: Any) -> int:
    from seawall.scenario import ScenarioError, find, load_scenario

    if not (options.names or options.tag or options.all):
        sys.stderr.write("seawall run: name a scenario, or give --tag or --all; `seawall list` shows what there is\n")
        return 2
    try:
        paths = find(options.names, tags=() if options.all else options.tag)
        problems: list[object] = []
        scenarios: list[Any] = []
        for path in paths:
            try:
                scenarios.append(load_scenario(path))
            except ScenarioError as error:
                problems += error.problems
        if problems:
            raise SystemExit(_told_problems(problems))
    except ScenarioError as error:
        return _told_problems(error.problems)
    return asyncio.run(_run_all(scenarios, options))


async def _run_all(scenarios: Sequence[Any], options: Any) -> int:
    from reports.render import render
    from reports.suite import render_suite
    from seawall.console import Console
    from seawall.paths import runs_dir
    from seawall.run import Exit, run_scenario

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    out: Path = (options.out or runs_dir()).resolve()
    console = Console()
    codes: list[Exit] = []
    folders: list[Path] = []
    for loaded in scenarios:
        for warning in loaded.warnings:
            console.line(f"warning: {warning}")
        console.title(Path(loaded.name).stem, loaded.scenario)
        outcome = await run_scenario(loaded, out, console=console, stop=stop, render=render, seed=options.seed)
        codes.append(outcome.exit_code)
        if outcome.detail is not None:
            console.line(f"{outcome.exit_code.name.lower()}: {outcome.detail}")
        if outcome.verdict is not None:
            folders.append(outcome.folder)
            console.verdict(Path(loaded.name).stem, outcome.verdict, outcome.folder / "index.html")
        if stop.is_set():
            break
    if len(scenarios) > 1 and folders:
        suite = out / f"suite-{time.strftime('%Y%m%d-%H%M%S')}"
        render_suite(suite, folders)
        console.line(f"all {len(folders)} runs: {suite / 'index.html'}")
    return int(_worst(codes))


def _worst(codes: Sequence[Any]) -> Any:
    """Return the exit code that says most: an interruption, then what is not undone, then the verdicts."""
    from seawall.run import Exit

    order = (Exit.INTERRUPTED, Exit.NOT_UNDONE, Exit.FAIL, Exit.STOPPED, Exit.INVALID, Exit.USAGE, Exit.PASS)
    return min(codes, key=order.index, default=Exit.USAGE)


def _validate(options: Any) -> int:
    from seawall.scenario import ScenarioError, find, validate_paths

    try:
        paths = find(options.names)
    except ScenarioError as error:
        return _told_problems(error.problems)
    problems = validate_paths(paths, warnings=True)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = len(problems) - len(errors)
    sys.stdout.write(f"{len(paths)} scenarios, {len(errors)} problems, {warnings} warnings\n")
    return 2 if errors else 0


def _list(options: Any) -> int:
    from seawall.scenario import ScenarioError, find, load_scenario

    for path in find([]):
        try:
            loaded = load_scenario(path)
        except ScenarioError as error:
            sys.stdout.write(f"{path.stem:20} broken: {error.problems[0]}\n")
            continue
        scenario = loaded.scenario
        sys.stdout.write(f"{path.stem:20} {scenario.title}  [{', '.join(scenario.tags)}]\n")
    return 0


def _schema(options: Any) -> int:
    import json

    from seawall.scenario import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0


def _recover(options: Any) -> int:
    from seawall.paths import undo_dir
    from seawall.recover import recover

    return recover(undo_dir(), emit=lambda line: print(line, flush=True)).exit_code


def _report(options: Any) -> int:
    from reports.render import render
    from seawall.console import Console
    from seawall.journal.merge import merge
    from seawall.paths import runs_dir
    from seawall.run import Exit
    from seawall.verdicts.model import Verdict

    folder: Path = (options.run or runs_dir() / "latest").resolve()
    if not folder.is_dir():
        sys.stderr.write(f"seawall report: there is no run at {folder}; name the folder of one\n")
        return Exit.USAGE
    try:
        if any(folder.glob("events-*.jsonl")):
            merge(folder)
        verdict = render(folder)
    except (SeawallError, OSError) as error:
        sys.stderr.write(f"seawall report: {error}\n")
        return Exit.INVALID
    Console().verdict(folder.name, verdict, folder / "index.html")
    return {Verdict.FAIL: Exit.FAIL, Verdict.INVALID: Exit.INVALID}.get(verdict.verdict, Exit.PASS)


def _told_problems(problems: Sequence[object]) -> int:
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 2


def _shadowed() -> str | None:
    """Return a sentence when another distribution's package stands in the way of one of ours."""
    import importlib.util

    home = Path(__file__).resolve().parent.parent
    for name in _OWN:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parent.parent != home:
            found = origin or "missing"
            return f"the package {name!r} is not Seawall's own but {found}; run elsewhere, or remove what shadows it"
    return None


if __name__ == "__main__":
    raise SystemExit(main())

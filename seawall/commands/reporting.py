"""`seawall report`: judge what a run or a suite left, and write its reports anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from router.errors import SeawallError
from seawall.console import Console
from seawall.journal.merge import merge
from seawall.paths import runs_dir
from seawall.run import Exit, Render
from seawall.screen import Screen, complain
from seawall.suite import RUNS_FILE, RenderSuite, worst_exit
from seawall.verdicts.model import Verdict

__all__ = ["report"]

_EXITS = {Verdict.FAIL: Exit.FAIL, Verdict.INVALID: Exit.INVALID}


def report(options: Any, *, render: Render, render_suite: RenderSuite) -> int:
    """Write the reports of the run or suite that `options` name; return the exit code of the worst verdict."""
    folder: Path = (options.run or runs_dir() / "latest").resolve()
    if not folder.is_dir():
        complain(f"seawall report: there is no run at {folder}; name the folder of one")
        return Exit.USAGE
    console = Console(Screen())
    if not (folder / RUNS_FILE).is_file():
        return _of_run(folder, console, render)
    try:
        runs = [(folder / name).resolve() for name in _runs_of(folder)]
        codes = [_of_run(run, console, render) for run in runs]
        render_suite(folder, runs)
    except (OSError, msgspec.MsgspecError) as error:
        complain(f"seawall report: {error}")
        return Exit.INVALID
    console.line(f"all {len(runs)} runs: {folder / 'index.html'}")
    return worst_exit(codes)


def _of_run(folder: Path, console: Console, render: Render) -> Exit:
    try:
        if any(folder.glob("events-*.jsonl")):
            merge(folder)
        verdict = render(folder)
    except (SeawallError, OSError) as error:
        complain(f"seawall report: {error}")
        return Exit.INVALID
    console.verdict(folder.name, verdict, folder / "index.html")
    return _EXITS.get(verdict.verdict, Exit.PASS)


def _runs_of(folder: Path) -> Sequence[str]:
    return msgspec.json.decode((folder / RUNS_FILE).read_bytes(), type=list[str])

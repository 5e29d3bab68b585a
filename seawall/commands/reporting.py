"""`seawall report`: judge what a run or a suite left, write its reports anew, compare it with another, tell CI."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from router.errors import SeawallError
from seawall.console import Console
from seawall.journal.merge import JOURNAL_NAME, merge
from seawall.journal.read import JournalError, load_journal
from seawall.journal.seal import body_sha256, seal_in
from seawall.paths import runs_dir
from seawall.run import Exit
from seawall.screen import Screen, complain
from seawall.suite import RUNS_FILE, RenderSuite, worst_exit
from seawall.verdicts.judge import judge
from seawall.verdicts.model import RunVerdict, Verdict

__all__ = ["Changes", "Reports", "report"]

_EXITS = {Verdict.FAIL: Exit.FAIL, Verdict.INVALID: Exit.INVALID}
_SUMMARY_BYTES_MAX = 900_000
"""GitHub takes a megabyte a step, and nothing of a summary that is larger."""


class Changes(Protocol):
    """What changed between two runs or suites."""

    @property
    def regressions(self) -> int:
        """How many things are worse than they may be."""
        ...

    @property
    def pairs(self) -> Sequence[Any]:
        """Each scenario on both sides, with its `regressions` in words."""
        ...


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """What the room of the reports does for this command, which may not import it."""

    render: Callable[[Path, Path | None], RunVerdict]
    """Judges the run in a folder and writes its reports, compared with that of another folder where one is given."""
    render_suite: RenderSuite
    annotations: Callable[[Path], list[str]]
    """The workflow commands of GitHub for the run in a folder."""
    compare: Callable[[tuple[Path, Sequence[Path]], tuple[Path, Sequence[Path]], Iterable[str], Path], Changes]


def report(options: Any, *, reports: Reports) -> int:
    """Do what `options` say; return the exit code of the worst verdict, or 1 for a regression."""
    words: list[str] = options.what
    if words[:1] == ["compare"]:
        return _compared(options, words[1:], reports)
    if words[:1] == ["annotations"]:
        return _annotations(words[1:])
    problem = None
    if len(words) > 1:
        problem = f"one folder at a time, not {len(words)}; two are compared by `seawall report compare A B`"
    elif options.budget:
        problem = "--budget belongs to `seawall report compare A B`"
    if problem:
        complain(f"seawall report: {problem}")
        return Exit.USAGE
    folder = Path(words[0]) if words else runs_dir() / "latest"
    missing = next((path for path in (folder, options.baseline) if path is not None and not _is_dir(path)), None)
    if missing is not None:
        complain(f"seawall report: there is no run at {missing}; name the folder of one")
        return Exit.USAGE
    return _rendered(options, folder.resolve(), reports)


def _rendered(options: Any, folder: Path, reports: Reports) -> int:
    console = Console(Screen())
    baseline: Path | None = options.baseline
    try:
        runs, is_suite = _runs_of(folder)
        before, _ = _runs_of(baseline.resolve()) if baseline is not None else ([], False)
    except (OSError, msgspec.MsgspecError) as error:
        complain(f"seawall report: {error}")
        return Exit.INVALID
    if baseline is not None and (is_suite or len(before) != 1):
        complain(
            "seawall report: a baseline is one run for one run; suites are compared by `seawall report compare A B`"
        )
        return Exit.USAGE
    codes = [_of_run(run, console, reports, before[0] if before else None) for run in runs]
    if is_suite:
        try:
            reports.render_suite(folder, runs)
        except OSError as error:
            complain(f"seawall report: {error}")
            return Exit.INVALID
        console.line(f"all {len(runs)} runs: {folder / 'index.html'}")
    if options.github:
        for run in runs:
            _annotate(run, reports, console)
        _add_summary(folder / "summary.md")
    if options.open:
        _open(folder / "index.html")
    return worst_exit(codes)


def _of_run(folder: Path, console: Console, reports: Reports, baseline: Path | None) -> Exit:
    try:
        _merge(folder)
        if baseline is not None:
            _merge(baseline)
        verdict = reports.render(folder, baseline)
    except (SeawallError, JournalError, OSError) as error:
        complain(f"seawall report: {error}")
        return Exit.INVALID
    console.verdict(folder.name, verdict, folder / "index.html")
    return _EXITS.get(verdict.verdict, Exit.PASS)


def _compared(options: Any, words: Sequence[str], reports: Reports) -> int:
    if len(words) != 2 or options.baseline is not None:
        complain("seawall report compare: it takes two folders, before and after, each of a run or of a suite")
        return Exit.USAGE
    folders = [Path(word).resolve() for word in words]
    missing = [folder for folder in folders if not _is_dir(folder)]
    if missing:
        complain(f"seawall report compare: there is no run at {missing[0]}; name the folder of one")
        return Exit.USAGE
    console = Console(Screen())
    out = (options.out or folders[1]).resolve()
    try:
        sides = [(folder, _runs_of(folder)[0]) for folder in folders]
        for _, runs in sides:
            for run in runs:
                _merge(run)
        changes = reports.compare(sides[0], sides[1], options.budget, out)
    except ValueError as error:  # a budget that cannot be read
        complain(f"seawall report compare: {error}")
        return Exit.INVALID if isinstance(error, msgspec.MsgspecError) else Exit.USAGE
    except (SeawallError, JournalError, OSError) as error:
        complain(f"seawall report compare: {error}")
        return Exit.INVALID
    for pair in changes.pairs:
        for text in pair.regressions:
            console.line(f"REGRESSION {pair.scenario} ({pair.arena}): {text}")
    count = changes.regressions
    told = f"{count} regression{'s' * (count != 1)}" if count else "no regression"
    console.line(f"{told}: {out / 'compare.html'}")
    if options.github:
        _add_summary(out / "compare.md")
    if options.open:
        _open(out / "compare.html")
    return Exit.FAIL if count else Exit.PASS


def _annotations(words: Sequence[str]) -> int:
    """Print the annotations of one run for Grafana."""
    from seawall.grafana import marks_of  # noqa: PLC0415 - only here

    folder = Path(words[0]) if len(words) == 1 else runs_dir() / "latest"
    if len(words) > 1 or not _is_dir(folder):
        complain(f"seawall report annotations: it takes the folder of one run; {folder} is none")
        return Exit.USAGE
    try:
        _merge(folder)
        journal = load_journal(folder / "journal.jsonl")
        marks = marks_of(journal, judge(journal))
    except (SeawallError, JournalError, OSError) as error:
        complain(f"seawall report annotations: {error}")
        return Exit.INVALID
    Screen().write(msgspec.json.format(msgspec.json.encode(marks)).decode())
    return Exit.PASS


def _annotate(run: Path, reports: Reports, console: Console) -> None:
    try:
        for line in reports.annotations(run):
            Screen().write(line)  # at the beginning of its line, or it is no command
    except (SeawallError, JournalError, OSError) as error:
        complain(f"seawall report: {error}")


def _add_summary(path: Path) -> None:
    """Append the summary to that of the step; without one, there is nowhere to put it."""
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if not step:
        complain("seawall report: GITHUB_STEP_SUMMARY is not set, so the summary goes nowhere")
        return
    try:
        text = path.read_bytes()
        if len(text) > _SUMMARY_BYTES_MAX:
            text = text[:_SUMMARY_BYTES_MAX].rpartition(b"\n")[0] + b"\n\nThe rest is in the report.\n"
        with Path(step).open("ab") as file:
            file.write(text + b"\n")
    except OSError as error:
        complain(f"seawall report: the summary cannot be added: {error}")


def _open(page: Path) -> None:
    if not webbrowser.open(page.as_uri()):
        complain(f"seawall report: no browser could be started; open {page}")


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a link to itself
        return False


def _merge(folder: Path) -> None:
    """Make the journal of a killed run; one that was there already is made anew, and what that changes is told."""
    if not any(folder.glob("events-*.jsonl")):
        return
    journal = folder / JOURNAL_NAME
    before = body_sha256(journal)
    merge(folder, first=seal_in(journal))
    if before not in (None, body_sha256(journal)):
        complain(f"seawall report: {journal} was not what the run's events-*.jsonl give; it was made anew from them")


def _runs_of(folder: Path) -> tuple[list[Path], bool]:
    """Return the folders of the runs that a folder stands for, and whether it is a suite's."""
    if not (folder / RUNS_FILE).is_file():
        return [folder], False
    names = msgspec.json.decode((folder / RUNS_FILE).read_bytes(), type=list[str])
    try:
        runs = [(folder / name).resolve() for name in names]
    except ValueError as error:  # a NUL byte
        raise OSError(f"{folder / RUNS_FILE}: a run's folder cannot be named so: {error}") from None
    # Reports are written there: a file that somebody sent is no reason to write elsewhere.
    away = next((run for run in runs if not run.is_relative_to(folder.parent)), None)
    if away is not None:
        raise OSError(f"{folder / RUNS_FILE}: {away} is not beside the suite; move the run there")
    return runs, True

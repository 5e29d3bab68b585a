"""From two folders, each of a run or of a suite, to `compare.html` and `compare.md`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from reports.budget import read_budget
from reports.compare import Comparison, Pair, Side, comparison_of
from reports.page import compare_page
from reports.render import side_in, write_atomically
from reports.summary import markdown
from reports.svg import counted

__all__ = ["compare_folders", "summary_of_changes"]

_ROWS_MAX = 40


def compare_folders(
    before: tuple[Path, Sequence[Path]], after: tuple[Path, Sequence[Path]], budget: Iterable[str], out: Path
) -> Comparison:
    """
    Judge the runs of both, write `compare.html` and `compare.md` into `out`, and return what changed.

    Each side is the folder that was named and the folders of its runs. Raises BudgetError for a budget that cannot be
    read, JournalError for a journal that cannot, and OSError when `out` cannot be written.
    """
    sides = tuple([side_in(run, _link(run, out)) for run in runs] for _, runs in (before, after))
    known = {name for side in (*sides[0], *sides[1]) for name in side.verdict.figures}
    allowances = read_budget(budget, {*known, *(name.partition(":")[0] for name in known)})
    names = (_name(before[0], sides[0]), _name(after[0], sides[1]))
    comparison = comparison_of(names, sides[0], sides[1], allowances)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "compare.html", compare_page(comparison))
    write_atomically(out / "compare.md", summary_of_changes(comparison).encode())
    return comparison


def summary_of_changes(comparison: Comparison) -> str:
    """Return the comparison as Markdown for a pull request, ended by a line feed."""
    bad = comparison.regressions
    told = f"🛑 {counted(bad, 'regression')}" if bad else "✅ no regression"
    lines = [f"## {told}: {markdown(comparison.after)} since {markdown(comparison.before)}", ""]
    for pair in comparison.pairs:
        lines += _lines(pair)
    return "\n".join(lines) + "\n"


def _lines(pair: Pair) -> list[str]:
    words = [str(side.verdict.verdict) if side else "not run" for side in (pair.before, pair.after)]
    lines = [f"### {markdown(pair.scenario)} ({markdown(pair.arena)}): {words[0]} → {words[1]}", ""]
    lines += [f"- {markdown(text)}" for text in pair.regressions[:_ROWS_MAX]]
    if len(pair.regressions) > _ROWS_MAX:
        lines.append(f"- … and {len(pair.regressions) - _ROWS_MAX} more in the report")
    told = [change for change in pair.changes if change.broken or change.allowed or change.direction == "worse"]
    if told:
        lines += ["", "| figure | before | after | change | allowed |", "| --- | --- | --- | --- | --- |"]
        for each in told[:_ROWS_MAX]:
            change = f"{each.change} (too much)" if each.broken else each.change
            cells = (each.figure, each.before, each.after, change, each.allowed or "–")
            lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
    return [*lines, ""]


def _link(run: Path, out: Path) -> str:
    return quote(Path(os.path.relpath(run / "index.html", out)).as_posix())


def _name(folder: Path, sides: Sequence[Side]) -> str:
    return sides[0].run if len(sides) == 1 else folder.name

"""Several runs in one overview: `index.html`, `junit.xml` and `summary.md`, each run judged from its journal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from junitparser import JUnitXml

from reports.junit import junit_of, to_bytes
from reports.model import RunView
from reports.page import suite_page
from reports.render import view_in, write_atomically
from reports.suiterows import SuiteRow
from reports.summary import ICONS, markdown
from reports.svg import counted
from seawall.journal.read import JournalError
from seawall.verdicts.model import RunVerdict, Verdict, worst

__all__ = ["render_suite"]

_ARENAS = ("simulation", "wire", "cluster")


def render_suite(folder: Path, runs: Sequence[Path]) -> Verdict:
    """
    Write the overview of `runs` (their folders) into `folder` and return the worst verdict of them.

    A run whose journal cannot be read is `invalid` in it. Each run's own report is linked, not written: `render` does
    that. Raises OSError when the folder cannot be written.
    """
    rows: list[SuiteRow] = []
    junit = JUnitXml("seawall")
    for run in runs:
        link = quote(Path(os.path.relpath(run / "index.html", folder)).as_posix())
        try:
            view = view_in(run)
        except JournalError as error:
            row = _unreadable(run, link, f"line {error.line}: {error.reason}" if error.line else error.reason)
            verdict = RunVerdict(verdict=row.verdict, why=row.why, checks=(), undone=None, figures={})
        else:
            row, verdict = _row(view, link), view.verdict
        rows.append(row)
        properties = [("seed", str(row.seed)), ("arena", row.arena), ("verdict", str(row.verdict))]
        for suite in junit_of(f"{row.scenario} ({row.arena})", verdict, properties):
            junit.add_testsuite(suite)
    junit.update_statistics()
    rows.sort(key=lambda row: (row.scenario, _rank(row.arena), row.seed, row.link))
    arenas = sorted({row.arena for row in rows}, key=lambda arena: (_rank(arena), arena))
    verdict = worst([row.verdict for row in rows])
    title = f"{counted(len({row.scenario for row in rows}), 'scenario')} in {counted(len(arenas), 'arena')}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "index.html", suite_page(title, verdict, rows, arenas))
    write_atomically(folder / "junit.xml", to_bytes(junit))
    write_atomically(folder / "summary.md", _summary(verdict, rows, arenas).encode())
    return verdict


def _rank(arena: str) -> int:
    return _ARENAS.index(arena) if arena in _ARENAS else len(_ARENAS)


def _row(view: RunView, link: str) -> SuiteRow:
    return SuiteRow(
        scenario=view.scenario_name,
        title=view.title,
        arena=view.arena,
        seed=view.seed,
        verdict=view.verdict.verdict,
        why=view.verdict.why,
        duration=view.duration,
        requests=view.requests_total,
        checks=len(view.checks),
        held=sum(1 for check in view.checks if check.verdict is Verdict.PASS),
        link=link,
    )


def _unreadable(run: Path, link: str, reason: str) -> SuiteRow:
    return SuiteRow(
        scenario=run.name,
        title="The journal cannot be read",
        arena="unknown",
        seed=0,
        verdict=Verdict.INVALID,
        why=f"The journal cannot be read: {reason}.",
        duration="n/a",
        requests=0,
        checks=0,
        held=0,
        link=link,
    )


def _summary(verdict: Verdict, rows: Sequence[SuiteRow], arenas: Sequence[str]) -> str:
    lines = [f"## {ICONS[verdict]} {verdict}: {counted(len(rows), 'run')}", ""]
    if not rows:
        return "\n".join([*lines, "No run was given.", ""])
    lines += ["| scenario | " + " | ".join(markdown(arena) for arena in arenas) + " |"]
    lines += ["| --- |" + " --- |" * len(arenas)]
    for scenario in dict.fromkeys(row.scenario for row in rows):
        cells: list[str] = []
        for arena in arenas:
            mine = [row for row in rows if (row.scenario, row.arena) == (scenario, arena)]
            cells.append("<br>".join(f"[{ICONS[r.verdict]} {r.verdict}]({r.link}) {r.duration}" for r in mine) or "–")
        lines.append(f"| {markdown(scenario)} | " + " | ".join(cells) + " |")
    missed = [row for row in rows if row.verdict is not Verdict.PASS]
    lines += [""]
    lines += [
        f"- **{row.verdict}** {markdown(row.scenario)} ({markdown(row.arena)}, seed {row.seed}): {markdown(row.why)}"
        for row in missed
    ]
    return "\n".join([*lines, ""])

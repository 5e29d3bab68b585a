"""
From a run's folder to its reports: `index.html`, `junit.xml`, `summary.md` and `verdict.json`, all from the journal.

The same journal gives the same bytes: nothing here asks for the time, and a file is replaced in one step or not at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from reports.compare import Side, compare
from reports.junit import junit_of, to_bytes
from reports.model import RunView, view_of
from reports.page import run_page
from reports.summary import summary_of
from seawall.journal.read import load_journal
from seawall.journal.view import Journal
from seawall.verdicts.judge import judge
from seawall.verdicts.model import RunVerdict

__all__ = ["JOURNAL", "render", "side_in", "side_of", "view_in", "write_atomically"]

JOURNAL = "journal.jsonl"


def render(run_folder: Path, baseline: Path | None = None) -> RunVerdict:
    """
    Judge the journal in `run_folder`, write the reports beside it, and return the verdict.

    With a `baseline`, the folder of another run, the page says what changed since that.
    Raises JournalError when there is no journal or no event in it, and OSError when the folder cannot be written.
    """
    view = view_in(run_folder, baseline)
    properties = [
        ("run", view.run),
        ("seed", str(view.seed)),
        ("arena", view.arena),
        ("verdict", str(view.verdict.verdict)),
    ]
    write_atomically(run_folder / "index.html", run_page(view))
    write_atomically(run_folder / "junit.xml", to_bytes(junit_of(view.scenario_name, view.verdict, properties)))
    write_atomically(run_folder / "summary.md", summary_of(view).encode())
    verdict = msgspec.json.format(msgspec.json.encode(view.verdict), indent=2)
    write_atomically(run_folder / "verdict.json", verdict + b"\n")
    return view.verdict


def view_in(run_folder: Path, baseline: Path | None = None) -> RunView:
    """Return the view of the run in `run_folder`. Raises JournalError like `render`."""
    before = None if baseline is None else side_in(baseline)
    journal = load_journal(run_folder / JOURNAL)
    verdict = judge(journal)
    return view_of(journal, verdict, None if before is None else compare(before, side_of(journal, verdict)))


def side_in(run_folder: Path, link: str = "") -> Side:
    """Return the run in `run_folder` as one side of a comparison. Raises JournalError like `render`."""
    journal = load_journal(run_folder / JOURNAL)
    return side_of(journal, judge(journal), link)


def side_of(journal: Journal, verdict: RunVerdict, link: str = "") -> Side:
    """Return a run as one side of a comparison; `link` is where its own report is."""
    header = journal.header
    return Side(
        run=header.run if header else "unknown",
        scenario=header.scenario_name if header else "unknown",
        arena=header.arena if header else "unknown",
        seed=header.seed if header else 0,
        verdict=verdict,
        link=link,
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` in one step; a reader sees the old file or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

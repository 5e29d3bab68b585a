"""
From a run's folder to its reports: `index.html`, `junit.xml`, `summary.md` and `verdict.json`, all from the journal.

The same journal gives the same bytes: nothing here asks for the time, and a file is replaced in one step or not at all.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from reports.junit import junit_of, to_bytes
from reports.model import RunView, view_of
from reports.page import run_page
from reports.summary import summary_of
from seawall.journal.read import load_journal
from seawall.verdicts.judge import judge
from seawall.verdicts.model import RunVerdict

__all__ = ["JOURNAL", "render", "view_in", "write_atomically"]

JOURNAL = "journal.jsonl"


def render(run_folder: Path) -> RunVerdict:
    """
    Judge the journal in `run_folder`, write the reports beside it, and return the verdict.

    Raises JournalError when there is no journal or no event in it, and OSError when the folder cannot be written.
    """
    view = view_in(run_folder)
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


def view_in(run_folder: Path) -> RunView:
    """Return the view of the run in `run_folder`. Raises JournalError like `render`."""
    journal = load_journal(run_folder / JOURNAL)
    return view_of(journal, judge(journal))


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

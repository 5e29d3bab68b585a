"""What a run came to, and the exit code that says so."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import msgspec

from seawall.journal.events import End
from seawall.verdicts.model import RunVerdict, Verdict

__all__ = ["Exit", "Outcome", "Render", "exit_code_of"]


class Exit(IntEnum):
    """Exit codes of the command; the worst of several runs counts."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INVALID = 3
    STOPPED = 4
    NOT_UNDONE = 5
    INTERRUPTED = 130


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to. `verdict` is None when it ended before there was anything to judge."""

    folder: Path
    verdict: RunVerdict | None
    exit_code: Exit
    detail: str | None = None


Render = Callable[[Path], RunVerdict]
"""Judges the journal in a run's folder and writes the reports beside it."""


def exit_code_of(end: End, verdict: RunVerdict) -> Exit:
    """Return the exit code of a run that was judged."""
    if end.undone is False:
        return Exit.NOT_UNDONE
    if end.reason == "interrupted":
        return Exit.INTERRUPTED
    if end.reason == "stopped":
        return Exit.STOPPED
    if verdict.verdict is Verdict.FAIL:
        return Exit.FAIL
    return Exit.INVALID if end.reason == "error" or verdict.verdict is Verdict.INVALID else Exit.PASS

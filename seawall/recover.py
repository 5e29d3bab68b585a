"""
Take back what killed runs left behind.

Every run keeps an undo file; one that was killed leaves it. `recover` replays all files of a folder. It runs at the
start of each run and as `seawall recover`, and may be repeated at will.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from faults.base import FaultError
from faults.undo import PATTERN, TEMPORARY_PATTERN, ReplayResult, replay

__all__ = ["DEADLINE_S", "EXIT_NOT_VERIFIED", "RecoverResult", "recover"]

DEADLINE_S = 15.0
"""How long the undo of one killed run may take, in seconds."""
EXIT_NOT_VERIFIED = 5
_UNBEGUN_AGE_S = 60.0


class RecoverResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery came to. `exit_code` is 0, or 5 when something could not be undone or verified."""

    exit_code: int
    lines: tuple[str, ...]


def recover(undo_folder: Path, *, emit: Callable[[str], None], deadline_s: float = DEADLINE_S) -> RecoverResult:
    """
    Replay every undo file in `undo_folder` and tell `emit` one sentence at a time what was found.

    Files of living runs are left alone and are no failure. A folder that does not exist holds nothing. Idempotent.
    """
    lines: list[str] = []
    exit_code = 0

    def say(line: str) -> None:
        lines.append(line)
        emit(line)

    for path in sorted(undo_folder.glob(TEMPORARY_PATTERN)):
        _remove_unbegun(path)
    paths = sorted(undo_folder.glob(PATTERN))
    for path in paths:
        try:
            result = replay(path, deadline_s)
        except FaultError as error:
            say(f"{error}. Nothing of it was undone.")
            exit_code = EXIT_NOT_VERIFIED
            continue
        for line in _sentences(result):
            say(line)
        if result.status in {"dirty", "elsewhere"}:
            exit_code = EXIT_NOT_VERIFIED
    if not paths:
        say("Nothing to undo.")
    return RecoverResult(exit_code=exit_code, lines=tuple(lines))


def _sentences(result: ReplayResult) -> list[str]:
    owner = result.owner
    run = f"run {owner.run}" if owner else f"the run of {result.path.name}"
    counted = "1 fault" if result.undone == 1 else f"{result.undone} faults"
    if result.status == "clean":
        return [f"{counted} of {run} undone and read back twice: all clean."]
    if result.status == "running":
        pid = f" (pid {owner.pid})" if owner else ""
        return [f"{run[0].upper()}{run[1:]}{pid} is still running, or is being recovered; left alone."]
    if result.status == "elsewhere":
        host = owner.host if owner else "another host"
        remedy = f"Run `seawall recover` there; if that host is no more, delete {result.path}."
        return [f"{run[0].upper()}{run[1:]} was on host {host}, whose faults cannot be undone from here. {remedy}"]
    return [
        f"Not everything of {run} could be undone; {result.path} stays, so that `seawall recover` can try again:",
        *(f"  {problem}" for problem in result.problems),
    ]


def _remove_unbegun(path: Path) -> None:
    # One that was killed here had injected nothing; one that is just starting is left alone.
    try:
        if time.time() - path.stat().st_mtime < _UNBEGUN_AGE_S:
            return
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        return
    finally:
        os.close(fd)

"""
Which process a number means: a process id with its start time, for numbers are given out again.

Linux tells both in /proc, everything else through `ps`. A zombie counts as gone: it does nothing any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sighting", "kill_exactly", "sighting"]

_PS_DEADLINE_S = 3.0
# Of the fields behind the command's name in /proc/PID/stat.
_STATE, _STARTED = 0, 19


class Sighting(NamedTuple):
    """A process that was seen. `started` is comparable only with another sighting on this machine."""

    pid: int
    started: str
    state: str
    """One letter, as `ps` has it: R, S, D, T (stopped), …"""

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal and does nothing until it is continued."""
        return self.state in {"T", "t"}


def sighting(pid: int) -> Sighting | None:
    """Look at a process; None when there is none of that number, or only a zombie."""
    found = _by_proc(pid) if sys.platform.startswith("linux") else _by_ps(pid)
    return None if found is None or found.state in {"Z", "X"} else found


def kill_exactly(pid: int, started: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send SIGKILL, or another signal, to `pid` if it is the process that started then; nobody else is ever hit."""
    if not hasattr(os, "pidfd_open"):
        found = sighting(pid)
        if found is not None and found.started == started:
            os.kill(pid, number)
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The handle is of whoever has the number now; only then is it compared, so that no successor can slip in.
        found = sighting(pid)
        if found is not None and found.started == started:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _by_proc(pid: int) -> Sighting | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command's name may hold spaces and brackets
    return Sighting(pid, fields[_STARTED], fields[_STATE])


def _by_ps(pid: int) -> Sighting | None:
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PS_DEADLINE_S, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    state, _, started = said.strip().partition(" ")
    return Sighting(pid, started.strip(), state[:1]) if state else None

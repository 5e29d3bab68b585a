"""
What the system under test took of this machine: processor time and memory of all its processes, as Linux tells them.

A process of the arena leads a session of its own, so whoever is in that session is it or its child.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["USAGE_FILE", "Usage", "left_behind", "usage_of"]

USAGE_FILE = "gateway-usage.json"
"""In a run's folder, where it could be told."""
_PROC = Path("/proc")
_SESSION_FIELD, _USER_FIELD, _SYSTEM_FIELD = 3, 11, 12  # of /proc/PID/stat, counted after the name


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """`cpu_s` is of the time of the load; `peak_bytes` is the sum of each process's own peak."""

    cpu_s: float
    peak_bytes: int
    start_s: float
    """From the start of its process until it was ready."""


def usage_of(pid: int) -> tuple[float, int] | None:
    """Return the processor time so far and the peak memory of the session that `pid` leads; None where untold."""
    ticks, peak = 0, 0
    found = False
    for folder in _processes():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[_SESSION_FIELD]) != pid:
                continue
            ticks += int(fields[_USER_FIELD]) + int(fields[_SYSTEM_FIELD])
            peak += _peak(folder)
            found = True
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
    return (ticks / os.sysconf("SC_CLK_TCK"), peak) if found else None


def left_behind(variable: str, value: str) -> list[int]:
    """Return the processes, but us, that still carry an environment variable that only one run's processes got."""
    wanted = f"{variable}={value}".encode()
    found: list[int] = []
    for folder in _processes():
        try:
            is_of_it = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if is_of_it and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def _processes() -> Iterator[Path]:
    if _PROC.is_dir():
        yield from (folder for folder in _PROC.iterdir() if folder.name.isdecimal())


def _peak(folder: Path) -> int:
    for line in (folder / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0

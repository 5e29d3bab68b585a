"""
What the machine did meanwhile: processor time and memory of processes, and who else used the cores.

Read from `/proc`, so on Linux only. Other processes' share is what decides whether a figure may be judged at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

__all__ = ["Sample", "cpu_s", "family", "foreign_share", "on_cores", "resident_mb"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Sample(msgspec.Struct, frozen=True):
    """The state of the clocks at one moment. Seconds."""

    at_s: float
    busy_s: float
    """Of all cores together, without what was idle; time stolen by the hypervisor counts as busy."""
    ours_s: float
    """Of the processes that are part of the benchmark."""

    @classmethod
    def take(cls, ours: Iterable[int]) -> Sample:
        """Return the clocks now; `ours` are the ids of the benchmark's processes."""
        fields = [int(field) for field in _PROC.joinpath("stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return cls(time.perf_counter(), (sum(fields) - idle) * _TICK_S, sum(cpu_s(pid) for pid in ours))


def foreign_share(before: Sample, after: Sample) -> float:
    """Return how much of one core others used between two samples: 0 is a quiet machine, 1 a whole core lost."""
    wall_s = max(1e-9, after.at_s - before.at_s)
    return max(0.0, (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)) / wall_s


def cpu_s(pid: int) -> float:
    """Return the processor seconds, user and system, of all threads of a process; 0 when it is gone."""
    try:
        fields = _PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def resident_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of processes, in MB of a million bytes."""
    pages = sum(int(_PROC.joinpath(str(pid), "statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def family(pid: int) -> list[int]:
    """Return a process and its descendants, itself first."""
    parents: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:  # grows while it is walked
        found += parents.get(member, [])
    return found


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Bind this thread to `cores`, so that a process started inside inherits them; afterwards as before."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores) & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

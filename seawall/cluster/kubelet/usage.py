"""
What a pod's processes use: CPU over a sliding window, memory now.

The window's end is the moment of its last sample, never of the question, so that what the HPA's controller reckons with
(timestamp, window) is what was measured.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

__all__ = ["ProcessUse", "Usage", "UsageWindow", "tree_use"]

# Of the fields behind the command's name in /proc/PID/stat: utime, stime, cutime, cstime, and the resident pages.
_TIMES = slice(11, 15)
_RESIDENT = 21
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessUse(NamedTuple):
    """What a process and its descendants have used: seconds of CPU since their start, bytes of memory now."""

    cpu_s: float
    memory_bytes: int


class Usage(NamedTuple):
    """What a pod uses: thousandths of a core over the `window_s` seconds before `end_wall_s`, and bytes."""

    cpu_milli: float
    memory_bytes: int
    end_wall_s: float
    window_s: float


class UsageWindow:
    """The samples of one process over the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float, ProcessUse]] = deque()

    def add(self, mono_s: float, wall_s: float, use: ProcessUse) -> None:
        """Take a sample. CPU time never goes back: a descendant that another process took over keeps what it had."""
        if self._samples:
            use = use._replace(cpu_s=max(use.cpu_s, self._samples[-1][2].cpu_s))
        self._samples.append((mono_s, wall_s, use))
        # One sample at or before the window's beginning stays: the window is covered in full.
        while len(self._samples) > 2 and self._samples[1][0] <= mono_s - self._window_s:
            self._samples.popleft()

    def usage(self) -> Usage | None:
        """Return the use over the window; None until the samples cover it."""
        if len(self._samples) < 2:
            return None
        (start, _, first), (end, wall, last) = self._samples[0], self._samples[-1]
        if end - start < self._window_s:
            return None
        milli = 1000.0 * (last.cpu_s - first.cpu_s) / (end - start)
        return Usage(milli, last.memory_bytes, wall, end - start)


def tree_use(pid: int) -> ProcessUse | None:
    """Return the use of a process and its descendants, those that ended included; None when it is gone."""
    own = _own_use(pid)
    if own is None:
        return None
    cpu_s, memory = own
    for child in _children(pid):
        use = tree_use(child)
        if use is not None:
            cpu_s += use.cpu_s
            memory += use.memory_bytes
    return ProcessUse(cpu_s, memory)


def _own_use(pid: int) -> ProcessUse | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return ProcessUse(sum(map(int, fields[_TIMES])) * _TICK_S, int(fields[_RESIDENT]) * _PAGE)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.scandir(f"/proc/{pid}/task"):
            with open(f"{task.path}/children", encoding="ascii") as file:  # noqa: PTH123 - a path each is slow here
                found += map(int, file.read().split())
    except OSError:  # a thread, or all of it, has just ended
        pass
    return found

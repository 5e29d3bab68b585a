"""
What is written down of a running cluster: its owner and its processes, each by pid and start time.

The owner holds a lock beside the state folder for as long as it lives, so that a record whose lock is free is one of a
cluster whose owner was killed. Its processes end by themselves then; `sweep` makes sure of it before it removes the
folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faults.pids import Sighting, kill_exactly, sighting
from seawall.cluster.errors import ClusterError

__all__ = ["PartRecord", "Record", "is_locked", "lock_of", "sweep"]

_FILE = "processes.json"
_VERSION = 1
_POLL_S = 0.05
_TERM_S = 3.0
_KILL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """One process of the cluster. `started` is comparable with a sighting on this machine only."""

    name: str
    pid: int
    started: str
    ports: dict[str, int]

    @property
    def runs(self) -> bool:
        """Whether this very process still runs."""
        found = sighting(self.pid)
        return found is not None and found.started == self.started


@dataclass(kw_only=True)
class Record:
    """The record of a cluster: each change is written at once, in one step. `seconds` is set when all is ready."""

    state: Path
    owner: PartRecord
    parts: tuple[PartRecord, ...] = ()
    seconds: float | None = None

    @classmethod
    def begin(cls, state: Path) -> Self:
        """Write a record that names this process as the owner. Raises OSError."""
        made = cls(state=state, owner=_seen("owner", os.getpid(), {}))
        made.save()
        return made

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """Read the record in the folder; None when there is none, or none that can be read."""
        try:
            said = json.loads((state / _FILE).read_text("utf-8"))
            if said["v"] != _VERSION:
                return None
            return cls(
                state=state,
                owner=PartRecord(**said["owner"]),
                parts=tuple(PartRecord(**part) for part in said["parts"]),
                seconds=said["seconds"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def started(self, name: str, pid: int, ports: dict[str, int]) -> None:
        """Write down a process; a former one of that name is forgotten."""
        self.parts = (*(part for part in self.parts if part.name != name), _seen(name, pid, ports))
        self.save()

    def ready(self, seconds: float) -> None:
        """Write down that all is ready, and after how many seconds."""
        self.seconds = seconds
        self.save()

    def save(self) -> None:
        """Write the record. Raises OSError."""
        content = {
            "v": _VERSION,
            "owner": vars(self.owner),
            "parts": [vars(part) for part in self.parts],
            "seconds": self.seconds,
        }
        temporary = self.state / f".{_FILE}"
        temporary.write_text(json.dumps(content) + "\n", "utf-8")
        temporary.replace(self.state / _FILE)


def lock_of(state: Path) -> int:
    """Take the lock of the state folder and return its descriptor, or -1 when another process has it."""
    descriptor = _open_lock(state)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def is_locked(state: Path) -> bool:
    """Tell whether a cluster in this folder has a living owner."""
    descriptor = lock_of(state)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor < 0


def sweep(state: Path) -> list[str]:
    """
    End what is left of a cluster whose owner is gone, remove its folder, and return the names of what still ran.

    Only under its lock. A process is ended only when it is the recorded one by its start time too. Raises ClusterError
    when one does not end, or when the folder is there and is not ours.
    """
    if not state.exists():
        return []
    record = Record.load(state)
    if record is None and any(state.iterdir()) and not (state / "logs").is_dir():
        raise ClusterError(f"{state} holds something that is no cluster's; choose another folder with --state")
    running = [part for part in record.parts if part.runs] if record else []
    for number, seconds in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
        limit = time.monotonic() + seconds
        for part in running:
            kill_exactly(part.pid, part.started, number)
        while any(part.runs for part in running) and time.monotonic() < limit:
            time.sleep(_POLL_S)
    left = [f"{part.name} (pid {part.pid})" for part in running if part.runs]
    if left:
        raise ClusterError(f"{', '.join(left)} cannot be ended; end it by hand and repeat")
    shutil.rmtree(state, ignore_errors=True)
    return [part.name for part in running]


def _open_lock(state: Path) -> int:
    state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Beside the folder: that is removed while the lock is held.
    return os.open(state.with_name(f"{state.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _seen(name: str, pid: int, ports: dict[str, int]) -> PartRecord:
    found: Sighting | None = sighting(pid)
    return PartRecord(name=name, pid=pid, started=found.started if found else "", ports=ports)

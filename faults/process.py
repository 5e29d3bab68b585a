"""
The fault `process`: a process of the run itself is killed, stopped or restarted.

Only the harness that started a process can start it again, so it attaches each under a key, and the fault acts through
that. To anybody else who finds the record (a recovery after the harness was killed) there is nothing to start: the
children die with their harness, and undone means that this very process, by its id and its start time, is gone.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol

import msgspec

from faults.base import FaultError, Undo
from faults.pids import Sighting, kill_exactly, sighting
from faults.registry import register

__all__ = ["Action", "Handle", "ProcessFault", "attach", "detach"]

Action = Literal["kill", "stop", "restart"]

_WORDS: dict[Action, str] = {
    "kill": "SIGKILL, started again when it heals",
    "stop": "SIGSTOP, SIGCONT when it heals",
    "restart": "SIGTERM, started again when it has ended",
}
_POLL_S = 0.05
# A supervisor ends its child 2 s after its harness at the latest; only then is the child ours to end.
_LAST_S = 0.5


class Handle(Protocol):
    """A process of this run, as a fault sees it. Calls block and raise FaultError."""

    def seen(self) -> Sighting | None:
        """Return the process as it is now; None while there is none. Does not block."""
        ...

    def strike(self, action: Action) -> None:
        """Do it harm. Returns when it has ended (`kill`) or was told to (`stop`, `restart`)."""
        ...

    def heal(self) -> None:
        """Have it run again on the same port, continued or started anew; idempotent, bounded by its own deadline."""
        ...


_handles: dict[str, Handle] = {}


def attach(key: str, handle: Handle) -> None:
    """Let faults and their undo records reach a process of this run as `key`, which names the run too."""
    _handles[key] = handle


def detach(key: str) -> None:
    """Forget a process at the end of its run; undo records of it are from then on those of a dead harness."""
    _handles.pop(key, None)


class ProcessFault(msgspec.Struct, frozen=True, kw_only=True):
    """Do `action` to the process that the run attached as `key`; `target` is its name in the scenario."""

    id: str
    target: str
    key: str
    action: Action

    def describe(self) -> str:
        """Return the fault in a few words, such as `process kill (SIGKILL, started again when it heals)`."""
        return f"process {self.action} ({_WORDS[self.action]})"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing. Raises FaultError when the process does not run."""
        found = self._handle().seen()
        if found is None:
            raise FaultError(f"fault {self.id}: {self.target} does not run, so there is nothing to {self.action}")
        arguments = {"key": self.key, "process": self.target, "pid": found.pid, "started": found.started}
        return Undo(kind="process", arguments=arguments)

    def inject(self) -> None:
        """Put it in force. Raises FaultError."""
        self._handle().strike(self.action)

    def _handle(self) -> Handle:
        if self.key not in _handles:
            raise FaultError(f"fault {self.id}: {self.target} is no process that this run started")
        return _handles[self.key]


def _undo(record: Undo, *, deadline_s: float) -> None:
    handle = _handles.get(record.arguments["key"])
    if handle is not None:
        handle.heal()
        return
    end = time.monotonic() + deadline_s
    while not _is_gone(record):
        left_s = end - time.monotonic()
        if left_s <= 0:
            return  # which the verification then tells
        if left_s <= _LAST_S:
            kill_exactly(record.arguments["pid"], record.arguments["started"])
        time.sleep(_POLL_S)


def _verify(record: Undo, *, deadline_s: float) -> bool:
    handle = _handles.get(record.arguments["key"])
    if handle is None:
        return _is_gone(record)
    found = handle.seen()
    return found is not None and not found.is_stopped


def _is_gone(record: Undo) -> bool:
    """Whether that very process is no more; a foreign one may have got its number."""
    found = sighting(int(record.arguments["pid"]))
    return found is None or found.started != record.arguments["started"]


register("process", undo=_undo, verify=_verify)

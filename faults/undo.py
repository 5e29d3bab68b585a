"""
The undo file: what must be taken back, on disk before it is done.

JSON lines. The first says whose file it is: `{"v": 1, "run": …, "host": …, "pid": …, "boot_id": …, "wall": …}`. Each
further line is a record `{"n": 0, "undo": {"kind": …, "arguments": {…}}}`, written and fsynced *before* the fault is
injected, or `{"done": 0}`, once it was undone and verified. The owner holds an flock on the file for its life, so a
recovery never works against a living run, on this host. Records are replayed in reverse.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from faults import registry
from faults.base import FaultError, Undo

__all__ = ["PATTERN", "TEMPORARY_PATTERN", "Owner", "Pending", "ReplayResult", "UndoFile", "pending", "replay"]

VERSION = 1
PATTERN = "undo-*.jsonl"
"""Names of undo files in their folder."""
TEMPORARY_PATTERN = ".undo-*.jsonl.tmp"
"""Names of undo files that are not yet begun: no fault was ever injected under one."""

_RUN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_BETWEEN_READS_S = 0.2


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote an undo file. `wall` is seconds since the epoch."""

    v: int
    run: str
    host: str
    pid: int
    boot_id: str
    wall: float


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """What an undo file says is still to be taken back, oldest first. `problems`: lines that cannot be read."""

    owner: Owner | None
    records: tuple[tuple[int, Undo], ...]
    problems: tuple[str, ...]


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a replay came to.

    `clean`: all undone, read back twice, the file is gone. `running`: its run lives, nothing was touched. `dirty`:
    something could not be undone or verified, the file stays. `elsewhere`: written on another host, untouched.
    """

    status: Literal["clean", "running", "dirty", "elsewhere"]
    path: Path
    owner: Owner | None
    undone: int = 0
    problems: tuple[str, ...] = ()


class UndoFile:
    """The undo file of a living run; threads may share it. Raises FaultError when it cannot write."""

    def __init__(self, path: Path, fd: int, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self._fd = fd
        self._next = 0
        self._open: set[int] = set()
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, run: str) -> UndoFile:
        """
        Create `folder/undo-<run>-<pid>.jsonl`, lock it, and make it durable.

        It gets its name only once it is locked and has its first line, so that no recovery ever meets it half-made.
        """
        if not _RUN.match(run):
            raise FaultError(f"{run!r} is no name of a run; letters, digits, dot, dash, underscore")
        owner = Owner(
            v=VERSION, run=run, host=socket.gethostname(), pid=os.getpid(), boot_id=_boot_id(), wall=time.time()
        )
        path = folder / f"undo-{run}-{owner.pid}.jsonl"
        temporary = folder / f".{path.name}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise FaultError(f"{path} exists already; run `seawall recover`")
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_line(fd, owner)
            temporary.rename(path)
            _sync_folder(folder)
        except OSError as error:
            raise FaultError(f"the undo file {path} cannot be created: {error}") from error
        return cls(path, fd, owner)

    def append(self, undo: Undo) -> int:
        """Put one record on disk and return its number. Only then may the fault be injected."""
        with self._lock:
            number = self._next
            self._write({"n": number, "undo": undo})
            self._next += 1
            self._open.add(number)
            return number

    def mark_done(self, number: int) -> None:
        """Say that record `number` was undone and verified."""
        with self._lock:
            if number not in self._open:
                raise FaultError(f"undo record {number} of {self.path} is not open")
            self._write({"done": number})
            self._open.discard(number)

    @property
    def still_open(self) -> tuple[int, ...]:
        """The numbers of the records that are not marked done, in order."""
        return tuple(sorted(self._open))

    def close_clean(self) -> None:
        """Remove the file: everything was undone. Raises FaultError, and keeps it, when a record is not done."""
        if self._open:
            raise FaultError(f"{self.path} still has records to undo: {sorted(self._open)}")
        try:
            self.path.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise FaultError(f"the undo file {self.path} cannot be removed: {error}") from error
        self.close()

    def close(self) -> None:
        """Let go of the file and leave it to a recovery. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, line: Any) -> None:
        if self._fd < 0:
            raise FaultError(f"the undo file {self.path} is closed")
        size = os.fstat(self._fd).st_size
        try:
            _write_line(self._fd, line)
        except OSError as error:
            # Half a line in the middle would hide the records after it.
            os.ftruncate(self._fd, size)
            raise FaultError(f"the undo file {self.path} cannot be written: {error}") from error


def pending(path: Path) -> Pending:
    """
    Read what is still to be taken back.

    A last line without its end is dropped: its record was never complete on disk, so its fault was never injected.
    Raises FaultError when the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FaultError(f"the undo file {path} cannot be read: {error}") from error
    lines = data.split(b"\n")[:-1]
    records: dict[int, Undo] = {}
    problems: list[str] = []
    owner: Owner | None = None
    for at, line in enumerate(lines, start=1):
        try:
            if at == 1:
                owner = msgspec.json.decode(line, type=Owner)
                continue
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            problems.append(f"line {at} of {path.name} cannot be read ({error})")
            continue
        if entry.done is not None:
            records.pop(entry.done, None)
        elif entry.n is not None and entry.undo is not None:
            records[entry.n] = entry.undo
        else:
            problems.append(f"line {at} of {path.name} is neither a record nor the end of one")
    return Pending(owner=owner, records=tuple(sorted(records.items())), problems=tuple(problems))


def replay(path: Path, deadline_s: float) -> ReplayResult:
    """
    Take back everything that `path` still holds, newest first, within `deadline_s` seconds.

    Everything is read back twice, 200 ms apart: a call that was under way when the run died may be carried out after
    the first reading. Only when both are clean is the file removed. Idempotent. Raises FaultError when the file
    cannot be read at all.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return ReplayResult(status="clean", path=path, owner=None)
    except OSError as error:
        raise FaultError(f"the undo file {path} cannot be opened: {error}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ReplayResult(status="running", path=path, owner=pending(path).owner)
        if not _is_still(path, fd):
            return ReplayResult(status="clean", path=path, owner=None)
        return _replay_locked(path, deadline_s)
    finally:
        os.close(fd)


def _replay_locked(path: Path, deadline_s: float) -> ReplayResult:
    found = pending(path)
    if found.owner is not None and found.owner.host != socket.gethostname():
        return ReplayResult(status="elsewhere", path=path, owner=found.owner)
    end = time.monotonic() + deadline_s
    records = [record for _, record in reversed(found.records)]
    problems = _undo_until_clean(records, end)
    left = (*found.problems, *problems)
    if left:
        undone = len(records) - len(problems)
        return ReplayResult(status="dirty", path=path, owner=found.owner, undone=undone, problems=left)
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return ReplayResult(status="clean", path=path, owner=found.owner, undone=len(records))


def _undo_until_clean(records: list[Undo], end: float) -> list[str]:
    """Return what could not be undone, one sentence a record; tries again until all is clean or the time is up."""
    clean_reads = 0
    problems: dict[int, str] = {}
    while records and clean_reads < 2:
        if clean_reads == 0:
            problems = _each(records, end, _undo_one)
        else:
            time.sleep(_BETWEEN_READS_S)
        problems = problems or _each(records, end, _verify_one)
        clean_reads = 0 if problems else clean_reads + 1
        if problems and time.monotonic() + _BETWEEN_READS_S >= end:
            break
        if problems:
            time.sleep(_BETWEEN_READS_S)
    return list(problems.values())


def _each(records: list[Undo], end: float, step: Any) -> dict[int, str]:
    problems: dict[int, str] = {}
    for index, record in enumerate(records):
        left = end - time.monotonic()
        if left <= 0:
            problems[index] = f"{_named(record)}: the time was up before its turn"
            continue
        try:
            problem = step(record, min(registry.DEADLINE_S, max(left, 0.1)))
        except FaultError as error:
            problem = f"{_named(record)}: {error}"
        if problem:
            problems[index] = problem
    return problems


def _undo_one(record: Undo, deadline_s: float) -> str | None:
    registry.undo(record, deadline_s=deadline_s)
    return None


def _verify_one(record: Undo, deadline_s: float) -> str | None:
    return None if registry.verify(record, deadline_s=deadline_s) else f"{_named(record)}: it is still there"


def _named(record: Undo) -> str:
    words = [
        str(record.arguments[key]) for key in ("proxy", "toxic", "provider", "fault_id") if key in record.arguments
    ]
    return " ".join([record.kind, *words])


class _Line(msgspec.Struct):
    n: int | None = None
    undo: Undo | None = None
    done: int | None = None


def _write_line(fd: int, line: Any) -> None:
    data = msgspec.json.encode(line) + b"\n"
    while data:
        data = data[os.write(fd, data) :]
    os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_still(path: Path, fd: int) -> bool:
    """Whether `path` still names the file that was opened: another recovery may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"

"""
The cache folder of the parts: a folder that is there is whole.

A part is made in a temporary folder beside its place, made durable, and renamed into place in one step, so that one
whose making was killed is never taken for good. One lock a part: it is held by the process, not by a file's presence.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from seawall.toolchain.commands import HEARTBEAT_S
from seawall.toolchain.progress import Progress

if sys.platform != "win32":
    import fcntl

__all__ = ["Store"]

_POLL_S = 0.1
_FSYNC_FILES_MAX = 16


class Store:
    """The folder `root`. Every method may raise OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return where the folder `key` is, or would be."""
        return self.root / key

    @contextlib.contextmanager
    def lock(self, name: str, title: str, progress: Progress) -> Generator[None]:
        """Hold the lock of a part; say so when another process has it. The lock ends with its process."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{name}.lock").open("ab") as file:
            if not _acquire(file.fileno()):
                progress(f"another process is making {title}; waiting for it")
                started = said = time.monotonic()
                while not _acquire(file.fileno()):
                    time.sleep(_POLL_S)
                    if time.monotonic() - said >= HEARTBEAT_S:
                        said = time.monotonic()
                        progress(f"still waiting for the process that makes {title} ({said - started:.0f} s)")
            yield

    @contextlib.contextmanager
    def workshop(self, name: str) -> Generator[Path]:
        """
        Give a temporary folder for making `name`, removed at the end. Only under the lock of `name`.

        Left-overs of makers that were killed are swept first: under the lock they have no owner.
        """
        for left_over in self.root.glob(f".making-{name}-*"):
            _remove(left_over)
        folder = Path(tempfile.mkdtemp(prefix=f".making-{name}-", dir=self.root))
        try:
            yield folder
        finally:
            _remove(folder)

    def publish(self, made: Path, key: str) -> Path:
        """Make the folder `made` durable, put it in place as `key` in one step, and return its path."""
        _sync(made)
        place = self.path(key)
        if place.exists():
            # What lies there did not run, or we would not have made it again.
            place.rename(made.parent / "replaced")
        made.rename(place)
        _sync_one(self.root)
        return place


def _acquire(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(folder: Path) -> None:
    inside = list(folder.rglob("*"))
    if len(inside) > _FSYNC_FILES_MAX:
        # Thousands of small files: one call for the whole machine is quicker than one a file.
        os.sync()
        return
    for path in (*inside, folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a tree as far as possible: Go makes the folders of its modules read-only."""
    for inside, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(inside).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)

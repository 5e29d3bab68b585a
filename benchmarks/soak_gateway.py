"""
A gateway worker as it is, that also keeps the number of its tasks in a file: `python -m benchmarks.soak_gateway`.

With SOAK_LEAK in the environment it leaks on purpose, ten times a second: the soak must turn red.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak_samples import tasks_file
from seawall.gateway import guard
from seawall.gateway.serve import main

__all__ = ["LEAKS", "LEAK_VARIABLE", "TASKS_VARIABLE"]

TASKS_VARIABLE = "SOAK_TASKS"
"""The folder of the file."""
LEAK_VARIABLE = "SOAK_LEAK"
_EVERY_S = 0.5
_LEAK_EVERY_S = 0.1
_LEAKED_BYTES = 100_000
_kept: list[object] = []

LEAKS: dict[str, Callable[[asyncio.AbstractEventLoop], object]] = {
    "descriptors": lambda _: os.dup(0),
    "memory": lambda _: os.urandom(_LEAKED_BYTES),
    "tasks": lambda loop: loop.create_task(asyncio.Event().wait()),
}
"""What a planted leak keeps each time, by its name."""


def _watched(factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of loops that count their tasks."""
    path = tasks_file(Path(os.environ[TASKS_VARIABLE]), os.getpid())
    leak = LEAKS.get(os.environ.get(LEAK_VARIABLE, ""))

    def made() -> asyncio.AbstractEventLoop:
        loop = factory()

        def count() -> None:
            path.write_text(str(len(asyncio.all_tasks(loop))), "ascii")
            loop.call_later(_EVERY_S, count)

        def lose(keep: Callable[[asyncio.AbstractEventLoop], object]) -> None:
            _kept.append(keep(loop))
            loop.call_later(_LEAK_EVERY_S, lose, keep)

        loop.call_soon(count)
        if leak is not None:
            loop.call_soon(lose, leak)
        return loop

    return made


class _Config(guard.ServerConfig):
    """The server's configuration, with a loop that is watched."""

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        """Return what makes the loop."""
        return _watched(super().get_loop_factory() or asyncio.new_event_loop)


if __name__ == "__main__":
    guard.ServerConfig = _Config  # type: ignore[misc] - it is taken from there when a worker starts
    sys.exit(main())

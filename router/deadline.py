"""
The end of a request's time: one timer for all of its waits, because a timer for each wait costs more than the wait.

The time counts only while we wait: a caller that takes its time over a chunk is not interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from router.errors import DeadlineExceeded

__all__ = ["Deadline"]


class Deadline:
    """
    Bound what is awaited in its `with` blocks: from `due_s` of `clock` on they raise DeadlineExceeded.

    `stop` it in the end. Like `asyncio.timeout` it cancels the task that waits and takes the cancellation back.
    """

    __slots__ = ("_cancelling", "_clock", "_due_s", "_has_rung", "_loop", "_timer", "_waiter")

    def __init__(self, due_s: float, clock: Callable[[], float]) -> None:
        self._due_s = due_s
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, due_s - clock()), self._ring)
        self._waiter: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._has_rung = False

    def __enter__(self) -> None:
        self._waiter = task = asyncio.current_task(self._loop)
        self._cancelling = 0 if task is None else task.cancelling()
        if self._clock() >= self._due_s:
            self._loop.call_soon(self._ring)  # what is there without waiting is still taken

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._waiter = self._waiter, None
        if not self._has_rung or task is None:
            return
        self._has_rung = False
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise DeadlineExceeded("the request's time was over before the answer was whole") from None

    def pause(self) -> None:
        """Count no longer until `resume`: what is awaited in between is the caller's time."""
        self._waiter = None

    def resume(self) -> None:
        """Count again, in the task that waits now."""
        self.__enter__()

    def stop(self) -> None:
        """Count no longer."""
        self._timer.cancel()

    def _ring(self) -> None:
        if self._waiter is not None and not self._has_rung:
            self._has_rung = True
            self._waiter.cancel()

"""
An asyncio event loop in virtual time: when nothing is ready, the clock moves to the next timer, and nobody waits.

No sockets, no threads, no selector. Callbacks that are ready run in the order in which they became so, timers in the
order of their times, of equal times in the order in which they were set: two runs of the same program are the same.
Every callback takes a microsecond, so that what happens one after the other has different times.

A loop that has nothing to run and no timer to wait for would wait for ever: it raises `Stalled` with every task and
where it stands. Work for an executor (`asyncio.to_thread`) is done at once, in place, and takes no virtual time.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from asyncio import events
from asyncio.base_events import BaseEventLoop
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, ContextVar, copy_context
from types import CodeType, FrameType
from typing import Any, TypeVar, cast

__all__ = ["OWNER", "START_S", "STEP_S", "Stalled", "VirtualLoop", "run_virtual"]

START_S = 1000.0
"""The virtual moment at which every loop begins."""
STEP_S = 1e-6
"""How long one callback takes."""
OWNER: ContextVar[int] = ContextVar("seawall_simulated_process", default=0)
"""Which simulated process a callback belongs to: that process may be stopped and go on later. 0 is nobody's."""

_COMPACT_AT = 1024
_T = TypeVar("_T")


class Stalled(RuntimeError):
    """Nothing is ready to run, and nothing ever will be. The message names every task and where it stands."""


class _Soon(events.Handle):
    """A handle without what asyncio's keeps for its debug mode: there are a hundred of them in a request."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: Sequence[Any], loop: VirtualLoop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        """See asyncio."""
        if not self._cancelled:
            self._cancelled = True
            self._callback = self._args = None  # type: ignore[assignment]


class _Timer(events.TimerHandle):
    """The same for a timer."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: VirtualLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True

    def cancel(self) -> None:
        """See asyncio."""
        if not self._cancelled:
            self._cancelled = True
            self._callback = self._args = None  # type: ignore[assignment]
            if self._scheduled:
                self._loop._timer_handle_cancelled(self)  # pyright: ignore[reportPrivateUsage]


class VirtualLoop(BaseEventLoop):
    """
    The event loop of a simulation. `time` is virtual, in seconds, and begins at `START_S`.

    `stop_process` holds back every callback of one `OWNER`, as SIGSTOP does; `continue_process` lets it go on.
    """

    _ready: deque[events.Handle]  # BaseEventLoop's own
    _stopping: bool  # as well

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START_S
        self._timers: list[tuple[float, int, events.TimerHandle]] = []
        self._set = 0
        self._cancelled = 0
        self._stopped: dict[int, list[events.Handle]] = {}
        self._thread = threading.get_ident()

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def time_ns(self) -> int:
        """Return the virtual time in nanoseconds."""
        return round(self._now_s * 1e9)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """See asyncio."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        """See asyncio."""
        handle = _Timer(when, callback, args, self, context)
        self._set = number = self._set + 1
        # Tuples are compared in C; handles would be in Python.
        heapq.heappush(self._timers, (when, number, handle))
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> events.Handle:
        """See asyncio."""
        handle = _Soon(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """See asyncio; but another thread has no place in virtual time, and is refused with RuntimeError."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a thread called into a simulation; virtual time knows one thread only")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        """Do the work at once, in place: the same in every run."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def stop_process(self, owner: int) -> None:
        """Hold back every callback of `owner` from now on."""
        self._stopped.setdefault(owner, [])

    def continue_process(self, owner: int) -> None:
        """Let the callbacks of `owner` go on, in their order."""
        self._ready.extend(self._stopped.pop(owner, []))

    def let_go(self) -> None:
        """Hold nothing back any more: at the end of a run every task is to be cancelled, of stopped processes too."""
        for owner in [*self._stopped]:
            self.continue_process(owner)

    def _run_once(self) -> None:
        """Run until the loop is told to stop: one call of this is a whole run."""
        ready, timers = self._ready, self._timers
        handle: events.Handle | None = None
        while not self._stopping:
            if not ready:
                while timers and timers[0][2]._cancelled:
                    heapq.heappop(timers)
                    self._cancelled -= 1
                if not timers:
                    self._stall()
                self._now_s = max(self._now_s, timers[0][0])
            while timers and timers[0][0] <= self._now_s:
                handle = heapq.heappop(timers)[2]
                handle._scheduled = False
                if handle._cancelled:
                    self._cancelled -= 1
                else:
                    ready.append(handle)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                if self._stopped and (held := self._stopped.get(_owner_of(handle))) is not None:
                    held.append(handle)
                    continue
                self._now_s += STEP_S
                try:
                    handle._context.run(handle._callback, *handle._args)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio's own loop does
                    message = f"Exception in callback {handle!r}"
                    self.call_exception_handler({"message": message, "exception": error, "handle": handle})
            handle = None  # breaks cycles, as asyncio's own loop does

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """Most timers are time-outs that never fire: take them out before they are many."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_AT and self._cancelled * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is woken."""

    def _stall(self) -> None:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        lines = [f"  {task.get_name()}: {' ← '.join(_where(task)) or 'not begun'}" for task in tasks]
        raise Stalled("nothing is ready and no timer is set; every task waits for ever:\n" + "\n".join(lines))


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` on a loop of its own, as `asyncio.run` does. Raises Stalled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            return runner.run(main)
        finally:
            cast("VirtualLoop", runner.get_loop()).let_go()


def _owner_of(handle: events.Handle) -> int:
    return cast("Context", handle._context).get(OWNER, 0)


def _where(task: asyncio.Task[Any]) -> list[str]:
    """Return the places at which a task waits, the innermost first."""
    places: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame: FrameType | None = None
        waits: Any = None
        for prefix in ("cr", "gi", "ag"):
            if hasattr(inner, f"{prefix}_frame"):
                frame = getattr(inner, f"{prefix}_frame")
                waits = getattr(inner, f"{prefix}_await", None) or getattr(inner, f"{prefix}_yieldfrom", None)
                break
        if frame is not None:
            code: CodeType = frame.f_code
            places.append(f"{code.co_name} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})")
        inner = waits
    return places[::-1]

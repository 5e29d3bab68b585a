"""
One process of the arena that a fault may kill, stop or restart, and that comes back on the port it had.

    running ──strike(stop)──▶ stopped ──heal──▶ running
       └─────strike(kill, restart)──▶ ended ──heal (restart: by itself)──▶ running, as a new process
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from faults.base import FaultError
from faults.pids import Sighting, sighting
from faults.process import Action
from router.errors import SeawallError
from seawall.ports import HeldPort
from seawall.processes import Child

__all__ = ["Answers", "Ended", "Grip", "Part"]

Answers = Callable[[int, int], Awaitable[dict[str, Any] | None]]
"""Asks the process of an id on a port whether it serves; what shows it as plain data, or None."""

_KILL_LIMIT_S = 5.0
_CONNECT_LIMIT_S = 1.0
_GRIP_LIMIT_S = 60.0  # more than the longest start of a process takes


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a process that a fault had asked for. `refused`: nobody accepts connections on its port."""

    pid: int
    exit_code: int | None
    port: int
    refused: bool


async def _nothing() -> None:
    """Do nothing: the part has no state that would be lost."""


class Part:
    """
    A process by its `name`, started by `start` on a port.

    `answers` shows that it serves. `shared`: other processes listen on its port too.
    `before` is awaited before it is killed, and `after` when it serves again: what it had only in memory is theirs.
    `ports` are those that it listens on besides; they are kept for it as its own is.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[int], Awaitable[Child]],
        answers: Answers,
        *,
        shared: bool = False,
        before: Callable[[], Awaitable[None]] = _nothing,
        after: Callable[[], Awaitable[None]] = _nothing,
        ports: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        self.name = name
        self.shared = shared
        self.before = before
        self.after = after
        self.ports = ports
        self.port = 0
        self.ended: Ended | None = None
        """The last end that a fault asked for, until the next strike."""
        self.expects_exit = False
        """Whether a fault has asked for its end."""
        self._start = start
        self._answers = answers
        self._child: Child | None = None
        self._lock = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None
        self._held: list[HeldPort] = []
        self._closed = False

    @property
    def child(self) -> Child:
        """The latest process of this part."""
        assert self._child is not None  # noqa: S101 - started before anybody looks
        return self._child

    async def start(self, port: int = 0) -> Child:
        """Start it for the first time, on `port` or on one of its own choice. Raises SeawallError."""
        child = await self._start(port)
        self._child = child
        self.port = port or int(child.ready["port"])
        return child

    def seen(self) -> Sighting | None:
        """Return the process as the system shows it, None while there is none."""
        return sighting(self.child.pid) if self.child.is_running else None

    async def answers(self) -> dict[str, Any] | None:
        """Return what shows that this very process serves on its port; None when nothing did."""
        return await self._answers(self.child.pid, self.port) if self.child.is_running else None

    async def strike(self, action: Action) -> None:
        """Kill, stop or restart it. Raises FaultError."""
        async with self._lock:
            child = self.child
            if self._closed or not child.is_running:
                raise FaultError(f"{self.name} does not run, so there is nothing to {action}")
            self.ended = None
            if action == "stop":
                child.send_signal(signal.SIGSTOP, group=True)
                return
            await self.before()
            self.expects_exit = True
            if action == "restart":
                child.send_signal(signal.SIGTERM)
                self._restarting = asyncio.create_task(self._come_back(), name=f"restart {self.name}")
                return
            child.kill()
            if not await child.ended_within(_KILL_LIMIT_S):
                raise FaultError(f"{self.name} (pid {child.pid}) was killed and has not ended")
            await self._note_end()

    async def heal(self) -> None:
        """Continue it, or start it again on its port. Idempotent. Raises FaultError."""
        async with self._lock:
            restarting, self._restarting = self._restarting, None
            child = self.child
            if restarting is not None:
                if child.is_running and not restarting.done():
                    # It had all the time of the fault to end in order.
                    child.kill()
                await restarting
            if self.child.is_running:
                self.child.send_signal(signal.SIGCONT, group=True)
            elif not self._closed:
                await self._start_again()

    async def close(self) -> None:
        """End the part's own doings: from now on nothing is started any more."""
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
            self._restarting = None
        self._let_go()

    async def _come_back(self) -> None:
        await self.child.wait()
        await self._note_end()
        if not self._closed:
            await self._start_again()

    async def _note_end(self) -> None:
        child = self.child
        refused = await _refuses(self.port)
        for port in (self.port, *self.ports()):
            with contextlib.suppress(OSError):  # taken by another worker, who keeps it for us
                self._held.append(HeldPort(port))
        self.ended = Ended(pid=child.pid, exit_code=child.code, port=self.port, refused=refused)

    async def _start_again(self) -> None:
        try:
            self._child = await self._start(self.port)
            await self.after()
        except (SeawallError, OSError) as error:
            raise FaultError(f"{self.name} could not be started again on port {self.port}: {error}") from error
        finally:
            self._let_go()
        self.expects_exit = False

    def _let_go(self) -> None:
        while self._held:
            self._held.pop().release()


class Grip:
    """A Part in the hands of the threads in which faults act; its work is done in the event loop that made this."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._loop = asyncio.get_running_loop()

    def seen(self) -> Sighting | None:
        """See faults.process.Handle."""
        return self._part.seen()

    def strike(self, action: Action) -> None:
        """See faults.process.Handle."""
        self._call(self._part.strike(action), action)

    def heal(self) -> None:
        """See faults.process.Handle."""
        self._call(self._part.heal(), "heal")

    def _call(self, work: Coroutine[Any, Any, None], what: str) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(_GRIP_LIMIT_S)
        except TimeoutError as error:
            future.cancel()
            raise FaultError(f"{what} of {self._part.name} took longer than {_GRIP_LIMIT_S:g} s") from error


async def _refuses(port: int) -> bool:
    """Whether a connection to the port is refused at once."""
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return False

"""
Lanes of the pyreqwest transport: a client for each call at a time, so that one call's connection can be ended.

pyreqwest has no way to end a request before its head has come, and does not tell which socket it uses. But a client
sets the options of its sockets, so each lane has a keep-alive interval that no other has, its mark, and the sockets of
a lane are found among the descriptors of this process by asking for it. A lane is used again for its origin, and with
it its connection. A plaintext one costs 8 µs and 16 KB; one with TLS reads the trusted certificates: 4 ms and 110 KB.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path

from pyreqwest.client import Client, ClientBuilder

from router.errors import ConnectFailed

__all__ = ["Lane", "Lanes"]

_LANES_MAX = 1000
_IDLE_MAX = 200
_IDLE_S = 60.0
_KEEPALIVE_S = 60
_PAUSE_S = 0.005
_GONE_S = 1.0
_SLACK_S = 1.0
"""For how long pyreqwest's thread may be kept from its work by others on a busy machine."""
# Seconds between keep-alive probes (Linux allows 32,767): too long to matter, and nobody else's. Used in turn, so that
# a mark comes back only long after its sockets have gone.
_MARKS = range(2_000, 32_000)
_marks = deque(_MARKS)


class Lane:
    """One client; carries one call at a time. `home` is the list of the free lanes of its origin."""

    __slots__ = ("client", "connect_s", "home", "mark")

    def __init__(self, client: Client, mark: int, connect_s: float, home: list[Lane]) -> None:
        self.client = client
        self.mark = mark
        self.connect_s = connect_s
        self.home = home


class Lanes:
    """All lanes of one transport. `make` finishes a builder of a client."""

    def __init__(self, make: Callable[[ClientBuilder], Client]) -> None:
        self._make = make
        self._homes: dict[tuple[str, float], list[Lane]] = {}
        self._busy: set[Lane] = set()
        self._idle = 0
        self._doomed: dict[int, float] = {}
        """Marks whose sockets are ended wherever they turn up, and until when."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._pause_s = _PAUSE_S
        self._looked_s = 0.0
        self._closed = False

    def of(self, origin: tuple[str, float]) -> list[Lane]:
        """Return the list of the free lanes to `origin` with a connect timeout."""
        return self._homes.setdefault(origin, [])

    def take(self, home: list[Lane], connect_s: float, *, is_tls: bool) -> Lane:
        """Return a lane of `home`, a new one if none is free. Raises ConnectFailed when all are busy."""
        if home:
            lane = home.pop()
            self._idle -= 1
        elif self._closed or len(self._busy) >= _LANES_MAX or not _marks:
            raise ConnectFailed("the transport is closed" if self._closed else f"{_LANES_MAX} calls are under way")
        else:
            lane = self._new(home, connect_s, is_tls=is_tls)
        self._busy.add(lane)
        return lane

    def give_back(self, lane: Lane) -> None:
        """Take back a lane that a call is done with."""
        self._busy.discard(lane)
        if self._closed or self._idle >= _IDLE_MAX:
            _marks.append(lane.mark)  # with its client goes its connection
            return
        self._idle += 1
        lane.home.append(lane)

    def doom(self, lane: Lane) -> None:
        """End the connection of a lane, or the one that it is about to make; the lane is not used again."""
        self._busy.discard(lane)
        loop = asyncio.get_running_loop()
        self._doomed[lane.mark] = loop.time() + lane.connect_s + _SLACK_S
        # Those that leave at about the same time share one look at the descriptors: it takes 2 µs for each of them.
        self._pause_s = _PAUSE_S
        self._look_at(max(loop.time(), self._looked_s + _PAUSE_S))

    async def aclose(self) -> None:
        """End every connection and wait until they are gone, for a bounded time."""
        self._closed = True
        marks = {lane.mark for lane in self._busy} | set(self._doomed)
        for home in self._homes.values():
            marks.update(lane.mark for lane in home)
            _marks.extend(lane.mark for lane in home)
            home.clear()
        self._idle = 0
        for _ in range(200):
            if not _shut_down(marks):
                return
            await asyncio.sleep(0.005)

    def _new(self, home: list[Lane], connect_s: float, *, is_tls: bool) -> Lane:
        _watch_exit()
        mark = _marks.popleft()
        builder = ClientBuilder().connect_timeout(timedelta(seconds=connect_s))
        builder.pool_max_idle_per_host(1).pool_idle_timeout(timedelta(seconds=_IDLE_S))
        builder.tcp_keepalive(timedelta(seconds=_KEEPALIVE_S)).tcp_keepalive_interval(timedelta(seconds=mark))
        if not is_tls:
            # No TLS is spoken here: lanes serve one origin, and redirects and proxies are off. It spares the 4 ms.
            builder.danger_accept_invalid_certs(True)
        return Lane(self._make(builder), mark, connect_s, home)

    def _end_doomed(self) -> None:
        """Shut the sockets of doomed lanes, then look again: one may have been about to be made."""
        self._timer = None
        self._looked_s = now_s = asyncio.get_running_loop().time()
        found = _shut_down(self._doomed)
        for mark, until_s in list(self._doomed.items()):
            if mark in found:
                self._doomed[mark] = min(until_s, now_s + _SLACK_S)
            elif now_s > until_s:
                del self._doomed[mark]
                _marks.append(mark)
        if self._doomed:
            self._look_at(now_s + self._pause_s)
            self._pause_s = min(self._pause_s * 2, 0.25)

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            if self._due_s <= when_s:
                return
            self._timer.cancel()
        self._due_s = when_s  # uvloop's handle of a time that has come does not know it
        self._timer = asyncio.get_running_loop().call_at(when_s, self._end_doomed)


def _shut_down(marks: Container[int]) -> set[int]:
    """Shut every socket of this process that bears one of `marks`; return the marks that were found."""
    found: set[int] = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are all that is wanted, quickly
        try:
            # A duplicate stays the socket that it is, whatever the other thread closes and opens meanwhile.
            number = os.dup(int(name))
        except OSError:
            continue  # gone
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number) as one:
                number = -1
                mark = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
                if mark in marks:
                    found.add(mark)
                    one.shutdown(socket.SHUT_RDWR)
        except OSError:  # no socket, or none of TCP, or never connected
            if number >= 0:
                os.close(number)
    return found


@cache
def _watch_exit() -> None:
    atexit.register(_end_all)


def _end_all() -> None:
    """End every connection, then let pyreqwest's threads get out of Python before that is taken down."""
    give_up_s, quiet = time.monotonic() + _GONE_S, 0
    while quiet < 5 and time.monotonic() < give_up_s:
        time.sleep(0.001)  # without the interpreter's lock, so that whoever waits for it gets it
        quiet = quiet + 1 if not _shut_down(_MARKS) and _threads_sleep() else 0


def _threads_sleep() -> bool:
    """Say whether no thread of pyreqwest is running (where the system tells: Linux)."""
    for stat in Path("/proc/self/task").glob("*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text(encoding="utf-8").partition("(")[2].rpartition(") ")
            if name.startswith("pyreqwest") and not rest.startswith("S"):
                return False
    return True

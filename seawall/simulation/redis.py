"""
A simulated Redis: the budget's scripts with Redis' semantics, at the other end of simulated connections.

The workers' side is the real `RedisBudgetStore`, its time-outs and its prober included; only the sockets are not. A
step is taken when the command arrives, so an answer that is lost on its way was a step all the same. A restarted server
knows its data (every step was on disk before it was confirmed) but no script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from router.budget import MemoryBudgetStore, Reservation, Standing
from seawall.simulation.network import Link, Network, Refused
from seawall.stores.redis_store import RedisBudgetStore

__all__ = ["SimRedis", "SimRedisStore", "at_once"]

_REDIS_URL = "redis://redis.simulated:6379/0"
_T = TypeVar("_T")


def at_once(step: Coroutine[Any, Any, _T]) -> _T:
    """Return what a coroutine gives that waits for nobody: a step of Redis is one."""
    try:
        while step.send(None) is None:
            pass  # it only let others go first, and here there are none
    except StopIteration as done:
        return done.value
    raise RuntimeError("a step of the store in memory has waited for something")


class SimRedis:
    """The server. `books` are what it has on disk; leases go by its own clock, `wall`."""

    def __init__(self, network: Network, wall: Callable[[], float]) -> None:
        self.books = MemoryBudgetStore()
        self.network = network
        self._wall = wall
        self.is_stopped = False
        self._scripts: set[str] = set()
        self._waiting: list[Callable[[], None]] = []

    def accept(self, link: Link) -> None:
        """Take a connection."""
        link.server = _Ignore()

    def handle(self, link: Link, command: tuple[Any, ...], answer: Callable[[Any], None]) -> None:
        """Carry a command out that has arrived; `answer` takes the reply on its way back."""

        def work() -> None:
            answer(self._answer(command))

        if self.is_stopped:
            self._waiting.append(work)
        else:
            work()

    def stop(self) -> None:
        """Stand still."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Run again, and deal with what came meanwhile."""
        self.is_stopped = False
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()

    def forget(self) -> None:
        """Lose what was in memory only: the end of the process."""
        self._scripts.clear()
        self._waiting.clear()
        self.is_stopped = False

    def _answer(self, command: tuple[Any, ...]) -> Any:
        match command:
            case ("EVALSHA", str() as sha, int() as count, *rest):
                if sha not in self._scripts:
                    return NoScriptError("No matching script. Please use EVAL.")
                return self._step(rest[:count], rest[count:])
            case ("EVAL", bytes() as source, int() as count, *rest):
                self._scripts.add(_sha1(source))
                return self._step(rest[:count], rest[count:])
            case ("GET", str() as key):
                return str(at_once(self.books.spent(_day_of(key)))).encode()
            case _:
                return b"PONG"

    def _step(self, keys: list[Any], arguments: list[Any]) -> list[Any]:
        """Take one step of the budget: which one shows in how many arguments its script has."""
        day = _day_of(str(keys[0]))
        if len(arguments) == 3:
            standing = at_once(self.books.adjust(day, int(arguments[1]), str(arguments[0])))
        elif len(arguments) == 7:
            name, paid, held = arguments[:3]
            reservation = Reservation(id=str(name), day=day, micro_usd=int(held), expires_at_s=float(arguments[3]))
            standing = at_once(self.books.settle(reservation, int(paid)))
        else:
            name, micro_usd, _, limit = arguments[:4]
            now_s = self._wall()
            until_s = now_s + float(arguments[10])
            reservation = Reservation(id=str(name), day=day, micro_usd=int(micro_usd), expires_at_s=until_s)
            standing = at_once(self.books.reserve(reservation, int(limit), now_s))
        return _told(standing)


class SimRedisStore(RedisBudgetStore):
    """The store of one worker, on simulated connections. `is_dead` tells whether its process has ended."""

    def __init__(
        self, redis: SimRedis, *, timeout_s: float, wall: Callable[[], float], is_dead: Callable[[], bool]
    ) -> None:
        super().__init__(_REDIS_URL, timeout_s=timeout_s, wall=wall)
        self.open: dict[_Connection, None] = {}
        self._pool = _Pool(redis, self, is_dead)

    def sever(self) -> None:
        """Close every connection, as the end of the process does."""
        for connection in [*self.open]:
            connection.close()


class _Pool:
    def __init__(self, redis: SimRedis, store: SimRedisStore, is_dead: Callable[[], bool]) -> None:
        self._redis, self._store, self._is_dead = redis, store, is_dead

    def make_connection(self) -> _Connection:
        return _Connection(self._redis, self._store, self._is_dead)


class _Connection:
    """What `RedisBudgetStore` uses of a connection of the Redis client."""

    def __init__(self, redis: SimRedis, store: SimRedisStore, is_dead: Callable[[], bool]) -> None:
        self._redis, self._store, self._is_dead = redis, store, is_dead
        self._link: Link | None = None
        self._replies: list[tuple[int, Any]] = []
        self._bytes = 0
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        if self._link is not None:
            return
        if self._is_dead():
            raise RedisConnectionError("the process has ended")
        try:
            self._link = self._redis.network.proxies["redis"].connect(self)
        except Refused:
            raise RedisConnectionError("connection refused") from None
        self._store.open[self] = None

    async def send_command(self, *command: Any) -> None:
        link = self._link
        if link is None or self._ended:
            raise RedisConnectionError("the connection was closed")

        def answer(reply: Any) -> None:
            data = repr(reply).encode()
            self._replies.append((len(data), reply))
            link.reply(data)

        link.request(lambda: repr(command).encode(), lambda: self._redis.handle(link, command, answer))

    async def read_response(self) -> Any:
        while not (self._replies and self._bytes >= self._replies[0][0]):
            if self._ended:
                raise RedisConnectionError("the connection was closed by the server")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        size, reply = self._replies.pop(0)
        self._bytes -= size
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, *, nowait: bool = False) -> None:
        self.close()

    def close(self) -> None:
        self._store.open.pop(self, None)
        link, self._link = self._link, None
        self._ended = True
        if link is not None:
            link.close()

    def received(self, data: bytes) -> None:
        self._bytes += len(data)
        self._wake()

    def lost(self, *, reset: bool) -> None:
        self._ended = True
        self._store.open.pop(self, None)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Ignore:
    def lost(self) -> None:
        """See network.Server: what Redis has taken is taken."""


def _told(standing: Standing) -> list[Any]:
    expired = [
        [reservation.id.encode(), reservation.day.encode(), str(reservation.micro_usd), str(reservation.expires_at_s)]
        for reservation in standing.expired
    ]
    return [int(standing.accepted), standing.total_micro_usd, standing.adjusted_micro_usd, expired]


def _sha1(source: bytes) -> str:
    import hashlib  # noqa: PLC0415 - only a server that was started anew asks

    return hashlib.sha1(source).hexdigest()  # noqa: S324 - Redis's name for a script


def _day_of(key: str) -> str:
    """Return the day in a key such as `daily_spend:2026-01-31:open`."""
    return key.split(":")[1]

"""
The budget of many workers in one Redis: one atomic script a step, one round trip before a call.

Works on Redis 6.2 and later without modules. Needs the extra `seawall[redis]`; nothing of the router imports this.

For a hard limit let Redis confirm a step only when it is on disk (`appendonly yes`, `appendfsync always`) and never
drop a key (`maxmemory-policy noeviction`). With `appendfsync everysec` a crash of Redis forgets up to a second of
reservations: what was spent is still booked as each of their calls ends, but others may have been admitted meanwhile.

Keys of a UTC day, gone two days after their first step:

    daily_spend                        what is spent today in US dollars, for people: `12.345678`
    daily_spend:2026-01-31             settled plus reserved, in micro-dollars
    daily_spend:2026-01-31:open        reservations by the end of their lease
    daily_spend:2026-01-31:amounts     micro-dollars of each
    daily_spend:2026-01-31:closed      ids settled, or expired (again with a `!`), by the time when they are forgotten
    daily_spend:2026-01-31:adjusted    adjustments by id

A server that wants all keys of a script in one slot (a cluster, or a proxy before one) gets `{daily_spend}:2026-01-31`
and so on instead: the same slot as `daily_spend`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from router.budget import EXPIRED_PER_STEP_MAX, REMEMBERED_S, Reservation, Standing, day_before, day_of
from router.errors import BudgetStoreDown
from seawall.stores.outage import Outage

__all__ = ["RedisBudgetStore", "Script"]

CONNECTIONS_MAX = 16
"""Connections of one worker; more steps at once wait for one, within their timeout."""
KEPT_S = 2 * 86_400

_NAME = "daily_spend"
_OPEN, _AMOUNTS, _CLOSED, _ADJUSTED = ":open", ":amounts", ":closed", ":adjusted"


class Script(msgspec.Struct, frozen=True):
    """A script beside this file, and the name that Redis gives it."""

    source: bytes
    sha: str

    @staticmethod
    def load(name: str) -> Script:
        """Read a script."""
        source = files("seawall.stores").joinpath(f"{name}.lua").read_bytes()
        return Script(source, hashlib.sha1(source).hexdigest())  # noqa: S324 - Redis's name for a script


class _Asked:
    """Whether the command has gone out, and its answer is outstanding."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = False


class RedisBudgetStore:
    """
    A `BudgetStore` in the Redis at `url` (`redis://`, `rediss://` or `unix://`), for any number of workers.

    Every step takes at most `timeout_s`, whatever Redis does. After a step was lost, the next ones fail at once until
    Redis answers again, which is looked for in the background. `wall` tells which day `daily_spend` is about.
    Leases begin and end by the clock of Redis; without `own_clock` by the `wall_s` of each step, for tests.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 0.25, wall: Callable[[], float] = time.time, own_clock: bool = True
    ) -> None:
        # No time limits of its own: ours bounds a step as a whole, connecting included.
        make: Any = cast("Any", ConnectionPool).from_url
        self._pool = make(url, protocol=2, socket_timeout=None, socket_connect_timeout=None)
        self._timeout_s = timeout_s
        self._wall = wall
        self._own_clock = own_clock
        self._prefix = _NAME
        self._idle: list[Any] = []
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._outage = Outage(self._ping, (RedisError, OSError, TimeoutError))
        self._reserve, self._settle, self._adjust = (Script.load(name) for name in ("reserve", "settle", "adjust"))

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        day, before = reservation.day, day_before(reservation.day)
        lots = (_OPEN, _AMOUNTS, _CLOSED)
        keys = [(day, ""), *((day, lot) for lot in (*lots, _ADJUSTED)), *((before, lot) for lot in lots), None]
        return await self._step(
            self._reserve,
            keys,
            [
                *(reservation.id, reservation.micro_usd, repr(reservation.expires_at_s), limit_micro_usd),
                *("" if self._own_clock else repr(wall_s), repr(REMEMBERED_S), KEPT_S, EXPIRED_PER_STEP_MAX),
                *(day, before, repr(reservation.expires_at_s - wall_s)),
            ],
        )

    async def settle(self, reservation: Reservation, micro_usd: int) -> Standing:
        """See BudgetStore."""
        day = reservation.day
        keys = [(day, ""), *((day, lot) for lot in (_OPEN, _AMOUNTS, _CLOSED, _ADJUSTED)), None]
        forget_s = reservation.expires_at_s + REMEMBERED_S
        today = int(day == day_of(self._wall()))
        amounts = (micro_usd, reservation.micro_usd)
        times = (repr(forget_s), KEPT_S, today, repr(REMEMBERED_S))
        return await self._step(self._settle, keys, [reservation.id, *amounts, *times])

    async def spent(self, day: str) -> int:
        """See BudgetStore."""
        return int(await self._bounded(lambda asked: self._exchange(("GET", self._key((day, ""))), asked)) or 0)

    async def adjust(self, day: str, delta_micro_usd: int, id: str) -> Standing:  # noqa: A002 - see BudgetStore
        """See BudgetStore."""
        return await self._step(self._adjust, [(day, ""), (day, _ADJUSTED)], [id, delta_micro_usd, KEPT_S])

    async def aclose(self) -> None:
        """Close every connection."""
        await self._outage.end()
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._idle:
                    await self._idle.pop().disconnect()
        except (RedisError, OSError, TimeoutError):
            await self._close_idle()

    async def _step(self, script: Script, keys: Sequence[tuple[str, str] | None], arguments: list[Any]) -> Standing:
        async def evaluate(asked: _Asked) -> Any:
            named = [self._key(key) for key in keys]
            rest = (len(named), *named, *arguments)
            try:
                return await self._exchange(("EVALSHA", script.sha, *rest), asked)
            except NoScriptError:  # a server that was started since, or one that we never met
                return await self._exchange(("EVAL", script.source, *rest), asked)
            except ResponseError as error:
                if "slot" not in str(error) or self._prefix != _NAME:
                    raise
                self._prefix = "{" + _NAME + "}"
                return await evaluate(asked)

        accepted, total, adjusted, expired = await self._bounded(evaluate)
        return Standing(
            accepted=bool(accepted),
            total_micro_usd=total,
            adjusted_micro_usd=adjusted,
            expired=tuple(
                Reservation(id=name.decode(), day=day.decode(), micro_usd=int(amount), expires_at_s=float(until))
                for name, day, amount, until in expired
            ),
        )

    def _key(self, part: tuple[str, str] | None) -> str:
        return _NAME if part is None else f"{self._prefix}:{part[0]}{part[1]}"

    async def _bounded(self, ask: Callable[[_Asked], Any]) -> Any:
        if self._outage:
            raise BudgetStoreDown("the budget's Redis does not answer")
        asked = _Asked()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await ask(asked)
        except TimeoutError:
            self._outage.begin()
            message = f"the budget's Redis gave no answer within {self._timeout_s:g} s"
            raise BudgetStoreDown(message, asked=asked.pending) from None
        except (RedisError, OSError) as error:
            if isinstance(error, (RedisConnectionError, OSError)):
                self._outage.begin()
            raise BudgetStoreDown(f"the budget's Redis fails: {error}", asked=asked.pending) from None

    async def _exchange(self, command: tuple[Any, ...], asked: _Asked) -> Any:
        """Send one command and return its answer; on a connection that has been idle, at most once more than once."""
        async with self._slots:
            while True:
                reused = bool(self._idle)
                connection = self._idle.pop() if reused else self._pool.make_connection()
                try:
                    await connection.connect()
                    asked.pending = True
                    await connection.send_command(*command)
                    answer = await connection.read_response()
                except ResponseError:  # an answer too: nothing was done
                    asked.pending = False
                    self._idle.append(connection)
                    raise
                except BaseException as error:
                    await connection.disconnect(nowait=True)
                    if not (reused and isinstance(error, RedisConnectionError)):
                        raise
                    # Redis closed it while it was idle, and its neighbours too. Asking again is safe: by id.
                    await self._close_idle()
                else:
                    asked.pending = False
                    self._idle.append(connection)
                    return answer

    async def _ping(self) -> None:
        await self._close_idle()
        async with asyncio.timeout(self._timeout_s):
            await self._exchange(("PING",), _Asked())

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

"""
What workers tell each other of their breakers through Redis: who is open, who cools down, and who of them may probe.

Each worker looks every 40 ms, beside the requests and never on their way: one script takes what is new here and gives
what is new elsewhere. So an opening or a `Retry-After` is known to all within about 100 ms.

A breaker that is due is probed by the worker that holds the lease of its probe. A worker takes it, ahead of time, when
its own requests have lately asked for the provider. A lease that is not used ends after one recovery period, and after
one more, or while Redis is away, every worker probes for itself: sharing can make a probe later, never impossible.

Keys of a provider, or of each of its deployments, gone some time after their last change:

    {breaker}:openai            hash: state, ends and cooling (milliseconds of Redis's clock), cause, by, version
    {breaker}:openai:probe      the worker that may probe
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

from redis.asyncio import ConnectionPool
from redis.exceptions import NoScriptError, RedisError

from router.breaker import BreakerState
from router.health import ProviderHealth
from seawall.stores.redis_store import Script

__all__ = ["SYNC_EVERY_S", "SharedBreakers"]

SYNC_EVERY_S = 0.04
_SPARE_S = 0.5
"""How long a lease outlasts its last use, so that what came of the probe is told, or the lease renewed, in time."""
_AHEAD_S = 2 * SYNC_EVERY_S
"""A lease is taken so long before the probe is due."""
_WANTED_S = 1.0
"""A request that asked for a resting provider so long ago speaks for the next one."""


class SharedBreakers:
    """
    Keep `healths`, by a name that all workers use, in step with those of other workers in the Redis at `url`.

    `recovery_s` is the open time of the breakers: how long the lease of a probe lasts. `timeout_s` bounds each look.
    """

    def __init__(
        self,
        url: str,
        healths: Mapping[str, ProviderHealth],
        *,
        recovery_s: float,
        timeout_s: float,
        clock: Callable[[], float],
        worker: str,
    ) -> None:
        make: Any = cast("Any", ConnectionPool).from_url
        self._pool = make(url, protocol=2, socket_timeout=None, socket_connect_timeout=None)
        self._connection: Any = None
        self._script = Script.load("breakers")
        self._me = f"{worker}-{os.urandom(4).hex()}"  # names are given per process; Redis serves many hosts
        self._recovery_s = recovery_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._shared = [_Shared(name, health) for name, health in healths.items()]
        self._keys = [key for one in self._shared for key in (one.key, f"{one.key}:probe")]
        self._in_touch = False
        self._looked: asyncio.Event | None = None
        self._looking: asyncio.Task[None] | None = None
        for one in self._shared:
            one.health.breaker.may_probe = self._gate(one)

    def start(self) -> None:
        """Begin to look, in the running event loop. A second call does nothing."""
        if self._looking is None:
            self._looked = asyncio.Event()
            self._looking = asyncio.get_running_loop().create_task(self._look(self._looked))

    async def ready(self) -> None:
        """Begin to look, and wait for the first answer, or for `timeout_s` at most."""
        self.start()
        if self._looked is not None:
            await self._looked.wait()

    async def aclose(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None
        await self._hang_up()

    def _gate(self, one: _Shared) -> Callable[[], bool]:
        def may_probe() -> bool:
            now_s = one.wanted_s = self._clock()
            overdue = now_s > one.health.breaker.probe_at_s + self._recovery_s
            return not self._in_touch or one.leased_until_s > now_s or overdue

        return may_probe

    async def _look(self, looked: asyncio.Event) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await self._exchange()
                    self._in_touch = True
                except (RedisError, OSError, TimeoutError):
                    self._in_touch = False
                    await self._hang_up()
                looked.set()
                await asyncio.sleep(SYNC_EVERY_S)
        finally:
            self._in_touch = False

    async def _exchange(self) -> None:
        now_s = self._clock()
        for one in self._shared:
            one.prepare(now_s, self._recovery_s)
        arguments = [part for one in self._shared for part in one.news]
        lease_ms = round((self._recovery_s + _SPARE_S) * 1000)
        rest = (len(self._keys), *self._keys, self._me, lease_ms, round(_AHEAD_S * 1000), *arguments)
        if self._connection is None:
            self._connection = self._pool.make_connection()
            await self._connection.connect()
        try:
            answers = await self._ask("EVALSHA", self._script.sha, *rest)
        except NoScriptError:
            answers = await self._ask("EVAL", self._script.source, *rest)
        answered_s = self._clock()
        for one, answer in zip(self._shared, answers, strict=True):
            one.take(answer, self._me, now_s, answered_s)

    async def _ask(self, *command: Any) -> Any:
        await self._connection.send_command(*command)
        return await self._connection.read_response()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        for one in self._shared:
            one.leased_until_s = 0.0
        if connection is not None:
            await connection.disconnect(nowait=True)


class _Shared:
    """One breaker and cooldown, and what the others know of them."""

    def __init__(self, name: str, health: ProviderHealth) -> None:
        self.key = f"{{breaker}}:{name}"
        self.health = health
        self.wanted_s = float("-inf")
        self.leased_until_s = 0.0
        self.news: tuple[Any, ...] = ()
        """What is told at this look: state or nothing, open time, cause, cooldown (ms), whether the lease is wanted."""
        self._version = ""
        self._told_generation = health.breaker.generation
        self._told_cooling_s = 0.0
        self._sent_generation = 0
        self._sent_cooling_s = 0.0
        self._lease_s = 0.0

    def prepare(self, now_s: float, recovery_s: float) -> None:
        """Put together what is new here, and whether the lease of the probe is wanted."""
        breaker = self.health.breaker
        self._sent_generation, self._sent_cooling_s = breaker.generation, self.health.cooling_until_s
        state, open_s, cooling_s = "", breaker.probe_at_s - now_s, 0.0
        if self._sent_generation != self._told_generation and breaker.state is not BreakerState.HALF_OPEN:
            # What opened while nobody could be told, and is due by now, is no news any more.
            state = "" if breaker.state is BreakerState.OPEN and open_s <= 0 else str(breaker.state)
        if self._sent_cooling_s > self._told_cooling_s:
            cooling_s = self._sent_cooling_s - now_s
        due = breaker.state is not BreakerState.CLOSED and open_s <= _AHEAD_S
        asked = now_s - self.wanted_s <= _WANTED_S and self.leased_until_s <= now_s
        wants = breaker.is_probing or (due and asked)
        self._lease_s = recovery_s if wants else 0.0
        cooling_ms = max(0, round(cooling_s * 1000))
        self.news = (state, max(0, round(open_s * 1000)), breaker.cause, cooling_ms, int(wants))

    def take(self, answer: list[Any], me: str, asked_s: float, answered_s: float) -> None:
        """Take what Redis has, asked and answered at these times: a lease ends rather too soon, a rest too late."""
        version, state, open_ms, cause, by, cooling_ms, leased = answer
        if self.news[0]:
            self._told_generation = self._sent_generation
        cooling_until_s = answered_s + (cooling_ms + 1) / 1000 if cooling_ms > 0 else 0.0
        self.health.cool_until(cooling_until_s)
        self._told_cooling_s = max(self._sent_cooling_s, cooling_until_s)
        if not leased:
            self.leased_until_s = 0.0
        elif self._lease_s:
            self.leased_until_s = asked_s + self._lease_s
        breaker = self.health.breaker
        if breaker.generation != self._sent_generation:
            return  # it has moved since: what is new here is told first
        if version != self._version and by.decode() != me:
            told = f"told by {by.decode()}: {cause.decode()}"
            if state == b"open":
                breaker.learn_open(answered_s + (open_ms + 1) / 1000, told)
            elif state == b"closed":
                breaker.learn_closed(told)
            self._told_generation = breaker.generation
        self._version = version

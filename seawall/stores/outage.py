"""The time while a store is away: its users are refused at once, and one task looks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["PROBE_EVERY_S", "Outage"]

PROBE_EVERY_S = 0.1


class Outage:
    """
    Truthy from `begin` until `ping`, tried every 0.1 s in the background, raises none of `errors`.

    `ping` bounds its own wait.
    """

    def __init__(self, ping: Callable[[], Awaitable[object]], errors: tuple[type[Exception], ...]) -> None:
        self._ping = ping
        self._errors = errors
        self._looking: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return self._looking is not None

    def begin(self) -> None:
        """Note that the store is away."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def end(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            try:
                await self._ping()
            except self._errors:
                continue
            self._looking = None
            return

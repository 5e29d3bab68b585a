"""
Writes to many sockets in bursts: what is ready to be sent within one turn of the event loop leaves together.

A peer that sleeps is woken by the first write of a burst and finds the rest while it is awake; written one by one, with
our own work in between, every write wakes it anew, and to wake it costs more than to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Burst"]

_SENDERS_MAX = 8
"""So many do not wait for one more: peers are to work while we do."""


class Burst:
    """Collects what sends something, and calls it at the end of the turn, or as soon as there is enough of it."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: list[Callable[[], None]] = []

    def add(self, send: Callable[[], None]) -> None:
        """Have `send` called soon."""
        senders = self._senders
        if not senders:
            asyncio.get_running_loop().call_soon(self._send)
        senders.append(send)
        if len(senders) >= _SENDERS_MAX:
            self._send()

    def _send(self) -> None:
        senders, self._senders = self._senders, []
        for send in senders:
            try:
                send()
            except Exception as error:  # noqa: BLE001 - one that cannot be sent must not keep the others
                asyncio.get_running_loop().call_exception_handler({"message": "a write failed", "exception": error})

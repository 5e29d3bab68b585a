"""
uvicorn's HTTP protocol on a transport that sends once a turn of the event loop.

uvicorn writes the head of an answer and its body one after the other, and each write is a system call through the whole
of TCP: with the events of fast streams that is a third of the gateway's time. Whole answers of all connections leave in
bursts. Only asyncio's own interface is used.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall.bursts import Burst

__all__ = ["Corked", "CorkedProtocol"]

_HELD_MAX = 64 * 1024


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what it writes within one turn of the event loop leaves together at its end."""

    burst: Burst | None = None
    """Of all connections of one server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.burst or Burst())))


class Corked:
    """A transport that holds back what is written until the event loop's next turn."""

    __slots__ = ("_burst", "_held", "_inner", "_loop", "_size", "is_closing")

    def __init__(self, inner: Any, burst: Burst) -> None:
        self._inner = inner
        self._burst = burst
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0
        self.is_closing = inner.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        """See asyncio.WriteTransport."""
        if not self._held:
            self._loop.call_soon(self._release)
        self._held.append(data)
        self._size += len(data)
        if self._size > _HELD_MAX:  # the transport's own limits are to see it
            self._release()

    def write_last(self, data: bytes) -> None:
        """Send `data` with the next burst, and what is held back before it: nothing is to follow soon."""
        self._held.append(data)
        self._burst.add(self._release)

    def write_eof(self) -> None:
        """See asyncio.WriteTransport."""
        self._release()
        self._inner.write_eof()

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self._release()
        self._inner.close()

    def _release(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self.is_closing():
            self._inner.write(held[0] if len(held) == 1 else b"".join(held))

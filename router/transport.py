"""
The transport seam: the only way the router reaches the wire.

An implementation sends one `Call` and hands back one `Answer`; it raises only the `TransportError`s of
`router.errors`. It follows no redirect, reads no proxy variable, and bounds header and body sizes. Chunks of the body
are delivered as they arrive: chunk k before k + 1 is sent, and all chunks before a cut before the error is raised.
Leaving the `async with` block, by an exception or a cancellation too, frees or closes the connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

__all__ = ["Answer", "Call", "Timeouts", "Transport", "connect_bound_s"]


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one call, each in seconds."""

    connect_s: float
    """To a connection, TLS included; at most nine tenths of `first_byte_s`, so that what was never sent is known."""
    first_byte_s: float
    """From the beginning of the call to the first byte of the answer's body."""
    idle_s: float
    """From one chunk of the body to the next."""


def connect_bound_s(timeouts: Timeouts) -> float:
    """Return the time in which a connection has to be made."""
    return min(timeouts.connect_s, 0.9 * timeouts.first_byte_s)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. `headers` are (name, value) pairs, names in lower case."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeouts: Timeouts


class Answer(Protocol):
    """The answer to a `Call`: its head at once, its body as it arrives."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, tuple[str, ...]]:
        """Values by name in lower case, in the order of arrival."""
        ...

    @property
    def body(self) -> AsyncIterator[bytes]:
        """The chunks of the body, each non-empty, as they arrive. Can be read once."""
        ...


class Transport(Protocol):
    """Sends calls. One instance serves one event loop."""

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Send `call`; the block is entered when the head of the answer has come."""
        ...

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        ...

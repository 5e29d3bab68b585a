"""When pings came and when their connections ended: what a late close can be proven by, from the provider's side."""

from __future__ import annotations

from collections import deque

import msgspec

__all__ = ["PingLog", "PingRecord"]

_REMEMBERED = 512


class PingRecord(msgspec.Struct, kw_only=True):
    """One ping. Times are CLOCK_MONOTONIC nanoseconds."""

    id: str | None
    """What the prober called it (`?id=…`), at most 64 characters."""
    arrival_ns: int
    fin_ns: int | None = None
    """When the end of the client's side of the connection (its FIN) was seen; None: not, or not yet."""


class PingLog:
    """Keeps the last 512 pings of one provider."""

    def __init__(self) -> None:
        self._pings: deque[PingRecord] = deque(maxlen=_REMEMBERED)

    def add(self, ping: PingRecord) -> None:
        """Take a ping that has just come."""
        self._pings.append(ping)

    @property
    def last_fin_ns(self) -> int | None:
        """When the latest FIN on a connection that had a ping was seen; None before any."""
        return max((ping.fin_ns for ping in self._pings if ping.fin_ns is not None), default=None)

    def all(self) -> list[PingRecord]:
        """Return them in order of arrival."""
        return list(self._pings)

"""The connections to one origin: those that are idle, the last used first, and how new ones are made."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address

from router.errors import ConnectFailed, TlsError
from seawall.bursts import Burst
from seawall.transports.connection import Connection
from seawall.transports.heads import Origin

__all__ = ["Pool"]

_IDLE_MAX = 512
"""Connections that wait to be used again."""
_IDLE_S = 60.0
"""How long a connection waits to be used again."""


class Pool:
    """Connections to `origin`. `opened` holds those of the whole transport; `tls` makes what checks certificates."""

    __slots__ = ("_idle", "_open", "_origin", "_preferred", "_timer", "_tls", "burst")

    def __init__(self, origin: Origin, opened: set[Connection], tls: Callable[[], ssl.SSLContext]) -> None:
        self._origin = origin
        self._open = opened
        self._tls = tls
        self._idle: list[Connection] = []
        self._preferred = ""
        """The address that was reached last."""
        self._timer: asyncio.TimerHandle | None = None
        self.burst = Burst()
        """In which calls leave."""

    def take(self) -> Connection | None:
        """Return an idle connection that can be used, None where there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    async def connect(self, bound_s: float) -> Connection:
        """Return a new connection, made within `bound_s`, TLS included. Raises ConnectFailed or TlsError."""
        try:
            async with asyncio.timeout(bound_s) as bound:
                return await self._connected(bound.when() or 0.0)
        except ssl.SSLError as error:
            raise TlsError(f"TLS failed: {error.reason or type(error).__name__}") from error
        except TimeoutError:
            raise ConnectFailed(f"no connection within {bound_s:g} s") from None
        except OSError as error:
            raise ConnectFailed(f"no connection: {error.strerror or error or type(error).__name__}") from error
        except UnicodeError:
            raise ConnectFailed("no connection: a name that no host can have") from None

    def made(self, connection: Connection) -> None:
        """Take note of a new connection."""
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        """Take note of the end of a connection."""
        self._open.discard(connection)
        if connection.is_idle:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """See to it that a connection is not used again."""
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection to be used again; close it where enough are kept."""
        if len(self._idle) >= _IDLE_MAX:
            connection.close()
            return
        connection.idle_since_s = connection.loop.time()
        self._idle.append(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(_IDLE_S, self._expire)

    def close(self) -> None:
        """Keep nothing any more."""
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _connected(self, due_s: float) -> Connection:
        """Try one address after the other; where one swallows what is sent to it, the next has its time too."""
        loop = asyncio.get_running_loop()
        addresses = await self._addresses()
        while True:
            address = addresses.pop(0)
            connection = Connection(self, loop)
            until_s = loop.time() + (due_s - loop.time()) / (len(addresses) + 1)
            try:
                async with asyncio.timeout_at(until_s):
                    await self._open_to(address, connection)
            except BaseException as error:
                connection.close()
                if not addresses or not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                    raise
            else:
                self._preferred = address
                return connection

    async def _open_to(self, address: str, connection: Connection) -> None:
        is_tls, host, port = self._origin
        tls, name = (self._tls(), host) if is_tls else (None, None)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: connection, address, port, ssl=tls, server_hostname=name)

    async def _addresses(self) -> list[str]:
        host, port = self._origin.host, self._origin.port
        try:
            return [ip_address(host).compressed]
        except ValueError:
            pass
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        # Stable: the resolver's own order, but that which worked comes first.
        return sorted(addresses, key=lambda address: address != self._preferred)

    def _expire(self) -> None:
        """Close what has waited too long; the longest waiting are at the front."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._idle and self._idle[0].idle_since_s <= loop.time() - _IDLE_S:
            self._idle.pop(0).close()
        if self._idle:
            self._timer = loop.call_at(self._idle[0].idle_since_s + _IDLE_S, self._expire)

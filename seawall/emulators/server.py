"""Any set of emulated providers in one process, each on a port of its own on 127.0.0.1, plus the admin port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

from seawall.emulators.admin import Admin
from seawall.emulators.config import Config
from seawall.emulators.connection import Connection, Handler
from seawall.emulators.parts import PartStation
from seawall.emulators.station import Station
from seawall.emulators.wire import HttpRequest
from seawall.journal.writer import EventWriter

__all__ = ["EmulatorServer"]

_HOST = "127.0.0.1"
_BACKLOG = 4096
"""A burst must not wait for SYN retries: those come in steps of a second and would look like a slow provider."""
_STOP_S = 0.5


class EmulatorServer:
    """
    Listens from `start` to `stop`, on the running loop.

    `ports` and `admin_port` are known after `start`. The caller keeps and closes `writer`; `heard` is told of every
    request to a provider, by the provider's name.
    """

    def __init__(
        self,
        config: Config,
        token: str,
        writer: EventWriter | None = None,
        heard: Callable[[str, HttpRequest], None] | None = None,
    ) -> None:
        self.ports: dict[str, int] = {}
        self.admin_port = 0
        self._config = config
        self._stations: Mapping[str, Station] = {
            name: Station(name, healthy, config.seed, writer, heard) for name, healthy in config.providers.items()
        }
        self._parts: Mapping[str, PartStation] = {name: PartStation(name) for name in config.parts}
        self._admin = Admin(self._stations, token, self._parts)
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen on every port. Raises OSError when one is taken; then none is left open."""
        try:
            for name, station in self._stations.items():
                self.ports[name] = await self._listen(station.handle, self._config.ports.get(name, 0))
            for name, part in self._parts.items():
                self.ports[name] = await self._listen(part.handle, 0)
            self.admin_port = await self._listen(self._admin.handle, self._config.admin_port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Accept nothing more, cut what is open, and let every call in flight write its record. Idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        connections = list(self._connections)
        tasks = [connection.task for connection in connections if connection.task is not None]
        for connection in connections:
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)
        await asyncio.sleep(0)  # lets the loop close the sockets

    async def _listen(self, handler: Handler, port: int) -> int:
        listener = socket.create_server((_HOST, port), backlog=_BACKLOG)
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(handler, self._connections), sock=listener, backlog=_BACKLOG
        )
        self._servers.append(server)
        return listener.getsockname()[1]

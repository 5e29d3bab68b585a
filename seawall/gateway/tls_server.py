"""The gateway's server behind TLS: on SIGHUP it takes renewed certificates and lists of revoked ones, and goes on."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from router.errors import ConfigurationError
from seawall.gateway.server import GatewayServer
from seawall.screen import complain

__all__ = ["GatewayTlsServer"]


class GatewayTlsServer(GatewayServer):
    """
    A GatewayServer that ends TLS.

    `make_context` reads the files. It is called once here, and on every SIGHUP; when it raises ConfigurationError then,
    that is told on standard error and the old context stays. Raises what `make_context` raises.
    """

    def __init__(self, config: uvicorn.Config, *, make_context: Callable[[], ssl.SSLContext], **options: Any) -> None:
        super().__init__(config, **options)
        self._make_context = make_context
        config.load()
        config.ssl = make_context()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """See GatewayServer; SIGHUP reads the files again."""
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def begin() -> None:
            task = loop.create_task(self.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        with super().capture_signals():
            loop.add_signal_handler(signal.SIGHUP, begin)
            try:
                yield
            finally:
                loop.remove_signal_handler(signal.SIGHUP)

    async def reload(self) -> None:
        """
        Read the files again and use them for every new connection; a connection that is open ends after its answer.

        The listening sockets stay open all the while, so no client is turned away. A context of its own for each
        reload, because an old one would keep its sessions and its list of revoked certificates.
        """
        if self.should_exit or not self.started:
            return
        try:
            context = self._make_context()
        except ConfigurationError as error:
            complain(f"seawall serve: SIGHUP: {error}; the certificates in use stay")
            return
        loop = asyncio.get_running_loop()
        old, self.servers = self.servers, []
        for server in old:
            for listener in server.sockets:
                listening = listener.dup()
                self.servers.append(
                    await loop.create_server(self._protocol, sock=listening, ssl=context, backlog=self.config.backlog)
                )
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        complain("seawall serve: SIGHUP: certificates read again")

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

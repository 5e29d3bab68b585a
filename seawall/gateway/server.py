"""
uvicorn's server with an end that no client notices.

    signal ─▶ /readyz says 503, answers say `Connection: close`, listening goes on ── DRAIN_DELAY ──▶ no new connection
           ─▶ answers under way finish ── DRAIN_TIMEOUT ──▶ the rest is told in its own format that it was cut off
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from seawall.screen import complain

__all__ = ["GatewayServer"]

_POLL_S = 0.02
_CUT_S = 1.0
"""How long a client has to take the news that its answer was cut off."""


class GatewayServer(uvicorn.Server):
    """
    Serve until SIGTERM or SIGINT, drain, and return; a second SIGINT ends the drain.

    `delay_s` and `timeout_s` are DRAIN_DELAY and DRAIN_TIMEOUT; `cut_off` ends every answer under way with an error of
    its own and returns how many there were.
    """

    def __init__(self, config: uvicorn.Config, *, delay_s: float, timeout_s: float, cut_off: Callable[[], int]) -> None:
        super().__init__(config)
        self._delay_s = delay_s
        self._timeout_s = timeout_s
        self._cut_off = cut_off
        self.on_drain: Callable[[], None] = lambda: None
        """Is called when the drain begins."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let the signals begin the drain; the process then ends with exit code 0, not with the signal raised again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close the app."""
        self.on_drain()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        # An idle connection stays open for now: its client may have sent a request that we have not read yet.
        for connection in _busy(self.server_state.connections):
            connection.shutdown()
        await self._wait(self._delay_s, lambda: False)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._wait(self._timeout_s, self._is_idle):
            # What is no answer of a provider's is nobody's loss, and its cancellation is no news.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            cut = self._cut_off()
            if cut:
                complain(f"seawall serve: answers cut off: {cut}; DRAIN_TIMEOUT is {self._timeout_s:g} s")
            self.force_exit = False
            if not await self._wait(_CUT_S, self._is_idle):
                for connection in list(self.server_state.connections):
                    connection.transport.abort()
                await self._wait(_CUT_S, self._is_idle)
        await self.lifespan.shutdown()

    def _is_idle(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks

    async def _wait(self, seconds: float, is_over: Callable[[], bool]) -> bool:
        """Wait until `is_over`, the time has passed, or a second SIGINT; tell whether it is over."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while True:  # uvicorn tells of no connection's end, so we look
            over, left_s = is_over(), end_s - loop.time()
            if over or self.force_exit or left_s <= 0:
                return over
            await asyncio.sleep(min(_POLL_S, left_s))


def _busy(connections: set[Any]) -> list[Any]:
    """Return those with an answer under way."""
    cycles = [(each, getattr(each, "cycle", None)) for each in connections]
    return [each for each, cycle in cycles if cycle is not None and not cycle.response_complete]

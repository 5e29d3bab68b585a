"""
Ports of servers that we start and that cannot choose one themselves, and of those that must come back on the same one.

A port found free may be taken by anybody, or be given to an outgoing connection, before the server listens on it. On
Linux we keep it: a socket that is bound and does not listen, with SO_REUSEADDR, lets a server with the same option
listen beside it and refuses connections until then. Elsewhere a bound port is nobody else's, so it is let go.
"""

from __future__ import annotations

import socket
import sys
from types import TracebackType
from typing import Self

__all__ = ["HeldPort"]


class HeldPort:
    """
    A loopback port, kept free for a server of ours until `release`. Port 0 finds one.

    Raises OSError when the port is taken.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._socket: socket.socket | None = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
        except OSError:
            self.release()
            raise
        self.port = int(self._socket.getsockname()[1])
        if not sys.platform.startswith("linux"):
            self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the port. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

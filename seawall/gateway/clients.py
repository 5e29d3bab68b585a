"""
What clients may take of the gateway: sizes, times and numbers, and who is to go when there is no more room.

A client is not trusted: whatever it sends, or does not send, or does not read, costs a bounded piece of memory for a
bounded time. `guard.py` holds each connection to it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from router.errors import SeawallError
from seawall.bursts import Burst

try:
    import resource
except ImportError:  # a system without such limits
    resource = None

__all__ = [
    "ClientLimits",
    "Clients",
    "Crowded",
    "HeadTooLong",
    "MalformedHttp",
    "RequestTooSlow",
    "Waiting",
    "fitting",
]


class MalformedHttp(SeawallError):
    """What the client sent is not HTTP/1.1, or could be read in two ways."""

    code = "malformed_http"
    status = 400


class HeadTooLong(SeawallError):
    """The head, or the trailer, of a request is too long."""

    code = "head_too_long"
    status = 431


class RequestTooSlow(SeawallError):
    """The request was not whole in time."""

    code = "request_too_slow"
    status = 408


class Crowded(SeawallError):
    """More connections, or more bytes of requests, are held than there is room for."""

    code = "crowded"
    status = 503
    retryable = True


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client, and all of them together, may take."""

    head_bytes_max: int = 64 * 1024
    """The longest head of a request; as much may come in a row that is no part of a body."""
    bodies_bytes_max: int = 512 * 1024 * 1024
    """Bytes of bodies that are held at one time for all requests."""
    connections_max: int = 8192
    """Connections that are open at one time."""
    idle_s: float = 60.0
    """How long a connection may wait for its first or next request."""
    send_s: float = 60.0
    """How long a client may take to send a request, from its first byte to its last."""
    read_s: float = 60.0
    """How long a client may read nothing of an answer that waits for it."""


_DESCRIPTORS_KEPT = 256
"""File descriptors that are not for clients: files, stores, listening sockets, the first calls of providers."""


def fitting(limits: ClientLimits) -> ClientLimits:
    """
    Let this process open as many files as the system allows it, and return limits that fit into that.

    Each client may need a second connection, to a provider. Out of descriptors nobody could be told anything.
    """
    if resource is None:
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * limits.connections_max + _DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = limits.connections_max if soft == resource.RLIM_INFINITY else (soft - _DESCRIPTORS_KEPT) // 2
    return msgspec.structs.replace(limits, connections_max=max(1, min(limits.connections_max, room)))


class Waiting(Protocol):
    """A connection that has no whole head of a request yet."""

    def make_room(self) -> None:
        """Close it."""
        ...


class Clients:
    """The clients of one server: their limits, what they hold together, and who waits, the longest first."""

    def __init__(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.held_bytes = 0
        """Bytes of bodies that are in memory."""
        self.waiting: dict[Waiting, None] = {}
        self.burst = Burst()
        """In which their answers leave."""

    def hold(self, size: int) -> bool:
        """Say whether there is room for so many more bytes of a body, and count them if so."""
        if self.held_bytes + size > self.limits.bodies_bytes_max:
            return False
        self.held_bytes += size
        return True

    def let_go(self, size: int) -> None:
        """Count bytes no longer."""
        self.held_bytes -= size

    def make_room(self, newcomer: Waiting) -> bool:
        """Close the connection that has waited longest, the newcomer's aside; say whether there was one."""
        for each in self.waiting:
            if each is not newcomer:
                del self.waiting[each]
                each.make_room()
                return True
        return False

"""
The air gap at the last line: a transport that refuses every origin but the allowed ones.

Whatever a bug above it asks for, nothing reaches a cloud: the check is made on the URL that is about to be called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_address
from urllib.parse import urlsplit

from router.errors import SecurityError
from router.transport import Answer, Call, Transport

__all__ = ["GuardedTransport", "allows_endpoint", "origin_of"]

_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")  # parsers differ: one strips or turns what another takes for the host


def origin_of(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port) in normal form. Raises SecurityError for a URL that has none."""
    if _AMBIGUOUS.search(url):
        raise SecurityError("the air gap refuses an address with a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SecurityError(f"the air gap cannot read the address: {error}") from None
    port = _PORTS.get(parts.scheme) if port is None else port
    if not host or port is None:
        raise SecurityError("the air gap refuses an address without host and port")
    return parts.scheme, _normal(host), port


def allows_endpoint(url: str, listed: Collection[str]) -> bool:
    """
    Say whether a part of our own (Redis, telemetry) may be at `url`: on this machine, or listed.

    `listed` are hosts, `host:port`s and origins. A name other than `localhost` is not this machine: it may resolve to
    anything. Raises SecurityError for an address that cannot be read.
    """
    origins = {origin_of(entry) for entry in listed if "://" in entry}
    hosts = {entry.rstrip(".").lower() for entry in listed if "://" not in entry}
    if urlsplit(url).scheme == "unix":
        return True
    scheme, host, port = origin_of(url)
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    return here or (scheme, host, port) in origins or not hosts.isdisjoint({host, f"{host}:{port}", f"[{host}]:{port}"})


def _normal(host: str) -> str:
    if ":" not in host:
        return host.rstrip(".").lower()
    try:
        return ip_address(host).compressed
    except ValueError:
        raise SecurityError("the air gap refuses an address with a host that is none") from None


class GuardedTransport:
    """Pass calls on to `inner` only when their origin is one of `allowed` (URLs)."""

    def __init__(self, inner: Transport, allowed: Iterable[str]) -> None:
        self._inner = inner
        self._allowed = frozenset(origin_of(url) for url in allowed)

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Send `call`. Raises SecurityError, before anything is sent, when its origin is not allowed."""
        origin = origin_of(call.url)
        if origin not in self._allowed:
            raise SecurityError(f"AIRGAP_MODE is on: a call to {origin[0]}://{origin[1]}:{origin[2]} was refused")
        return self._inner.send(call)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

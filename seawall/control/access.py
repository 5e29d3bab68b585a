"""
Who may speak to the control API: whoever has the run's token, from this machine, and from no page of somebody else's.

A page in a browser can send requests to loopback, and by DNS rebinding even read the answers. So the names that a
request gives (`Host`, `Origin`) must be loopback's own, and the token is compared in constant time. Pure but for the
token's file.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

__all__ = ["COOKIE", "TOKEN_HEADER", "Access", "Denied", "write_token"]

COOKIE = "seawall_control"
"""The cookie that holds the token in a browser; the port is added, for cookies do not know ports."""
TOKEN_HEADER = "x-seawall-token"  # noqa: S105 - the header's name
_SAFE = frozenset({"GET", "HEAD"})


class Denied(Exception):
    """A request is not let in; `status` is HTTP's. The message says what is missing, never what was sent."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Access:
    """The rule for one server on loopback `port`. The token is random, and lives as long as this object."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"{COOKIE}_{port}"
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    def require_names(self, headers: Mapping[str, str]) -> None:
        """Raise Denied unless the request was meant for this server, and comes from no foreign page."""
        if headers.get("host", "").lower() not in self._hosts:
            raise Denied(421, f"this server answers to 127.0.0.1:{self.port} and localhost:{self.port} only")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Denied(403, "a page of another origin may not speak to this server")
        if origin is None and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Denied(403, "a page of another site may not speak to this server")

    def require(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise Denied unless names and token are right. What changes something by cookie must name its origin."""
        self.require_names(headers)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get(TOKEN_HEADER) or (bearer.strip() if scheme.lower() == "bearer" else "")
        if given:
            if not self.is_token(given):
                raise Denied(401, "the token is wrong")
            return
        if not self.is_token(_cookie(headers.get("cookie", ""), self.cookie)):
            raise Denied(401, f"the token is missing; send it as {TOKEN_HEADER}, or open the address that was printed")
        if method not in _SAFE and "origin" not in headers:
            raise Denied(403, "a browser that changes something must say from which page; the origin is missing")

    def is_token(self, given: str) -> bool:
        """Whether it is the token, compared in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def write_token(path: Path, token: str) -> None:
    """Write the token to a new file that only this user can read. Raises OSError, also when the file is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)


def _cookie(text: str, name: str) -> str:
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value

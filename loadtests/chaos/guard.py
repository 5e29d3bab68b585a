"""
Which requests the chaos page takes: from its own page, by a name that cannot be somebody else's.

Locust lets every page of the world read its web UI (`Access-Control-Allow-Origin: *`), and asks nobody's name unless
started with `--web-login`. What injects faults is more careful: names as in `seawall.control`, and a token that only
the page itself knows. Pure.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["TOKEN_HEADER", "Guard"]

TOKEN_HEADER = "X-Seawall-Page"  # noqa: S105 - the header's name


class Guard:
    """`names` are the host names by which the web UI may be asked for, besides addresses and localhost."""

    def __init__(self, *names: str) -> None:
        self.token = secrets.token_urlsafe(24)
        self._names = {"localhost", *(name.lower() for name in names if name)}

    def problem(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Return why a request is not taken, None when it is."""
        host = headers.get("Host", "")
        if not self._is_own(host):
            return f"the host name {host[:80]!r} is not known; open the page by its address, or by localhost"
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "a page of another origin may not speak to this one"
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "a page of another site may not speak to this one"
        if method not in ("GET", "HEAD") and not hmac.compare_digest(headers.get(TOKEN_HEADER, ""), self.token):
            return "the page's token is missing or old; load the page again"
        return None

    def _is_own(self, host: str) -> bool:
        """An address cannot be made to mean another one, as a name can (DNS rebinding)."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

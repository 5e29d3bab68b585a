"""Heads of HTTP/1.1 requests: a call's address and headers become origin and bytes. Pure; refuses what is unclear."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from router.errors import ConnectFailed

__all__ = ["Origin", "head_of", "line_of"]

_PORTS = {"http": 80, "https": 443}
# Whitespace and controls are stripped by some readers of addresses, and `\` is turned: another host than the one read.
_ADDRESS = re.compile(r"[!-\[\]-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~]*")
_OURS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
# Without the header that is refused: it may hold a key.
_UNSENDABLE = "the call has an address or a header that HTTP cannot carry"


class Origin(NamedTuple):
    """Where connections lead to."""

    is_tls: bool
    host: str
    port: int


def head_of(method: str, url: str, headers: tuple[tuple[str, str], ...]) -> tuple[Origin, bytes]:
    """
    Return where a request goes, and its head up to and without the length of its body.

    Raises ConnectFailed for what cannot be sent: its message quotes nothing of the call.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConnectFailed(_UNSENDABLE) from None
    if not host or port == 0 or "@" in parts.netloc or parts.scheme not in _PORTS or not _ADDRESS.fullmatch(url):
        raise ConnectFailed(_UNSENDABLE)
    if not _TOKEN.fullmatch(method):
        raise ConnectFailed(_UNSENDABLE)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    usual = _PORTS[parts.scheme]
    shown = (f"[{host}]" if ":" in host else host) + ("" if port in (None, usual) else f":{port}")
    lines = [f"{method} {target} HTTP/1.1", f"host: {shown}"]
    for name, value in headers:
        if name.lower() in _OURS or not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ConnectFailed(_UNSENDABLE)
        lines.append(f"{name}: {value}")
    lines.append("")
    return Origin(parts.scheme == "https", host, port or usual), "\r\n".join(lines).encode("ascii")


def line_of(name: str, value: str) -> bytes:
    """Return one header as its line of a head. Raises ConnectFailed, as `head_of` does."""
    if name.lower() in _OURS or not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
        raise ConnectFailed(_UNSENDABLE)
    return f"{name}: {value}\r\n".encode("ascii")

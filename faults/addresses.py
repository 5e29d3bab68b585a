"""Where faults may go without being asked twice: this machine."""

from __future__ import annotations

import re
from ipaddress import ip_address

__all__ = ["is_ambiguous", "is_loopback"]

_AMBIGUOUS = re.compile(r"[^\x21-\x7e]|[\\@?#%]")


def is_ambiguous(url: str) -> bool:
    """Return whether parsers may find another host in `url`: a user, a query, a backslash, what one of them strips."""
    return _AMBIGUOUS.search(url) is not None


def is_loopback(host: str) -> bool:
    """
    Return whether `host` (a name or a numeric address, without port) is this machine's loopback.

    Only what every resolver reads alike: no name but `localhost`, no shortened, decimal or hexadecimal form, no zone.
    """
    if host == "localhost":
        return True
    if "%" in host:  # behind a zone, parsers differ on where the address ends
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

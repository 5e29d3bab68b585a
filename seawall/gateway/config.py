"""Settings of the gateway itself; the router's are in `router.settings`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import msgspec

from router.errors import ConfigurationError

__all__ = ["GatewaySettings"]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway takes requests."""

    api_key_sha256: tuple[str, ...] = ()
    """SHA-256 of every accepted API key, in hex; none: no key is asked for."""
    body_bytes_max: int = 4 * 1024 * 1024
    """The longest request body."""
    drain_timeout_s: float = 30.0
    """How long a stopping gateway waits for answers under way."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> GatewaySettings:
        """
        Read SEAWALL_API_KEYS (comma-separated, kept as hashes), BODY_BYTES_MAX, DRAIN_TIMEOUT (seconds).

        Raises ConfigurationError with every violation.
        """
        values = os.environ if environment is None else environment
        problems: list[str] = []

        def number(name: str, default: float, low: float, high: float) -> float:
            text = values.get(name, str(default))
            try:
                found = float(text)
            except ValueError:
                found = float("nan")
            if not low <= found <= high:
                problems.append(f"{name} is {text!r}; it must be a number from {low:g} to {high:g}")
                return default
            return found

        settings = cls(
            api_key_sha256=tuple(
                hashlib.sha256(key.strip().encode()).hexdigest()
                for key in values.get("SEAWALL_API_KEYS", "").split(",")
                if key.strip()
            ),
            body_bytes_max=int(number("BODY_BYTES_MAX", 4 * 1024 * 1024, 1024, 2**30)),
            drain_timeout_s=number("DRAIN_TIMEOUT", 30.0, 0, 3600),
        )
        if problems:
            raise ConfigurationError("; ".join(problems))
        return settings

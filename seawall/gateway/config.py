"""Settings of the gateway itself; the router's are in `router.settings`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec

from router.errors import ConfigurationError
from router.settings import parse_seconds

__all__ = ["NAMES", "GatewaySettings"]

NAMES = ("SEAWALL_API_KEYS", "METRICS_API_KEY", "BODY_BYTES_MAX", "DRAIN_DELAY", "DRAIN_TIMEOUT")
"""The environment variables; in the section `gateway` of a file they stand in lower case."""


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway takes requests."""

    api_key_sha256: tuple[str, ...] = ()
    """SHA-256 of every accepted API key, in hex; none: no key is asked for."""
    metrics_key_sha256: tuple[str, ...] = ()
    """SHA-256 of the key that opens `/metrics` and nothing else."""
    body_bytes_max: int = 4 * 1024 * 1024
    """The longest request body."""
    drain_delay_s: float = 0.2
    """How long a stopping gateway goes on listening while `/readyz` says 503 already."""
    drain_timeout_s: float = 30.0
    """How long a stopping gateway waits for answers under way, after the delay."""

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        file: Mapping[str, object] | None = None,
        dotenv: Path | None = Path(".env"),
    ) -> GatewaySettings:
        """
        Read SEAWALL_API_KEYS (comma-separated, kept as hashes), METRICS_API_KEY, BODY_BYTES_MAX, DRAIN_DELAY and
        DRAIN_TIMEOUT (seconds, or with a unit: 200ms).

        The environment wins over a `.env` file, and that over `file`, the section `gateway` of a configuration file.
        Raises ConfigurationError with every violation.
        """
        problems: list[str] = []
        values: dict[str, object] = {}
        for name, value in (file or {}).items():
            if name.upper() not in NAMES:
                problems.append(f"gateway.{name} is not a setting; known are {', '.join(NAMES).lower()}")
            values[name.upper()] = value
        values.update(_dotenv(dotenv) if environment is None else {})
        values.update(os.environ if environment is None else environment)

        def seconds(name: str, default: float) -> float:
            try:
                found = parse_seconds(values.get(name, default))
            except ValueError:
                found = -1.0
            if not 0 <= found <= 3600:
                problems.append(f"{name} is {values[name]!r}; it must be a time from 0 to 3600 s, such as 30 or 200ms")
            return found

        def size(name: str, default: int) -> int:
            try:
                found = int(str(values.get(name, default)))
            except ValueError:
                found = 0
            if not 1024 <= found <= 2**30:
                problems.append(f"{name} is {values[name]!r}; it must be a number from 1024 to {2**30}")
            return found

        settings = cls(
            api_key_sha256=_hashes(values.get("SEAWALL_API_KEYS", "")),
            metrics_key_sha256=_hashes(values.get("METRICS_API_KEY", "")),
            body_bytes_max=size("BODY_BYTES_MAX", cls().body_bytes_max),
            drain_delay_s=seconds("DRAIN_DELAY", cls().drain_delay_s),
            drain_timeout_s=seconds("DRAIN_TIMEOUT", cls().drain_timeout_s),
        )
        if problems:
            raise ConfigurationError("; ".join(problems))
        return settings


def _hashes(value: object) -> tuple[str, ...]:
    """Return the hashes of keys that are written with commas between, or as a list."""
    keys = [str(key) for key in cast("list[object]", value)] if isinstance(value, list) else str(value or "").split(",")
    return tuple(hashlib.sha256(key.strip().encode()).hexdigest() for key in keys if key.strip())


def _dotenv(path: Path | None) -> dict[str, str]:
    """Return what a `.env` file says: a key that is asked for there must not be left out."""
    if path is None or not path.is_file():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 - only where there is a file

    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None

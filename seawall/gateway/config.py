"""Settings of the gateway itself; the router's are in `router.settings`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from router.errors import ConfigurationError
from router.settings import environment_with, parse_seconds
from seawall.config_file import read_config

__all__ = ["NAMES", "GatewaySettings"]

_TRANSPORTS = ("auto", "pyreqwest", "httpx")


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
    transport: str = "auto"
    """What calls the providers: `pyreqwest`, `httpx`, or `auto`, the first of these that is installed."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> GatewaySettings:
        """Return the settings of the environment (default: the process's, with `.env` and SEAWALL_CONFIG)."""
        return cls.load(None, environment, dotenv=Path(".env") if environment is None else None)

    @classmethod
    def load(
        cls,
        path: Path | None,
        environment: Mapping[str, str] | None = None,
        *,
        dotenv: Path | None = Path(".env"),
    ) -> GatewaySettings:
        """
        Return the settings of a YAML file's section `gateway` (None: of the file that SEAWALL_CONFIG names), `.env` and
        the environment, by the names in NAMES.

        The environment wins over `.env`, and that over the file. Raises ConfigurationError with every violation.
        """
        values: dict[str, object] = {}
        said = environment_with(environment, dotenv)
        file = path or (Path(said["SEAWALL_CONFIG"]) if said.get("SEAWALL_CONFIG") else None)
        problems: list[str] = []
        section: Mapping[str, object] = read_config(file).gateway if file is not None else {}
        for name, value in section.items():
            if name.upper() not in NAMES:
                problems.append(f"{file}: gateway.{name} is not a setting; known are {', '.join(NAMES).lower()}")
            values[name.upper()] = value
        values.update({name: said[name] for name in NAMES if name in said})
        fields: dict[str, Any] = {}
        for name, value in values.items():
            if name not in NAMES:
                continue
            field, parse, words = _PARSERS[name]
            try:
                fields[field] = parse(value)
            except (ValueError, TypeError):
                problems.append(f"{name} is {value!r}; it must be {words}")
        if problems:
            raise ConfigurationError(*problems)
        return cls(**fields)


def _hashes(value: object) -> tuple[str, ...]:
    """Return the hashes of keys that are written with commas between, or as a list."""
    keys = [str(key) for key in cast("list[object]", value)] if isinstance(value, list) else str(value or "").split(",")
    return tuple(hashlib.sha256(key.strip().encode()).hexdigest() for key in keys if key.strip())


def _size(value: object) -> int:
    if not 1024 <= (size := int(str(value))) <= 2**30:
        raise ValueError
    return size


def _seconds(value: object) -> float:
    if not 0 <= (seconds := parse_seconds(value)) <= 3600:
        raise ValueError
    return seconds


def _transport(value: object) -> str:
    if value not in _TRANSPORTS:
        raise ValueError
    return str(value)


# Variable → the field, how its value is read (raises ValueError), and what it must be.
_PARSERS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "SEAWALL_API_KEYS": ("api_key_sha256", _hashes, "keys with commas between"),
    "METRICS_API_KEY": ("metrics_key_sha256", _hashes, "a key"),
    "BODY_BYTES_MAX": ("body_bytes_max", _size, f"a number from 1024 to {2**30}"),
    "DRAIN_DELAY": ("drain_delay_s", _seconds, "a time from 0 to 3600 s, such as 30 or 200ms"),
    "DRAIN_TIMEOUT": ("drain_timeout_s", _seconds, "a time from 0 to 3600 s, such as 30 or 200ms"),
    "TRANSPORT": ("transport", _transport, f"one of {', '.join(_TRANSPORTS)}"),
}
NAMES = tuple(_PARSERS)
"""The environment variables; in the section `gateway` of a file they stand in lower case."""

"""
What the load generator is told and what it tells: two small JSON files between the harness and the Locust process.

The environment variable SEAWALL_LOAD names the first, `LoadConfig`; its `status_file` is the second, `LoadStatus`,
written once the start of the load is fixed. Neither holds a secret: the API key travels by the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from seawall.plan import LoadPlan

__all__ = ["LOAD_VARIABLE", "ConfigError", "LoadConfig", "LoadStatus", "read_config", "target_of", "write_json"]

LOAD_VARIABLE = "SEAWALL_LOAD"
"""The environment variable that names the configuration file."""


class ConfigError(Exception):
    """The load cannot be started as configured; the message names the field, the value and the remedy."""


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one load needs."""

    plan: LoadPlan
    base_url: str
    """Where the system under test listens: `http://host:port`, without TLS."""
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    """What goes with every request besides, for systems that are configured that way. No secret."""
    events: str
    """The run's folder, which exists already."""
    label: str = "load"
    """What is tested, in a few words, for logs and notes."""
    status_file: str
    """Where `LoadStatus` is written when the start of the load is fixed."""
    api_key_env: str | None = None
    """The environment variable that holds the key sent as `authorization: Bearer …`; None sends none."""


class LoadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """When the load starts and how large it is."""

    pid: int
    t0_ns: int
    """The start of the load on CLOCK_MONOTONIC; arrival times count from here."""
    arrivals: int
    duration_s: float


def read_config(path: Path) -> LoadConfig:
    """Read and check the configuration. Raises ConfigError when the file is missing, malformed or not usable."""
    try:
        config = msgspec.json.decode(path.read_bytes(), type=LoadConfig)
    except OSError as error:
        raise ConfigError(f"the load configuration {path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"the load configuration {path} is malformed: {error}") from error
    target_of(config.base_url)
    if not config.path.startswith("/"):
        raise ConfigError(f"path {config.path!r} must begin with a slash")
    if any(set(f"{name}{value}") & set("\r\n") for name, value in config.headers.items()):
        raise ConfigError("headers hold a line break, which ends a header; take it out")
    if config.api_key_env and not os.environ.get(config.api_key_env):
        raise ConfigError(f"api_key_env names {config.api_key_env}, which is not set; set it or leave the field out")
    return config


def target_of(base_url: str) -> tuple[str, int]:
    """Return host and port of `base_url`. Raises ConfigError for anything but `http://host[:port]`."""
    try:
        parts = urlsplit(base_url)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigError(f"base_url {base_url!r} is no URL: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"base_url {base_url!r} must be http://host:port and nothing more; a path goes into `path`")
    return parts.hostname, port


def write_json(path: Path, value: msgspec.Struct) -> None:
    """Write `value` as JSON so that a reader sees the whole file or none. Raises OSError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_bytes(msgspec.json.encode(value))
    draft.replace(path)

"""What an emulator process serves: which providers, how they answer when healthy, on which ports, from which seed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from seawall.emulators.behaviour import VENDORS
from seawall.emulators.steps import Healthy

__all__ = ["Config", "ConfigError", "from_file", "from_names", "with_ports"]


class ConfigError(ValueError):
    """The configuration cannot be used; the message lists every violation."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Port 0, or a provider without a port, means any free one."""

    providers: dict[str, Healthy]
    seed: int = 0
    ports: dict[str, int] = {}
    admin_port: int = 0
    parts: tuple[Literal["collector", "key_service"], ...] = ()
    """What is stood in for beside the providers."""


def from_file(path: Path) -> Config:
    """
    Read `{"seed": 7, "providers": {"gemini": {"tokens": 16}, …}}`.

    Raises ConfigError when the file cannot be read, has an unknown field or a value that is out of range.
    """
    try:
        text = path.read_bytes()
        config = msgspec.json.decode(text, type=Config)
        written = msgspec.json.decode(text, type=_Written).providers
    except (OSError, msgspec.DecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    known = set(Healthy.__struct_fields__)
    unknown = [
        f"providers.{name} has no field {field!r}; it has {', '.join(sorted(known))}"
        for name, fields in written.items()
        for field in fields
        if field not in known
    ]
    return _checked(config, unknown)


def from_names(names: Iterable[str], seed: int = 0) -> Config:
    """Return a configuration with these providers at their defaults. Raises ConfigError."""
    return _checked(Config(providers={name: Healthy() for name in names}, seed=seed))


def with_ports(config: Config, ports: dict[str, int]) -> Config:
    """Return `config` with these ports in place of its own. Raises ConfigError."""
    return _checked(msgspec.structs.replace(config, ports={**config.ports, **ports}))


class _Written(msgspec.Struct):
    providers: dict[str, dict[str, msgspec.Raw]]


def _checked(config: Config, problems: Iterable[str] = ()) -> Config:
    problems = list(problems)
    if not config.providers:
        problems.append("there is no provider; name at least one")
    for name, healthy in config.providers.items():
        if name not in VENDORS:
            problems.append(f"there is no provider {name!r}; there are {', '.join(VENDORS)}")
        if healthy.tokens_per_second <= 0:
            problems.append(f"providers.{name}.tokens_per_second is {healthy.tokens_per_second}; it must be above 0")
        if healthy.tokens < 1:
            problems.append(f"providers.{name}.tokens is {healthy.tokens}; it must be at least 1")
        if min(healthy.first_token_p50_s, healthy.first_token_p99_s) < 0:
            problems.append(f"providers.{name}.first_token is negative; it must be at least 0")
    for name, port in [*config.ports.items(), ("admin", config.admin_port)]:
        if not 0 <= port <= 65_535:
            problems.append(f"port {port} of {name} is not from 0 to 65535")
        if name != "admin" and name not in config.providers:
            problems.append(f"there is a port for {name!r} but no such provider is served")
    if problems:
        raise ConfigError("; ".join(problems))
    return config

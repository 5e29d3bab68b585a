"""
The configuration file: settings of router and gateway in YAML (or JSON, which is YAML too).

The gateway and `seawall.equipped.EquippedRouter` read the one that SEAWALL_CONFIG names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from router.errors import ConfigurationError
from router.settings import Settings, environment_with, setting_names

__all__ = ["ConfigFile", "load_settings", "read_config"]

_BYTES_MAX = 256 * 1024


class ConfigFile(msgspec.Struct, frozen=True):
    """What a configuration file says: settings of the router at its top, those of the gateway in a section."""

    path: str
    router: Mapping[str, object]
    """By name in lower case."""
    gateway: Mapping[str, object]
    lines: Mapping[str, int]
    """The line of each name in `router`."""

    def located(self, error: ConfigurationError, *, besides: Collection[str]) -> ConfigurationError:
        """Return the error with the line in front of each problem of this file; `besides` came from elsewhere."""
        located: list[str] = []
        for problem in error.problems:
            name = problem.split()[0].rstrip(":").lower()
            line = self.lines.get(name) if name not in besides else None
            located.append(problem if line is None else f"{self.path}:{line}: {problem}")
        return ConfigurationError(*located)


def load_settings(
    path: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    dotenv: Path | None = Path(".env"),
) -> Settings:
    """
    Return the settings of a YAML file (None: the one that SEAWALL_CONFIG names), `.env` and the environment.

    The environment wins over `.env`, and that over the file, whose section `gateway` is not for the router.
    Raises ConfigurationError with every violation, and the line of the file where it stands there.
    """
    said = environment_with(environment, dotenv)
    named = path or said.get("SEAWALL_CONFIG")
    if not named:
        return Settings.from_environment(said, dotenv=None)
    file = read_config(Path(named))
    values = {name: said[name.upper()] for name in setting_names() if name.upper() in said}
    try:
        return Settings.from_mapping({**file.router, **values}, environment=said)
    except ConfigurationError as error:
        raise file.located(error, besides=values) from None


def read_config(path: Path) -> ConfigFile:
    """Return what the file says. Raises ConfigurationError, with the line, for one that cannot be read."""
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    if len(data) > _BYTES_MAX:
        raise ConfigurationError(f"{path} is longer than {_BYTES_MAX} bytes")
    try:
        from ruamel.yaml import YAML, YAMLError  # noqa: PLC0415 - only where there is a file
    except ImportError:
        raise ConfigurationError(f"{path} needs the package ruamel.yaml: pip install ruamel.yaml") from None
    parser: Any = YAML(typ="safe", pure=True)
    try:
        loaded: Any = parser.load(text)
        root: Any = parser.compose(text)
    except YAMLError as error:
        caught: Any = error
        mark: Any = getattr(caught, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise ConfigurationError(f"{where}: {getattr(caught, 'problem', None) or 'no YAML'}") from None
    if loaded is None:
        return ConfigFile(str(path), {}, {}, {})
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{path}:1: must be a table of settings, each `name: value`")
    lines = {str(key.value).lower(): int(key.start_mark.line) + 1 for key, _ in root.value}
    values = {str(name).lower(): value for name, value in cast("dict[object, object]", loaded).items()}
    gateway: object = values.pop("gateway", None) or {}
    if not isinstance(gateway, dict):
        raise ConfigurationError(f"{path}:{lines['gateway']}: gateway must be a table of settings, each `name: value`")
    return ConfigFile(str(path), values, cast("dict[str, object]", gateway), lines)

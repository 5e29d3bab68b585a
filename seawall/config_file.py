"""
The configuration file: settings of router and gateway in YAML (or JSON, which is YAML too).

The gateway and `seawall.equipped.EquippedRouter` read the one that SEAWALL_CONFIG names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from router.errors import ConfigurationError
from router.settings import Settings, environment_with, setting_names
from seawall.screen import printable

__all__ = ["ConfigFile", "load_settings", "read_config"]

_BYTES_MAX = 256 * 1024
_DEPTH_MAX = 32
_LONG_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-FxXo_]{999,}")
"""No number of a setting's, and Python takes its time over one."""


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
    name = printable(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise ConfigurationError(f"{name} is not a file")
        with path.open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
        text = data.decode()
    except (OSError, ValueError) as error:  # no UTF-8, or a name with a NUL byte
        raise ConfigurationError(f"{name} cannot be read: {error}") from None
    if len(data) > _BYTES_MAX:
        raise ConfigurationError(f"{name} is longer than {_BYTES_MAX} bytes")
    try:
        from ruamel.yaml import YAML, YAMLError  # noqa: PLC0415 - only where there is a file
    except ImportError:
        raise ConfigurationError(f"{name} needs the package ruamel.yaml: pip install ruamel.yaml") from None
    parser: Any = YAML(typ="safe", pure=True)
    try:
        _check_shape(parser.parse(text), name)
        loaded: Any = parser.load(text)
        root: Any = parser.compose(text)
    except ConfigurationError:
        raise
    except YAMLError as error:
        caught: Any = error
        mark: Any = getattr(caught, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        what = str(getattr(caught, "problem", None) or "this is not YAML")
        # Of a key that is there twice the parser tells both values, which may be secrets.
        raise ConfigurationError(f"{where}: {what.partition(' with value ')[0]}") from None
    except Exception as error:  # noqa: BLE001 - the parser lets ValueError, IndexError and others out for broken text
        raise ConfigurationError(f"{name}: this is not YAML ({type(error).__name__} while it was read)") from None
    if loaded is None:
        return ConfigFile(name, {}, {}, {})
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{name}:1: must be a table of settings, each `name: value`")
    lines = {str(key.value).lower(): int(key.start_mark.line) + 1 for key, _ in root.value}
    values = {str(key).lower(): value for key, value in cast("dict[object, object]", loaded).items()}
    gateway: object = values.pop("gateway", None) or {}
    if not isinstance(gateway, dict):
        raise ConfigurationError(f"{name}:{lines['gateway']}: gateway must be a table of settings, each `name: value`")
    return ConfigFile(name, values, cast("dict[str, object]", gateway), lines)


def _check_shape(events: Iterable[Any], name: str) -> None:
    """Refuse what a few lines could make a billion values of, or a tower that no reader gets down from."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        where = f"{name}:{event.start_mark.line + 1}"
        if kind == "AliasEvent":
            raise ConfigurationError(f"{where}: an alias (*{str(event.anchor)[:60]}); write the value out")
        if kind == "ScalarEvent" and event.style is None and _LONG_NUMBER.fullmatch(event.value):
            raise ConfigurationError(f"{where}: a number of {len(event.value)} digits; no setting takes one so long")
        if depth > _DEPTH_MAX:
            raise ConfigurationError(f"{where}: more than {_DEPTH_MAX} levels of nesting; settings need three")

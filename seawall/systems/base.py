"""
What the harness needs to know of a system under test.

One folder a system, all of this shape. A system is reached over HTTP as OpenAI's chat completions are, and reaches the
providers only through the addresses it is given: each answers in OpenAI's format too, as the vendors' own
compatible endpoints do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from router.errors import ConfigurationError
from router.settings import Settings
from seawall.scenario.model import Scenario
from seawall.toolchain import Progress

__all__ = [
    "COMPATIBLE_PATHS",
    "NEUTRAL_SETTINGS",
    "Config",
    "Launch",
    "SystemBase",
    "SystemUnderTest",
    "Target",
    "neutral",
]

Config = Literal["default", "tuned"]
NEUTRAL_SETTINGS = ("first_byte_timeout", "idle_timeout", "total_timeout", "circuit_breaker_recovery_timeout")
"""
Settings of a scenario that say how long to wait, whoever waits.

Every system sets its own word for each where it has one, in both configs; all other settings are Seawall's alone.
"""
COMPATIBLE_PATHS = {"gemini": "/v1beta/openai", "claude": "/v1", "openai": "/v1", "local": "/v1"}
"""Where each provider speaks OpenAI's format, as the vendors publish it."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """
    How one process of the system is started. `environment` is added to the harness's own; it may hold keys.

    `files`, text by name, are written into a folder of the process's own, which is its working folder; without any it
    is the harness's.
    """

    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    health: str | None = None
    """The path that answers 200 once it serves; None: it prints one line of JSON, `{"port": …}`, by then."""
    start_limit_s: float = 30.0
    """How long it may take to be ready."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """How the load generator asks. `headers` go with every request and hold no secret."""

    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    model: str | None = None
    """What is sent as `model`; None: what the scenario says."""


class SystemUnderTest(Protocol):
    """A gateway that the wire arena can start and judge."""

    name: ClassVar[str]
    observes: ClassVar[tuple[str, ...]]
    """Which journal events it lets us see: of request, call, attempt, breaker, spend."""
    config: Config
    """`default` is its own quick start, `tuned` the best that its documentation allows."""
    is_outside: bool
    """Whether no process of ours is it: it is reached, and not started."""
    upstream_ports: Mapping[str, int]
    """Where it expects providers to be; those that are not named get a port that is free."""

    @property
    def label(self) -> str:
        """Its name, with the config where that is not the default one."""
        ...

    def install(self, progress: Progress) -> None:
        """Make sure that it is here, in an environment of its own. Raises ToolchainError."""
        ...

    def version(self) -> str:
        """Return its version, read from what is installed."""
        ...

    def unsupported(self, scenario: Scenario) -> list[str]:
        """Return what of the scenario it cannot do, one sentence each; empty when it can run it."""
        ...

    def settings(self, scenario: Scenario) -> dict[str, str]:
        """Return the settings in force by name, secrets masked. Raises ConfigurationError for a bad one."""
        ...

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """
        Return how to start one process of it, given the URL of each provider and, where there is one, of `redis`.

        It listens on `port`; one that prints a line of JSON takes one of its choice for 0, and says so there. `shared`
        lets other workers listen there too.
        """
        ...

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """Return how it is asked."""
        ...

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """Return where it listens, by the line of JSON that it printed or `port`; of one outside, by the upstreams."""
        ...


class SystemBase:
    """What systems have in common."""

    name: ClassVar[str]
    is_outside: bool = False
    upstream_ports: Mapping[str, int] = {}

    def __init__(self, config: Config = "default") -> None:
        self.config: Config = config

    @property
    def label(self) -> str:
        """See SystemUnderTest."""
        return self.name if self.config == "default" else f"{self.name}:{self.config}"

    def install(self, progress: Progress) -> None:
        """See SystemUnderTest: nothing is to be done for what comes with this package."""


def neutral(scenario: Scenario) -> dict[str, float]:
    """Return the scenario's neutral settings in seconds. Raises ConfigurationError for one that is no duration."""
    written = {name.lower(): value for name, value in scenario.system.settings.items()}
    chosen = {name: written[name] for name in NEUTRAL_SETTINGS if name in written}
    settings = Settings.from_mapping(chosen)
    found: dict[str, float] = {}
    for name in chosen:
        value = getattr(settings, name)
        if not isinstance(value, (int, float)):
            raise ConfigurationError(f"{name}: {value} is no duration")
        found[name] = float(value)
    return found

"""
What the harness needs to know of a system under test.

One module a system, all of this shape. A system is reached over HTTP at `/v1/chat/completions` and reaches the
providers only through the addresses it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from seawall.scenario.model import Scenario

__all__ = ["Launch", "SystemUnderTest"]


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How one process of the system is started. `environment` is added to the harness's own; it may hold keys."""

    argv: tuple[str, ...]
    environment: dict[str, str]


class SystemUnderTest(Protocol):
    """A gateway that the wire arena can start and judge."""

    name: ClassVar[str]
    observes: ClassVar[tuple[str, ...]]
    """Which journal events it lets us see: of request, call, attempt, breaker, spend."""

    def version(self) -> str:
        """Return its version."""
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

        It listens on `port`, on one of its choice for 0, and says so; `shared` lets other workers listen there too.
        """
        ...

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """Return where it listens, from the line of JSON that it printed when it was ready."""
        ...

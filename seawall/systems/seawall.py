"""Our own gateway as a system under test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from router.settings import Settings
from seawall.scenario.model import Scenario
from seawall.systems.base import Launch
from seawall.version import version

__all__ = ["SeawallSystem"]

_KEYS = dict.fromkeys(("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "emulated")
_ADDRESSES = {
    "gemini": "GEMINI_BASE_URL",
    "claude": "ANTHROPIC_BASE_URL",
    "openai": "OPENAI_BASE_URL",
    "local": "OLLAMA_HOST",
}


class SeawallSystem:
    """The gateway of this very package, one worker."""

    name: ClassVar[str] = "seawall"
    observes: ClassVar[tuple[str, ...]] = ("request", "call", "attempt", "breaker", "spend")

    def version(self) -> str:
        """See SystemUnderTest."""
        return version()

    def unsupported(self, scenario: Scenario) -> list[str]:
        """See SystemUnderTest."""
        return []

    def settings(self, scenario: Scenario) -> dict[str, str]:
        """See SystemUnderTest."""
        values = {name.upper(): str(value) for name, value in scenario.system.settings.items()}
        return Settings.from_mapping(_KEYS | values).shown()

    def render(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Launch:
        """
        See SystemUnderTest.

        Every setting is written out: what the machine's environment or a `.env` file says must not change a run.
        """
        values = Settings.from_mapping(
            {name.upper(): value for name, value in scenario.system.settings.items()}
            | {_ADDRESSES[provider]: url for provider, url in upstreams.items()}
        ).shown()
        # Keys are shown masked, so they come from here: emulated ones, or none where the scenario takes one away.
        written = {name.upper(): str(value) for name, value in scenario.system.settings.items()}
        keys = {name: written.get(name, value) for name, value in _KEYS.items()}
        environment = {name: value for name, value in values.items() if name not in _KEYS} | keys
        argv = (sys.executable, "-m", "seawall.gateway", "--host", "127.0.0.1", "--port", "0", "--ready-json")
        return Launch(argv=argv, environment=environment | {"SEAWALL_API_KEYS": ""})

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """See SystemUnderTest."""
        return f"http://127.0.0.1:{ready['port']}"

"""Our own gateway as a system under test."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from router.settings import Settings
from seawall.scenario.model import Scenario
from seawall.systems.base import Launch, SystemBase, Target
from seawall.version import version

__all__ = ["SeawallSystem"]

_KEYS = dict.fromkeys(("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "emulated")
_ADDRESSES = {
    "gemini": "GEMINI_BASE_URL",
    "claude": "ANTHROPIC_BASE_URL",
    "openai": "OPENAI_BASE_URL",
    "local": "OLLAMA_HOST",
    "redis": "REDIS_URL",
}
# docs/how-to/gateway.md: as long as a healthy answer may take, and no longer. A scenario's own value wins.
_TUNED = {"FIRST_BYTE_TIMEOUT": "2s", "IDLE_TIMEOUT": "2s", "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5s"}


class SeawallSystem(SystemBase):
    """The gateway of this very package; each worker is one process. Tuned is shorter timeouts, nothing else."""

    name: ClassVar[str] = "seawall"
    observes: ClassVar[tuple[str, ...]] = ("request", "call", "attempt", "breaker", "spend")

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest: it is asked as OpenAI is."""
        return Target()

    def version(self) -> str:
        """See SystemUnderTest."""
        return version()

    def unsupported(self, scenario: Scenario) -> list[str]:
        """See SystemUnderTest."""
        return []

    def settings(self, scenario: Scenario) -> dict[str, str]:
        """See SystemUnderTest."""
        values = {name: str(value) for name, value in self._written(scenario).items()}
        return dict(_shown(tuple((_KEYS | values).items())))

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """
        See SystemUnderTest.

        Every setting is written out: what the machine's environment or a `.env` file says must not change a run.
        """
        addresses = {_ADDRESSES[name]: url for name, url in upstreams.items() if name in _ADDRESSES}
        written = self._written(scenario)
        values = _shown(tuple((written | addresses).items()))
        # What is masked in what is shown comes from here: addresses, and keys, which a scenario may only take away.
        keys = {name: str(written.get(name, emulated)) for name, emulated in _KEYS.items()}
        environment = {name: value for name, value in values.items() if name not in _KEYS} | keys | addresses
        argv = (
            *(sys.executable, "-m", "seawall.gateway", "--host", "127.0.0.1", "--port", str(port), "--ready-json"),
            *(("--reuse-port",) if shared else ()),
        )
        environment |= _tracing(upstreams.get("collector")) | _sealing(scenario, upstreams.get("key_service"))
        return Launch(argv=argv, environment=environment | {"SEAWALL_API_KEYS": ""})

    def _written(self, scenario: Scenario) -> dict[str, Any]:
        tuned = _TUNED if self.config == "tuned" else {}
        return tuned | {name.upper(): value for name, value in scenario.system.settings.items()}

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """See SystemUnderTest."""
        return f"http://127.0.0.1:{ready['port']}"


def _tracing(collector_url: str | None) -> dict[str, str]:
    """Return OpenTelemetry's variables, where there is a collector: each request is traced, and soon told of."""
    if collector_url is None:
        return {}
    return {
        "OTEL_SDK_DISABLED": "false",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }


def _sealing(scenario: Scenario, key_service_url: str | None) -> dict[str, str]:
    """Return the settings of transcripts, where they are kept; the arena says in which folder."""
    if key_service_url is None or scenario.system.transcripts is None:
        return {}
    return {
        "TRANSCRIPTS": "transcripts/transcripts.db",
        "TRANSCRIPTS_KEY_STORE": "keys/keys.db",
        "TRANSCRIPTS_KEYS": "vault",
        "TRANSCRIPTS_VAULT_MOUNT": "transit",
        "TRANSCRIPTS_DOWN": scenario.system.transcripts,
        "TRANSCRIPTS_HEADER": "x-request-id",
        "VAULT_ADDR": key_service_url,
        "VAULT_TOKEN": "emulated",
    }


@lru_cache(maxsize=256)
def _shown(written: tuple[tuple[str, Any], ...]) -> dict[str, str]:
    """Return all settings as they are told. Kept, for a hunt asks for the same ones many times a second."""
    return Settings.from_mapping(dict(written)).shown()

"""TensorZero's gateway, as its Python package starts it: https://www.tensorzero.com/docs/gateway."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from seawall.scenario.model import Scenario
from seawall.systems.base import Launch, Target, neutral
from seawall.systems.foreign import API_KEY, MODELS, ForeignSystem, compatible, pip_into, venv_in
from seawall.toolchain import Progress
from seawall.toolchain.commands import capture

__all__ = ["TensorZeroSystem"]

_VERSION = "import importlib.metadata as m; print(m.version('tensorzero'))"
_SERVE = Path(__file__).with_name("serve.py")


class TensorZeroSystem(ForeignSystem):
    """One model, routed over the providers in our order. Its own image runs the same gateway as a program."""

    name: ClassVar[str] = "tensorzero"
    pinned: ClassVar[str] = "2026.6.0"

    def make(self, folder: Path, work: Path, progress: Progress) -> None:
        """See ForeignSystem."""
        pip_into(venv_in(folder, work, progress), work, progress, f"tensorzero=={self.pinned}")

    def version(self) -> str:
        """See SystemUnderTest."""
        return capture([str(self.place / "bin" / "python"), "-c", _VERSION]).strip()

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest. It takes a port of its own choice, whatever `port` says."""
        return Launch(
            argv=(str(self.place / "bin" / "python"), str(_SERVE), "tensorzero.toml"),
            environment={"EMULATED_KEY": API_KEY, "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1"},
            files={"tensorzero.toml": self._config(scenario, compatible(upstreams))},
        )

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest."""
        # https://www.tensorzero.com/docs/gateway/api-reference/inference-openai-compatible
        return Target(path="/openai/v1/chat/completions", model="tensorzero::model_name::chain")

    def _config(self, scenario: Scenario, providers: Mapping[str, str]) -> str:
        waits = neutral(scenario)
        if self.config == "tuned":
            waits = {"first_byte_timeout": 2.0} | waits
        # https://www.tensorzero.com/docs/gateway/guides/retries-fallbacks, "Model Provider Routing".
        lines = [
            "[gateway]",
            "observability.enabled = false",
            "[models.chain]",
            "routing = [" + ", ".join(f'"{name}"' for name in providers) + "]",
        ]
        wait_s = waits.get("first_byte_timeout", waits.get("total_timeout"))
        for name, url in providers.items():
            lines += [
                f"[models.chain.providers.{name}]",
                'type = "openai"',
                f'model_name = "{MODELS[name]}"',
                f'api_base = "{url}/"',
                'api_key_location = "env::EMULATED_KEY"',
            ]
            if wait_s is not None:
                # The same page, "Timeouts".
                wait_ms = round(wait_s * 1000)
                lines.append(
                    f"timeouts = {{ non_streaming.total_ms = {wait_ms}, streaming.ttft_ms = {wait_ms} }}",
                )
        return "\n".join([*lines, ""])

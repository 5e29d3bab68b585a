"""LiteLLM's proxy, from PyPI: https://docs.litellm.ai/docs/proxy/quick_start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from seawall.scenario.model import Scenario
from seawall.systems.base import Launch, Target, neutral
from seawall.systems.foreign import API_KEY, MODELS, ForeignSystem, as_json, compatible, pip_into, run_in, venv_in
from seawall.toolchain import Progress
from seawall.toolchain.commands import capture

__all__ = ["LiteLLMSystem"]

# What its metadata asks for cannot be had everywhere in exactly that version; these are as good for what we do.
_OVERRIDES = ("certifi>=2024.2.2", "litellm-proxy-extras>=0.4.1", "litellm-enterprise>=0.1")
_MASTER_KEY = "sk-emulated-for-one-run-0000000000000000"
_PROGRAM = "from litellm import run_server; run_server()"
_VERSION = "import importlib.metadata as m; print(m.version('litellm'))"


class LiteLLMSystem(ForeignSystem):
    """One model group a provider, and fallbacks from the first to the others in our order."""

    name: ClassVar[str] = "litellm"
    pinned: ClassVar[str] = "1.109.1"

    def recipe(self) -> object:
        """See ForeignSystem."""
        return (self.pinned, _OVERRIDES)

    def make(self, folder: Path, work: Path, progress: Progress) -> None:
        """See ForeignSystem. uv, because pip knows no overrides."""
        python = venv_in(folder, work, progress)
        helper = venv_in(work / "uv", work, progress)
        pip_into(helper, work, progress, "uv")
        overrides = work / "overrides.txt"
        overrides.write_text("\n".join(_OVERRIDES) + "\n", encoding="utf-8")
        argv = [str(helper.parent / "uv"), "pip", "install", "--python", str(python), f"litellm[proxy]=={self.pinned}"]
        run_in([*argv, "--override", str(overrides)], work, "installing LiteLLM", progress)

    def version(self) -> str:
        """See SystemUnderTest."""
        return capture([str(self.place / "bin" / "python"), "-c", _VERSION]).strip()

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest."""
        program = (str(self.place / "bin" / "python"), "-c", _PROGRAM)
        return Launch(
            argv=(*program, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)),
            # It asks GitHub for prices otherwise: nothing leaves this machine.
            environment={
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MASTER_KEY": _MASTER_KEY,
                "NO_PROXY": "127.0.0.1",
            },
            files={"config.yaml": as_json(self._config(scenario, compatible(upstreams)))},
            health="/health/liveliness",
            start_limit_s=120.0,
        )

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest. It does not start without a key of its own; this one opens nothing but a run."""
        return Target(headers={"authorization": f"Bearer {_MASTER_KEY}"}, model="gemini")

    def _config(self, scenario: Scenario, providers: Mapping[str, str]) -> dict[str, Any]:
        waits = neutral(scenario)
        first, *others = providers
        # https://docs.litellm.ai/docs/proxy/reliability, "Quick Start": the key change is `fallbacks`.
        router: dict[str, Any] = {"fallbacks": [{first: others}]}
        if self.config == "tuned":
            # The same page: no retry where somebody else can answer; one failure rests a deployment, and time-outs are
            # as short as a healthy answer allows.
            router |= {"num_retries": 0, "max_fallbacks": len(others), "allowed_fails": 1, "cooldown_time": 5}
            waits = {"first_byte_timeout": 2.0, "idle_timeout": 2.0} | waits
        # https://docs.litellm.ai/docs/proxy/timeout: `timeout` is of the whole call, `stream_timeout` of a stream's.
        if "circuit_breaker_recovery_timeout" in waits:
            router["cooldown_time"] = waits["circuit_breaker_recovery_timeout"]
        wait_s = waits.get("first_byte_timeout", waits.get("total_timeout"))
        timeouts = {} if wait_s is None else {"timeout": wait_s, "stream_timeout": wait_s}
        models = [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{MODELS[name]}", "api_base": url, "api_key": API_KEY, **timeouts},
            }
            for name, url in providers.items()
        ]
        return {"model_list": models, "router_settings": router}

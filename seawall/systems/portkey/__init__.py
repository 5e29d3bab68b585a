"""Portkey's open-source gateway, from npm: https://portkey.ai/docs/product/ai-gateway/fallbacks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from seawall.scenario.model import Scenario
from seawall.systems.base import Launch, Target, neutral
from seawall.systems.foreign import API_KEY, MODELS, ForeignSystem, as_json, compatible, run_in
from seawall.toolchain import Progress
from seawall.toolchain.commands import CommandFailed

__all__ = ["PortkeySystem"]

_PACKAGE = "@portkey-ai/gateway"
# With the newer one that its metadata allows, this version cannot stream.
_OVERRIDES = {"@hono/node-server": "1.14.1"}


class PortkeySystem(ForeignSystem):
    """One fallback strategy over the providers in our order, which goes with each request as its documentation says."""

    name: ClassVar[str] = "portkey"
    pinned: ClassVar[str] = "1.15.2"

    def recipe(self) -> object:
        """See ForeignSystem."""
        return (self.pinned, _OVERRIDES)

    def make(self, folder: Path, work: Path, progress: Progress) -> None:
        """See ForeignSystem."""
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise CommandFailed("node and npm are not on PATH; install Node 18 or newer")
        package = {"name": "portkey-under-test", "private": True, "dependencies": {_PACKAGE: self.pinned}}
        (folder / "package.json").write_text(as_json(package | {"overrides": _OVERRIDES}), encoding="utf-8")
        argv = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        run_in(argv, work, "installing Portkey's gateway", progress)

    def version(self) -> str:
        """See SystemUnderTest."""
        return str(msgspec.json.decode((self._home / "package.json").read_bytes())["version"])

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest."""
        # npx @portkey-ai/gateway runs this very file; --headless leaves its console page out.
        argv = ("node", str(self._home / "build" / "start-server.js"), f"--port={port}", "--headless")
        files = {"config.json": as_json(self._config(scenario, compatible(upstreams)))}
        return Launch(argv=argv, files=files, health="/")

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest."""
        config = msgspec.json.encode(self._config(scenario, compatible(upstreams))).decode()
        return Target(headers={"x-portkey-config": config}, model="gemini")

    @property
    def _home(self) -> Path:
        return self.place / "node_modules" / "@portkey-ai" / "gateway"

    def _config(self, scenario: Scenario, providers: Mapping[str, str]) -> dict[str, Any]:
        waits = neutral(scenario)
        # https://portkey.ai/docs/product/ai-gateway/fallbacks: any status but 2xx goes on to the next target.
        config: dict[str, Any] = {"strategy": {"mode": "fallback"}}
        if self.config == "tuned":
            # https://portkey.ai/docs/product/ai-gateway/request-timeouts and …/automatic-retries: no retry where
            # somebody else can answer.
            config["retry"] = {"attempts": 0}
            waits = {"first_byte_timeout": 2.0} | waits
        wait_s = waits.get("first_byte_timeout", waits.get("total_timeout"))
        timeout = {} if wait_s is None else {"request_timeout": round(wait_s * 1000)}
        config["targets"] = [
            {
                "provider": "openai",
                "api_key": API_KEY,
                "custom_host": url,
                "override_params": {"model": MODELS[name]},
                **timeout,
            }
            for name, url in providers.items()
        ]
        return config

"""
Bifrost's core, from Go's module proxy, behind a small HTTP server of ours: https://docs.getbifrost.ai.

Its own HTTP server comes as a program that its npm package downloads when it is run, so it is not what is measured
here: retries, fallbacks and time-outs are the core's, and what turns HTTP into its calls is `server/main.go`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from seawall.scenario.model import Scenario
from seawall.systems.base import Launch, neutral
from seawall.systems.foreign import API_KEY, MODELS, ForeignSystem, as_json, run_in
from seawall.toolchain import Progress, golang
from seawall.toolchain.store import Store

__all__ = ["BifrostSystem"]

_SOURCE = Path(__file__).with_name("server")
_SOURCES = ("go.mod", "go.sum", "main.go")
_MINIMUM_GO = (1, 26)
_MODULE = "github.com/maximhq/bifrost/core"


class BifrostSystem(ForeignSystem):
    """One provider of OpenAI's kind for each of ours, the first asked and the others its fallbacks."""

    name: ClassVar[str] = "bifrost"
    pinned: ClassVar[str] = "1.6.0"

    def recipe(self) -> object:
        """See ForeignSystem."""
        return [hashlib.sha256((_SOURCE / name).read_bytes()).hexdigest() for name in _SOURCES]

    def make(self, folder: Path, work: Path, progress: Progress) -> None:
        """See ForeignSystem."""
        go = golang.take(_MINIMUM_GO, Store(self.place.parent), progress)
        module = work / "module"
        module.mkdir()
        for name in _SOURCES:
            (module / name).write_bytes((_SOURCE / name).read_bytes())
        argv = [str(go.program), "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false"]
        environment = golang.environment(go, work)
        run_in([*argv, "-o", str(folder / "server"), "."], module, "building Bifrost's core", progress, environment)

    def version(self) -> str:
        """See SystemUnderTest: of the core, as the module file has it that it was built from."""
        words = (_SOURCE / "go.mod").read_text(encoding="utf-8").split()
        return words[words.index(_MODULE) + 1].removeprefix("v") + " (core)"

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest. It takes a port of its own choice, whatever `port` says."""
        files = {"config.json": as_json(self._config(scenario, upstreams))}
        return Launch(argv=(str(self.place / "server"), "config.json"), files=files)

    def _config(self, scenario: Scenario, upstreams: Mapping[str, str]) -> dict[str, Any]:
        waits = neutral(scenario)
        if self.config == "tuned":
            waits = {"first_byte_timeout": 2.0, "idle_timeout": 2.0} | waits
        # https://docs.getbifrost.ai/features/retries-and-fallbacks: no retries unless asked for (max_retries 0), which
        # is the best where somebody else can answer. Time-outs are in whole seconds there; 0 is the core's default.
        wait_s = waits.get("first_byte_timeout", waits.get("total_timeout", 0.0))
        return {
            "upstreams": [
                {"name": f"chain-{name}", "base_url": upstreams[name], "model": model, "api_key": API_KEY}
                for name, model in MODELS.items()
                if name in upstreams
            ],
            "request_timeout_s": math.ceil(wait_s),
            "stream_idle_timeout_s": math.ceil(waits.get("idle_timeout", 0.0)),
            "max_retries": 0,
        }

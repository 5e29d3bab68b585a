"""What gateways of others have in common: judged from both ends, installed from a registry, configured by files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from seawall.paths import cache_dir
from seawall.scenario.model import PROVIDERS, Scenario
from seawall.systems.base import COMPATIBLE_PATHS, NEUTRAL_SETTINGS, SystemBase, Target, neutral
from seawall.toolchain import Progress, ToolchainError
from seawall.toolchain.commands import CommandFailed, run
from seawall.toolchain.store import Store

__all__ = ["API_KEY", "MODELS", "ForeignSystem", "as_json", "compatible", "pip_into", "run_in", "venv_in"]

API_KEY = "emulated"
"""What stands where a provider's key belongs: the emulators take any."""
MODELS = {"gemini": "gemini-2.5-flash", "claude": "claude-haiku-4-5", "openai": "gpt-4o", "local": "llama3"}
"""The model that each provider is asked for."""
_PROCESS_LIMIT_S = 1200.0
_NEUTRAL = frozenset(NEUTRAL_SETTINGS)


class ForeignSystem(SystemBase):
    """
    A gateway of others.

    A subclass says its `version`, how to `render` it, and, where it comes from a registry, how it is made (`make`) and
    where its program is then. Its chain is ours: gemini, claude, openai, local, each in OpenAI's format.
    """

    observes: ClassVar[tuple[str, ...]] = ("request", "call")
    pinned: ClassVar[str] = ""
    """The version that is installed."""
    preferred: ClassVar[tuple[str, ...]] = ("gemini", "seawall")
    """The `model`s of a scenario that mean the beginning of the chain."""

    @property
    def place(self) -> Path:
        """The folder that it is installed in."""
        recipe = hashlib.sha256(repr(self.recipe()).encode()).hexdigest()[:12]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return cache_dir() / "systems" / f"{self.name}-{self.pinned}-py{python}-{recipe}"

    def recipe(self) -> object:
        """Return what decides how it is made: something else makes it again."""
        return self.pinned

    def make(self, folder: Path, work: Path, progress: Progress) -> None:
        """Make it in `folder`, with `work` for what is not kept. Raises CommandFailed or OSError."""
        raise NotImplementedError

    def install(self, progress: Progress) -> None:
        """See SystemUnderTest."""
        if self.place.is_dir():
            return
        store = Store(self.place.parent)
        title = f"{self.name} {self.pinned}"
        try:
            with store.lock(self.name, title, progress):
                if self.place.is_dir():
                    return
                progress(f"installing {title} from its registry, the first time only")
                with store.workshop(self.name) as work:
                    made = work / "out"
                    made.mkdir()
                    self.make(made, work, progress)
                    store.publish(made, self.place.name)
        except (CommandFailed, OSError, subprocess.SubprocessError) as error:
            raise ToolchainError(
                title,
                tried=[f"installing it into {self.place}: {error}"],
                ways_out=["reach its registry (pip, npm or Go's proxy), and try again", "leave it out"],
            ) from error

    def version(self) -> str:
        """See SystemUnderTest."""
        return self.pinned

    def unsupported(self, scenario: Scenario) -> list[str]:
        """See SystemUnderTest."""
        found: list[str] = []
        special = sorted(name for name in scenario.system.settings if name.lower() not in _NEUTRAL)
        if special:
            found.append(f"{', '.join(special)}: settings that only Seawall has")
        if scenario.load.model not in self.preferred:
            found.append(f"model {scenario.load.model}: it is configured for the chain that begins with gemini")
        if scenario.system.transcripts:
            found.append("transcripts, which only Seawall keeps")
        if scenario.system.workers > 1:
            found.append(f"{scenario.system.workers} workers: it is run as one process")
        own = sorted({fault.target for fault in scenario.faults} - {*PROVIDERS, "gateway", "toxiproxy"})
        if own:
            found.append(f"faults at {', '.join(own)}, which is Seawall's own")
        if self.is_outside and any(fault.target == "gateway" for fault in scenario.faults):
            found.append("faults at gateway: it is no process of ours")
        return found

    def settings(self, scenario: Scenario) -> dict[str, str]:
        """See SystemUnderTest. Its config file is in the run's folder."""
        waits = {name.upper(): f"{value:g}s" for name, value in neutral(scenario).items()}
        return {"config": self.config, **waits}

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest."""
        return Target(model="gemini")

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """See SystemUnderTest."""
        return f"http://127.0.0.1:{ready['port']}"


def compatible(upstreams: Mapping[str, str]) -> dict[str, str]:
    """Return the base URL of each provider's endpoint in OpenAI's format, in the order of the chain."""
    return {name: upstreams[name].rstrip("/") + COMPATIBLE_PATHS[name] for name in PROVIDERS if name in upstreams}


def venv_in(folder: Path, work: Path, progress: Progress) -> Path:
    """Make a virtual environment and return its Python. Raises CommandFailed."""
    run_in([sys.executable, "-m", "venv", str(folder)], work, "making a virtual environment", progress)
    return folder / "bin" / "python"


def pip_into(python: Path, work: Path, progress: Progress, *requirements: str) -> None:
    """Install from the package index that pip is configured for. Raises CommandFailed."""
    argv = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    run_in(argv, work, f"installing {requirements[-1]}", progress)


def run_in(
    argv: list[str], work: Path, doing: str, progress: Progress, environment: Mapping[str, str] | None = None
) -> None:
    """Run a long command of an installation in the folder `work`. Raises CommandFailed."""
    run(
        argv,
        env=os.environ if environment is None else environment,
        cwd=work,
        doing=doing,
        limit_s=_PROCESS_LIMIT_S,
        progress=progress,
    )


def as_json(value: object) -> str:
    """Return `value` as indented JSON, which YAML is a superset of."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()

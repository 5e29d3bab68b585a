"""No gateway at all: the client asks the first provider itself. The floor that overhead is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from seawall.scenario.model import Scenario
from seawall.systems.base import COMPATIBLE_PATHS, Launch, Target
from seawall.systems.foreign import API_KEY, MODELS, ForeignSystem
from seawall.toolchain import Progress
from seawall.version import version

__all__ = ["DirectSystem"]

_FIRST = "gemini"


class DirectSystem(ForeignSystem):
    """The first provider behind its proxy. It cannot fail over, and nothing is held against it but that."""

    name: ClassVar[str] = "direct"
    is_outside: bool = True

    def install(self, progress: Progress) -> None:
        """See SystemUnderTest: there is nothing."""

    def version(self) -> str:
        """See SystemUnderTest: the emulators are of this package."""
        return version()

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest: it is not started."""
        raise NotImplementedError

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest."""
        return Target(
            path=f"{COMPATIBLE_PATHS[_FIRST]}/chat/completions",
            headers={"authorization": f"Bearer {API_KEY}"},
            model=MODELS[_FIRST],
        )

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """See SystemUnderTest."""
        return str(ready[_FIRST])

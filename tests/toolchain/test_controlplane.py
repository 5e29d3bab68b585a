"""The build of the control plane, with a Go that only pretends: what is kept, what is told, what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from seawall.toolchain import ToolchainError, controlplane

Script = Callable[..., Path]

GO = """
case "$1" in
    env) echo go1.99.{patch} ;;
    list) printf 'go: downloading a/module v1.0.0\\na\\na/b\\na/c\\nd\\n' ;;
    build)
        while [ "$1" != -o ]; do shift; done
        out=$2
        mkdir -p "$GOMODCACHE/github.com/chaos-mesh/chaos-mesh@v1/helm/chaos-mesh/crds"
        cd "$GOMODCACHE/github.com/chaos-mesh/chaos-mesh@v1"
        touch LICENSE
        cp {crd} helm/chaos-mesh/crds/chaos-mesh.org_podchaos.yaml
        {then}
        for name in localcluster chaos-controller-manager; do
            printf '#!/bin/sh\\n' > "$out$name"
            chmod 755 "$out$name"
        done
        echo x >> {count}
        ;;
esac
"""
CRD = """
kind: CustomResourceDefinition
spec:
  description: long words
  properties:
    description: {type: string, description: a property of that name}
"""


@pytest.fixture
def go(tmp_path: Path, cache: Path, on_path: Script) -> Callable[..., Path]:
    """Put a Go on PATH, of version 1.99.`patch`, that does `then` in mid-build; return where it counts its builds."""
    assert not cache.exists()
    (tmp_path / "crd.yaml").write_text(CRD)

    def put(patch: int = 1, then: str = "true") -> Path:
        count = tmp_path / "count"
        on_path("go", GO.format(patch=patch, crd=tmp_path / "crd.yaml", count=count, then=then))
        return count

    return put


def left_in(cache: Path) -> list[str]:
    """Return what is in the cache but for locks."""
    return sorted(path.name for path in (cache / "toolchain").iterdir() if path.suffix != ".lock")


def test_it_is_built_once_for_each_go_and_source(go: Callable[..., Path], cache: Path, said: list[str]) -> None:
    """The second build finds the first; another Go builds anew, and what it built goes first; no caches are left."""
    count = go()
    assert controlplane.find() is None
    made = controlplane.build(progress=said.append)
    assert made.program.is_file()
    assert made.chaos_program.is_file()
    assert made.facts["packages"] == 4
    assert said[0].startswith("building the control plane with go1.99.1 from PATH: about ")
    said.clear()
    assert controlplane.build(progress=said.append) == made
    assert said == []
    assert count.read_text() == "x\n"
    assert left_in(cache) == [made.folder.name]
    go(patch=2)
    assert controlplane.find() == made
    again = controlplane.build(progress=said.append)
    assert again != made
    assert controlplane.find() == again


def test_the_kinds_are_kept_without_their_descriptions(go: Callable[..., Path], said: list[str]) -> None:
    """Words go, a property that is called `description` stays."""
    go()
    (kind,) = controlplane.build(progress=said.append).crds.iterdir()
    assert kind.name == "chaos-mesh.org_podchaos.json"
    assert json.loads(kind.read_text()) == {
        "kind": "CustomResourceDefinition",
        "spec": {"properties": {"description": {"type": "string"}}},
    }


def test_a_build_that_fails_says_why_and_leaves_nothing(go: Callable[..., Path], cache: Path, said: list[str]) -> None:
    """The end of the compiler's output is in the error, with the ways out."""
    go(then="echo main.go: no such thing; exit 1")
    with pytest.raises(ToolchainError, match=r"exit code 1: main\.go: no such thing(.|\n)*GOPROXY"):
        controlplane.build(progress=said.append)
    assert left_in(cache) == []


def test_a_disk_that_is_too_full_is_told_before(
    go: Callable[..., Path], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less than 6 GB free nothing is begun."""
    count = go()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=5_900_000_000))
    with pytest.raises(ToolchainError, match=r"5\.9 GB free, and 6 GB are needed"):
        controlplane.build(progress=said.append)
    assert not count.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(
    go: Callable[..., Path], cache: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM in mid-build: exit code 130, the compiler is gone, and so is all that it wrote."""
    pid_file = tmp_path / "pid"
    go(then=f"echo $$ > {pid_file}; exec sleep 60")
    command = [sys.executable, "-m", "seawall", "cluster", "build"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as started:
        limit = time.monotonic() + 30
        while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
            assert time.monotonic() < limit
            assert started.poll() is None
            time.sleep(0.02)
        started.send_signal(number)
        started.communicate(timeout=20)
    assert started.returncode == 130
    assert left_in(cache) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.mark.parametrize(("done", "elapsed_s"), [(0, 5.0), (2, 20.0), (100, 400.0)])
def test_progress_tells_how_far_it_is(tmp_path: Path, done: int, elapsed_s: float) -> None:
    """Packages done of all, the time so far, and a guess of what is left that is never below 15 s."""
    log = tmp_path / "log"
    log.write_text("go: downloading x v1\n" + "package\n" * done)
    told = controlplane._status(log, elapsed_s, 100)
    assert told.startswith(f"{done} of 100 packages after {elapsed_s:.0f} s, about ")
    assert int(told.split("about ")[1].split(" ")[0]) >= 15

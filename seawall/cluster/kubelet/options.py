"""What a kubelet can be told on its command line, and which commands its pods may run."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from router.errors import ConfigurationError
from seawall.cluster.kubelet.probes import Unsupported
from seawall.cluster.kubelet.quantities import number

__all__ = ["CONTROL", "ForcedDeletion", "Options", "command_of", "parse_options"]

CONTROL = "control.json"
"""The file in the kubelet's folder that its running self takes orders from; see `seawall.cluster.kubelet.control`."""

ForcedDeletion = Literal["like-kubelet", "at-once"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a kubelet behaves. Times in seconds."""

    state: Path
    """The cluster's state folder; the kubelet's own is `kubelet` in it."""
    nodes: int = 1
    cpu: str = "4"
    memory: str = "16Gi"
    pods: int = 110
    """What each node says that it has: the scheduler reckons with it, nothing holds a process to it."""
    commands: Mapping[str, str] = {}
    """Name or absolute path that a pod may name → the program that is run, besides `seawall` and `python`."""
    backoff_scale: float = 1.0
    """Factor of CrashLoopBackOff's 10 to 300 s."""
    eager_probe_s: float = 0.0
    """Until a container's first success, ask its startup or readiness probe this often; 0: as often as it says."""
    forced_deletion: ForcedDeletion = "like-kubelet"
    """`at-once` kills at grace 0 with no SIGTERM: a node's death rather than a kubelet's doing."""
    cpu_window_s: float = 4.0
    reconcile_s: float = 5.0
    metrics: bool = True
    load_balancer: bool = True

    @property
    def folder(self) -> Path:
        """Where the kubelet keeps what is its own."""
        return self.state / "kubelet"

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of its nodes."""
        return tuple(f"seawall-{number}" for number in range(1, self.nodes + 1))

    @property
    def allocatable(self) -> dict[str, str]:
        """What a node has."""
        return {"cpu": self.cpu, "memory": self.memory, "pods": str(self.pods), "ephemeral-storage": "16Gi"}


def command_of(words: Sequence[str], commands: Mapping[str, str]) -> list[str]:
    """
    Return what is run for a pod's command. Raises Unsupported when its first word is on no list.

    A kubelet runs whatever a pod names, as the user who started it. So only our Python (`python`, `python3` or its
    path), the command `seawall`, and what `commands` holds are run; the image is never looked at.
    """
    if not words:
        raise Unsupported("a container must have a command: there is no image to take one from")
    name, *arguments = words
    if name in commands:
        return [commands[name], *arguments]
    if name in {"python", "python3", sys.executable}:
        return [sys.executable, *arguments]
    if name == "seawall":
        return [sys.executable, "-m", "seawall", *arguments]
    known = ", ".join(["seawall", "python", *sorted(commands)])
    raise Unsupported(f"the command {name!r} is not allowed; allowed are {known}, and what --allow NAME=PATH adds")


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Read the command line; ends the process with 2 on a bad one, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m seawall.cluster.kubelet", description="Run the pods of a local cluster as processes."
    )
    parser.add_argument("--state", type=Path, required=True, help="the cluster's state folder")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--cpu", default="4", help="of each node")
    parser.add_argument("--memory", default="16Gi", help="of each node")
    parser.add_argument("--pods", type=int, default=110, help="of each node")
    parser.add_argument("--allow", action="append", default=[], metavar="NAME=PATH", help="another command of pods")
    parser.add_argument("--backoff-scale", type=float, default=1.0, help="factor of CrashLoopBackOff's times")
    parser.add_argument("--eager-probe", type=float, default=0.0, metavar="SECONDS", help="between first probes")
    parser.add_argument("--forced-deletion", choices=get_args(ForcedDeletion), default="like-kubelet")
    parser.add_argument("--cpu-window", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--no-metrics", action="store_true", help="serve no metrics.k8s.io")
    parser.add_argument("--no-load-balancer", action="store_true")
    said = parser.parse_args(argv)
    try:
        return _options(said)
    except ConfigurationError as error:
        parser.error(str(error))


def _options(said: argparse.Namespace) -> Options:
    problems: list[str] = []
    for name, quantity in (("--cpu", said.cpu), ("--memory", said.memory)):
        try:
            number(quantity)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    limits = {
        "nodes": (1, 50),
        "pods": (1, 1000),
        "backoff_scale": (0, 10),
        "eager_probe": (0, 60),
        "cpu_window": (1, 120),
    }
    for name, (least, most) in limits.items():
        if not least <= getattr(said, name) <= most:
            problems.append(f"--{name.replace('_', '-')} must be from {least} to {most}")
    commands: dict[str, str] = {}
    allowed: list[str] = said.allow
    for entry in allowed:
        name, _, path = entry.partition("=")
        program = shutil.which(path or name)
        if program is None:
            problems.append(f"--allow {entry}: {path or name} is no program that can be run")
        else:
            commands[name] = os.path.abspath(program)  # noqa: PTH100 - a link's name is what some programs go by
    if problems:
        raise ConfigurationError(*problems)
    return Options(
        state=said.state.absolute(),
        nodes=said.nodes,
        cpu=said.cpu,
        memory=said.memory,
        pods=said.pods,
        commands=commands,
        backoff_scale=said.backoff_scale,
        eager_probe_s=said.eager_probe,
        forced_deletion=said.forced_deletion,
        cpu_window_s=said.cpu_window,
        metrics=not said.no_metrics,
        load_balancer=not said.no_load_balancer,
    )

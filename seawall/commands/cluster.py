"""`seawall cluster build|up|status|down|kubectl`: the local cluster, a control plane without containers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from seawall.cluster.access import Access
from seawall.cluster.background import Status, default_state, down, status, up
from seawall.cluster.components import HpaTimings
from seawall.cluster.errors import ClusterError
from seawall.scenario.quantities import parse_duration
from seawall.screen import Screen, complain
from seawall.toolchain import ToolchainError, controlplane, resolve

__all__ = ["cluster"]

_BAD_USAGE = 2
_MISSING = 3
_NOT_HEALTHY = 1
_INTERRUPTED = 130
_SAID_EVERY_S = 15.0


def cluster(options: Any) -> int:
    """
    Do what `options.action` says.

    0: done; `status` gives 0 only for a cluster that is up. 1: it is not. 2: usage. 3: not built, or it did not come
    up. 130: interrupted, and what was begun is taken back.
    """
    # A SIGTERM is to leave as little behind as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    if options.action != "kubectl" and options.arguments:
        complain(f"seawall cluster {options.action}: takes no {options.arguments[0]!r}; see seawall cluster --help")
        return _BAD_USAGE
    try:
        state = (options.state or default_state()).absolute()
        return _ACTIONS[options.action](options, state)
    except (ClusterError, ToolchainError) as error:
        complain(f"seawall cluster {options.action}: {error}")
        return _MISSING
    except OSError as error:
        complain(f"seawall cluster {options.action}: {error}; choose another folder with --state")
        return _MISSING
    except KeyboardInterrupt:
        complain("seawall cluster: interrupted; what was begun is taken back")
        return _INTERRUPTED


def _build(_options: Any, _state: Path) -> int:
    screen = Screen()
    made = controlplane.build(progress=_progress(screen))
    screen.show("build", None)
    facts = made.facts
    screen.write(f"Kubernetes {facts['kubernetes']}, built with {facts['go']} in {facts['seconds']:.0f} s")
    screen.write(str(made.folder))
    return 0


def _up(options: Any, state: Path) -> int:
    screen = Screen()
    try:
        timings = HpaTimings(
            sync_period_s=parse_duration(options.sync_period),
            downscale_stabilization_s=parse_duration(options.downscale_stabilization),
        )
    except ValueError as error:
        complain(f"seawall cluster up: {error}")
        return _BAD_USAGE
    began = time.monotonic()
    started = up(
        state,
        timings=timings,
        nodes=options.nodes,
        tell=lambda line: screen.write(f"  {time.monotonic() - began:4.1f} s  {line}"),
    )
    now = status(state)
    words = f"up after {now.started_in_s or 0:.1f} s" if started else "it was up already"
    screen.write(f"{words}: {now.memory_mib:.0f} MiB; export KUBECONFIG={now.kubeconfig}")
    return 0


def _status(options: Any, state: Path) -> int:
    now, screen = status(state), Screen()
    if options.json:
        screen.write(msgspec.json.encode(now).decode())
    else:
        _show(now, screen)
    return 0 if now.state == "up" else _NOT_HEALTHY


def _down(_options: Any, state: Path) -> int:
    screen = Screen()
    screen.write("the cluster is down" if down(state, tell=screen.write) else "no cluster was up")
    return 0


def _kubectl(options: Any, state: Path) -> NoReturn:
    access = Access.load(state)
    program = resolve("kubectl").path
    assert program is not None  # noqa: S101 - a program has no address
    # In our place, so that its exit code, its output and Ctrl-C are all its own.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execv(program, ["kubectl", f"--kubeconfig={access.kubeconfig}", *options.arguments])  # noqa: S606


_ACTIONS: dict[str, Callable[[Any, Path], int]] = {
    "build": _build,
    "up": _up,
    "status": _status,
    "down": _down,
    "kubectl": _kubectl,
}


def _show(now: Status, screen: Screen) -> None:
    if now.state == "down":
        screen.write(f"down: no cluster in {now.folder}; start one with `seawall cluster up`")
        return
    screen.write(f"{'part':26} {'pid':>7} {'port':>6}  {'health':9} {'MiB':>6}")
    for part in now.parts:
        port = next(iter(part.ports.values()), None)
        health = "healthy" if part.healthy else "no answer" if part.pid else "not there"
        memory = "" if part.memory_kib is None else f"{part.memory_kib / 1024:.0f}"
        screen.write(f"{part.name:26} {part.pid or '':>7} {port or '':>6}  {health:9} {memory:>6}")
    took = f", started in {now.started_in_s:.1f} s" if now.started_in_s is not None else ""
    screen.write(f"{now.state}{took}; {now.memory_mib:.0f} MiB with its keeper; {now.api_url or now.folder}")
    if now.state == "killed":
        screen.write(f"its keeper is gone; logs are in {now.folder}/logs; `seawall cluster down` or `up` cleans up")


def _progress(screen: Screen) -> Callable[[str], None]:
    """Return what takes the build's lines: those of a wait are drawn in place, or told once in a while."""
    told = time.monotonic()

    def progress(line: str) -> None:
        nonlocal told
        waiting = line.startswith("still ")
        if waiting and screen.is_live:
            screen.show("build", line)
        elif not waiting or time.monotonic() - told >= _SAID_EVERY_S:
            told = time.monotonic()
            screen.write(line)

    return progress


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt

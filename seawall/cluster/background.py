"""A cluster that outlives the command: started, looked at and ended by its state folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from faults.pids import kill_exactly
from seawall.cluster.components import HpaTimings
from seawall.cluster.errors import ClusterError
from seawall.cluster.health import answers, memory_kib
from seawall.cluster.local import DEADLINE_S, PARTS
from seawall.cluster.record import Record, is_locked, lock_of, sweep
from seawall.paths import state_dir
from seawall.toolchain.controlplane import find

__all__ = ["PartStatus", "Status", "default_state", "down", "status", "up"]

Tell = Callable[[str], None]

_POLL_S = 0.1
_END_S = 30.0
_KILLED_S = 10.0


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One part as it is now. `memory_kib` is None when it cannot be told."""

    name: str
    pid: int | None
    ports: dict[str, int]
    healthy: bool
    memory_kib: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """
    A cluster as it is now. `state`: `down`, `starting`, `up`, `unhealthy` or `killed` (its owner is gone).

    `started_in_s` is how long its start took; `memory_mib` is of all parts and of the process that owns them.
    """

    state: str
    folder: str
    kubeconfig: str | None = None
    api_url: str | None = None
    started_in_s: float | None = None
    memory_mib: float = 0.0
    parts: tuple[PartStatus, ...] = ()


def default_state() -> Path:
    """Return the state folder of the cluster that `seawall cluster up` starts. Raises OSError."""
    return state_dir() / "cluster"


def up(state: Path, *, timings: HpaTimings | None = None, nodes: int = 0, tell: Tell) -> bool:
    """
    Start a cluster that outlives this process, and return when it is ready: True, or False when it ran already.

    With `nodes` a kubelet runs pods as processes on so many; with none there is only the control plane.
    What a killed one left is swept first. Interrupted, it ends what it began. Raises ClusterError.
    """
    if _await_running(state):
        return False
    if find() is None:
        raise ClusterError("the control plane is not built; run `seawall cluster build` once (about 9 minutes)")
    timings = timings or HpaTimings()
    command = [
        *(sys.executable, "-m", "seawall.cluster.keeper", "--state", str(state)),
        *("--sync-period", f"{timings.sync_period_s:g}"),
        *("--downscale-stabilization", f"{timings.downscale_stabilization_s:g}", "--nodes", str(nodes)),
    ]
    state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = state.with_name(f"{state.name}.log")
    with log.open("wb") as errors:
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Of its own: Ctrl-C at the terminal and the end of the shell are not for it.
            start_new_session=True,
            cwd="/",
        )
    try:
        _follow(keeper, log, tell)
    except BaseException as error:
        keeper.terminate()
        try:
            keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        if not isinstance(error, ClusterError):  # of one that failed, the logs stay until the next start
            down(state, tell=tell)
        raise
    keeper.returncode = 0  # it goes on: nobody here is to wait for it
    return True


def down(state: Path, *, tell: Tell) -> bool:
    """
    End the cluster and remove its folder; False when there was nothing. Raises ClusterError when it cannot be ended.

    Only processes that the record names by pid and start time are ended.
    """
    was_there = state.exists()
    if is_locked(state):
        record = Record.load(state)
        if record is None:
            raise ClusterError(f"{state} is just being made by another process; repeat in a moment")
        kill_exactly(record.owner.pid, record.owner.started, signal.SIGTERM)
        if not _freed(state, _END_S):
            tell(f"the owner (pid {record.owner.pid}) does not end; killing it")
            kill_exactly(record.owner.pid, record.owner.started)
            if not _freed(state, _KILLED_S):
                raise ClusterError(f"the owner of {state} (pid {record.owner.pid}) cannot be ended")
    lock = lock_of(state)
    if lock < 0:
        raise ClusterError(f"{state} was started again meanwhile")
    try:
        for name in sweep(state):
            tell(f"{name} was left running by a cluster that was killed; ended")
    finally:
        os.close(lock)
    return was_there


def status(state: Path) -> Status:
    """Look at the cluster: which parts run, whether they answer, and how much memory they take."""
    record, folder = Record.load(state), str(state)
    if record is None:
        return Status(state="starting" if is_locked(state) else "down", folder=folder)
    return asyncio.run(_status(state, record, is_locked(state)))


async def _status(state: Path, record: Record, owned: bool) -> Status:
    ports = {name: port for part in record.parts for name, port in part.ports.items()}
    running = {part.name: part for part in record.parts if part.runs}
    # The kubelet has no page of health: it runs, or its pods are gone too.
    asked = [name for name in running if name in PARTS]
    healths = await asyncio.gather(*(answers(name, state, ports) for name in asked))
    healthy = dict.fromkeys(running, True) | dict(zip(asked, healths, strict=True))
    names = [*PARTS, *(part.name for part in record.parts if part.name not in PARTS)]
    parts = tuple(
        PartStatus(
            name=name,
            pid=running[name].pid if name in running else None,
            ports=running[name].ports if name in running else {},
            healthy=healthy.get(name, False),
            memory_kib=memory_kib(running[name].pid) if name in running else None,
        )
        for name in names
    )
    owner_kib = (memory_kib(record.owner.pid) or 0) if record.owner.runs else 0
    if not owned:
        word = "killed"
    elif record.seconds is None:
        word = "starting"
    else:
        word = "up" if all(part.healthy for part in parts) else "unhealthy"
    port = ports.get("kube-apiserver")
    return Status(
        state=word,
        folder=str(state),
        kubeconfig=str(state / "kubeconfig") if (state / "kubeconfig").exists() else None,
        api_url=None if port is None else f"https://127.0.0.1:{port}",
        started_in_s=record.seconds,
        memory_mib=round((sum(part.memory_kib or 0 for part in parts) + owner_kib) / 1024, 1),
        parts=parts,
    )


def _await_running(state: Path) -> bool:
    """Tell whether a cluster runs there; wait for one that is just starting. Raises ClusterError at the deadline."""
    limit = time.monotonic() + DEADLINE_S
    while is_locked(state):
        record = Record.load(state)
        if record is not None and record.seconds is not None:
            return True
        if time.monotonic() >= limit:
            raise ClusterError(f"the cluster in {state} is still starting; end it with `seawall cluster down`")
        time.sleep(_POLL_S)
    return False


def _follow(keeper: subprocess.Popen[bytes], log: Path, tell: Tell) -> None:
    """Tell what the keeper says until the cluster is ready. Raises ClusterError when it does not come up."""
    assert keeper.stdout is not None  # noqa: S101 - a pipe was asked for
    with keeper.stdout as lines:
        for line in lines:
            said = cast("dict[str, Any]", json.loads(line))
            if "ready" in said:
                return
            if "failed" in said:
                raise ClusterError(str(said["failed"]))
            tell(str(said["told"]))
    end = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["nothing was said"]
    raise ClusterError(f"the cluster's keeper ended before it was ready: {end[0]}; see {log}")


def _freed(state: Path, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while is_locked(state):
        if time.monotonic() >= limit:
            return False
        time.sleep(_POLL_S)
    return True

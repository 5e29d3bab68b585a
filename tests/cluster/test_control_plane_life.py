"""How a cluster begins and ends: interrupted, killed, on taken ports, beside processes that are none of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from faults.pids import sighting
from seawall.cluster import ClusterError, LocalCluster, local
from seawall.cluster.background import down, status, up
from seawall.cluster.record import Record, is_locked, lock_of, sweep
from seawall.processes import free_port
from seawall.toolchain.controlplane import ControlPlane

LIMIT_S = 30.0


def command(state: Path) -> subprocess.Popen[str]:
    """Start `seawall cluster up` and return when it has said that etcd is ready."""
    started = subprocess.Popen(
        [sys.executable, "-u", "-m", "seawall", "cluster", "up", "--state", str(state)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert "etcd is ready" in started.stdout.readline()
    return started


def pids_of(state: Path) -> list[int]:
    """Return the processes of a cluster, its owner first."""
    record = Record.load(state)
    assert record is not None
    return [record.owner.pid, *(part.pid for part in record.parts)]


def gone(pids: list[int]) -> bool:
    """Wait until none of these processes runs."""
    limit = time.monotonic() + LIMIT_S
    while any(sighting(pid) is not None for pid in pids):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.real
def test_a_command_that_is_killed_leaves_a_cluster_that_can_be_used_and_ended(tmp_path: Path) -> None:
    """After SIGKILL of `up` half-way, `up` finds its cluster; after SIGKILL of the keeper nothing of it runs."""
    state = tmp_path / "state"
    started = command(state)
    started.kill()
    started.communicate()
    assert up(state, tell=print) is False
    assert status(state).state == "up"
    pids = pids_of(state)
    assert len(pids) == 7  # keeper, five parts, kubelet
    os.kill(pids[0], signal.SIGKILL)
    assert gone(pids)
    assert status(state).state == "killed"
    assert down(state, tell=print) is True
    assert not state.exists()
    assert down(state, tell=print) is False


@pytest.mark.real
def test_an_interrupted_command_takes_back_what_it_began(tmp_path: Path) -> None:
    """Ctrl-C while it starts: exit code 130, no process and no folder."""
    state = tmp_path / "state"
    started = command(state)
    pids = pids_of(state)
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=LIMIT_S)
    assert started.returncode == 130
    assert gone(pids)
    assert not state.exists()
    assert not is_locked(state)


@pytest.mark.real
async def test_a_taken_port_is_exchanged_and_the_end_of_the_block_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that somebody took meanwhile costs a second try, not the cluster. Seen on etcd, the quickest to start."""
    state = tmp_path / "state"
    cluster = LocalCluster(state)
    monkeypatch.setattr(cluster, "_start_parts", lambda layout, _built: cluster._part("etcd", layout))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(local, "free_port", lambda: ports.pop() if ports else free_port())
        async with cluster:
            assert (state / "logs" / "etcd.1.log").exists()
            assert (state / "logs" / "etcd.log").exists()
            with pytest.raises(ClusterError, match="in use by another cluster"):
                await LocalCluster(state).start()
            pids = [child.pid for child in cluster.children.values()]
            assert len(pids) == 1
    assert gone(pids)
    assert not state.exists()


async def test_a_part_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    """The error quotes what the part said; nothing runs, and the logs stay for a look."""
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "crds").mkdir()
    program = folder / "localcluster"
    program.write_text("#!/bin/sh\necho no etcd today >&2\nexit 7\n")
    program.chmod(0o755)
    state = tmp_path / "state"
    with pytest.raises(ClusterError, match=r"etcd ended with exit code 7(.|\n)*no etcd today"):
        await LocalCluster(state, control_plane=ControlPlane(folder=folder)).start()
    assert (state / "logs" / "etcd.log").exists()
    assert not is_locked(state)
    assert down(state, tell=print) is True


@pytest.mark.parametrize("is_ours", [True, False])
def test_only_our_processes_are_ended(tmp_path: Path, is_ours: bool) -> None:
    """What is recorded by pid and start time is ended; one that has only got that pid since is left alone."""
    state = tmp_path / "state"
    (state / "logs").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            record = Record.begin(state)
            record.started("etcd", process.pid, {})
            if not is_ours:
                record.parts = (replace(record.parts[0], started="1"),)
                record.save()
            lock = lock_of(state)
            assert sweep(state) == (["etcd"] if is_ours else [])
            os.close(lock)
            assert not state.exists()
            assert (process.poll() is not None) == is_ours
        finally:
            process.kill()


def test_a_folder_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    """`--state` on a folder with other things in it is refused, and they stay."""
    (tmp_path / "letters").mkdir()
    letter = tmp_path / "letters" / "love.txt"
    letter.write_text("dear")
    with pytest.raises(ClusterError, match="no cluster's"):
        down(tmp_path / "letters", tell=print)
    assert letter.exists()

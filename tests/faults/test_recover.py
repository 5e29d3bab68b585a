"""`recover`: whatever a killed run left behind is gone afterwards, and nothing else is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.base import Undo
from faults.toxiproxy import ProxyInfo, Toxiproxy
from faults.undo import UndoFile
from seawall.recover import recover

UNRULY = Path(__file__).with_name("unruly_run.py")
TRIALS = 20


def silent(line: str) -> None:
    """Say nothing."""


def test_an_empty_folder_is_clean(tmp_path: Path) -> None:
    """No folder, or none with files, is 0 and one sentence."""
    said: list[str] = []
    for folder in (tmp_path, tmp_path / "none"):
        result = recover(folder, emit=said.append)
        assert (result.exit_code, result.lines) == (0, ("Nothing to undo.",))
    assert said == ["Nothing to undo."] * 2


def test_a_living_run_is_no_failure(tmp_path: Path) -> None:
    """A file in use is left alone, named with its pid, and the exit code stays 0."""
    with UndoFile.create(tmp_path, "alive") as file:
        result = recover(tmp_path, emit=silent)
        assert result.exit_code == 0
        assert f"Run alive (pid {os.getpid()}) is still running" in result.lines[0]
        assert file.path.exists()
    assert recover(tmp_path, emit=silent).lines == ("0 faults of run alive undone and read back twice: all clean.",)


def test_what_cannot_be_undone_is_five_and_stays(tmp_path: Path) -> None:
    """A record that nobody can undo is told with its reason, keeps its file, and does not stop the others."""
    with UndoFile.create(tmp_path, "a-odd") as odd:
        odd.append(Undo(kind="sorcery", arguments={}))
    with UndoFile.create(tmp_path, "b-fine") as fine:
        fine.append(Undo(kind="proxy", arguments={"url": "http://127.0.0.1:9", "proxy": "p"}))
    result = recover(tmp_path, emit=silent, deadline_s=0.5)
    assert result.exit_code == 5
    assert any("sorcery" in line for line in result.lines)
    assert "1 fault of run b-fine undone and read back twice: all clean." in result.lines
    assert odd.path.exists()
    assert not fine.path.exists()


def test_a_file_that_never_began_goes_when_it_is_old(tmp_path: Path) -> None:
    """A run killed while it created its undo file left an unnamed one; one that is just being created is left alone."""
    old, new = tmp_path / ".undo-a-1.jsonl.tmp", tmp_path / ".undo-b-2.jsonl.tmp"
    for path in (old, new):
        path.write_text("")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    assert recover(tmp_path, emit=silent).exit_code == 0
    assert not old.exists()
    assert new.exists()


@pytest.mark.real
def test_nothing_is_left_of_a_run_that_was_killed(toxiproxy_url: str, tmp_path: Path) -> None:
    """Of 20 runs killed with SIGKILL at a random moment `recover` leaves no proxy and no toxic; others' things stay."""
    server = Toxiproxy(toxiproxy_url)
    foreign = _foreign(server)
    dirty = 0
    try:
        before = server.proxies()
        for trial in range(TRIALS):
            _run_and_kill(server, tmp_path, f"k{trial}-{os.getpid()}", foreign, seed=trial)
            dirty += server.proxies() != before
            result = recover(tmp_path, emit=silent)
            assert result.exit_code == 0, result.lines
            assert server.proxies() == before
            assert list(tmp_path.iterdir()) == []
            assert recover(tmp_path, emit=silent).exit_code == 0
    finally:
        server.delete_proxy(foreign.name)
    assert dirty >= TRIALS / 4, f"only {dirty} kills left anything behind: that proves little"


def _foreign(server: Toxiproxy) -> ProxyInfo:
    name = f"foreign-{time.monotonic_ns()}"
    server.create_proxy(name, "127.0.0.1:9")
    server.add_toxic(name, "theirs", "latency", attributes={"latency": 7})
    return server.set_enabled(name, False)


def _run_and_kill(server: Toxiproxy, folder: Path, run: str, foreign: ProxyInfo, *, seed: int) -> None:
    arguments = [server.url, str(folder), run, foreign.name, str(seed), "127.0.0.1:9"]
    with subprocess.Popen([sys.executable, str(UNRULY), *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        time.sleep(random.Random(seed).uniform(0.0, 0.15))
        assert process.poll() is None, "the unruly run ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait(10)

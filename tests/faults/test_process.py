"""The fault `process` and its undo record: the right process, and never a foreign one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from faults import registry
from faults.base import FaultError, Undo
from faults.pids import Sighting, kill_exactly, sighting
from faults.process import Action, ProcessFault, attach, detach

KEY = "a-run/gateway"


class Recorder:
    """A handle that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now: Sighting | None = sighting(os.getpid())

    def seen(self) -> Sighting | None:
        """See Handle."""
        return self.now

    def strike(self, action: Action) -> None:
        """See Handle."""
        self.asked.append(action)

    def heal(self) -> None:
        """See Handle."""
        self.asked.append("heal")


@pytest.fixture
def handle() -> Iterator[Recorder]:
    """Return a handle that is attached as KEY."""
    recorder = Recorder()
    attach(KEY, recorder)
    yield recorder
    detach(KEY)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that does nothing."""
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def seen(pid: int) -> Sighting:
    """Return the sighting of a process that is there."""
    found = sighting(pid)
    assert found is not None
    return found


def record_of(pid: int, started: str) -> Undo:
    """Return the record that a killed harness left of a process."""
    return Undo(kind="process", arguments={"key": "dead/gateway", "process": "gateway", "pid": pid, "started": started})


def test_a_process_is_known_by_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    """A sighting keeps its start, shows a stopped process as such, and is None for a zombie."""
    first = seen(sleeper.pid)
    assert not first.is_stopped
    sleeper.send_signal(signal.SIGSTOP)
    while not seen(sleeper.pid).is_stopped:
        time.sleep(0.01)
    assert seen(sleeper.pid).started == first.started
    sleeper.kill()
    while sighting(sleeper.pid) is not None:  # not reaped: a zombie
        time.sleep(0.01)


def test_nobody_else_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that has got the number of the one that is meant is left alone; that one itself is killed."""
    kill_exactly(sleeper.pid, "another start")
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.2)
    kill_exactly(sleeper.pid, seen(sleeper.pid).started)
    assert sleeper.wait(10) == -signal.SIGKILL
    kill_exactly(sleeper.pid, "gone")


def test_a_fault_acts_through_its_handle(handle: Recorder) -> None:
    """Inject strikes, undo heals, both as often as they are asked; verified is what runs and is not stopped."""
    fault = ProcessFault(id="killed", target="gateway", key=KEY, action="kill")
    record = msgspec.json.decode(msgspec.json.encode(fault.prepare()), type=Undo)
    assert handle.asked == []
    fault.inject()
    registry.undo(record)
    registry.undo(record)
    assert handle.asked == ["kill", "heal", "heal"]
    assert registry.verify(record)
    handle.now = Sighting(1, "x", "T")
    assert not registry.verify(record)
    handle.now = None
    assert not registry.verify(record)


def test_what_does_not_run_cannot_be_struck(handle: Recorder) -> None:
    """A fault at a process that has ended, or that the run never started, is refused before anything is changed."""
    handle.now = None
    with pytest.raises(FaultError, match="gateway does not run, so there is nothing to stop"):
        ProcessFault(id="stopped", target="gateway", key=KEY, action="stop").prepare()
    with pytest.raises(FaultError, match="redis is no process that this run started"):
        ProcessFault(id="stopped", target="redis", key="a-run/redis", action="stop").prepare()


@pytest.mark.parametrize("action", ["kill", "stop", "restart"])
def test_it_says_what_it_does(action: Action) -> None:
    """A fault's description names the signal."""
    assert "SIG" in ProcessFault(id="x", target="redis", key=KEY, action=action).describe()


def test_a_record_of_a_dead_harness_ends_the_orphan(sleeper: subprocess.Popen[bytes]) -> None:
    """Where nobody is left to start it again, undone means gone: an orphan is ended when its time is up."""
    record = record_of(sleeper.pid, seen(sleeper.pid).started)
    assert not registry.verify(record)
    registry.undo(record, deadline_s=0.6)
    deadline = time.monotonic() + 10
    while not registry.verify(record):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_record_waits_for_the_supervisor(sleeper: subprocess.Popen[bytes]) -> None:
    """An orphan that its supervisor ends in time is not ended by us."""
    record = record_of(sleeper.pid, seen(sleeper.pid).started)
    sleeper.terminate()
    registry.undo(record, deadline_s=3)
    assert registry.verify(record)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_record_never_hits_a_successor(sleeper: subprocess.Popen[bytes]) -> None:
    """When the number belongs to another process by now the record is done, and that process untouched."""
    record = record_of(sleeper.pid, "another start")
    assert registry.verify(record)
    registry.undo(record, deadline_s=0.1)
    assert sleeper.poll() is None

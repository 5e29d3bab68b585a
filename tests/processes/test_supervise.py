"""The supervisor: a command never outlives whoever holds the other end of its standard input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall import supervise

pytestmark = pytest.mark.real

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(60)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that are killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def state_of(pid: int) -> str:
    """Return the letters that ps has for the state of a process, or nothing when there is none."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip()


def is_alive(pid: int) -> bool:
    """Tell whether the process runs (a zombie does not)."""
    return state_of(pid)[:1] not in ("", "Z")


def seconds_until_dead(pid: int, limit_s: float = 10.0) -> float:
    """Wait for the end of a process that is not ours to reap."""
    started = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - started < limit_s, f"process {pid} still runs after {limit_s} s"
        time.sleep(0.02)
    return time.monotonic() - started


def pid_in(file: Path) -> int:
    """Return the number that a process has written as its id."""
    limit = time.monotonic() + 10
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return int(file.read_text())


def reporting(file: Path, argv: list[str]) -> list[str]:
    """Return a command that writes its process id to the file and goes on as `argv`."""
    return ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(file), *argv]


@pytest.mark.parametrize(("argv", "limit_s"), [(SLEEPER, 2.0), (STUBBORN, 4.0)], ids=["obedient", "ignores SIGTERM"])
def test_death_of_the_parent_by_sigkill_ends_the_command(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, argv: list[str], limit_s: float
) -> None:
    """When the parent is killed with SIGKILL the command ends, after the grace also one that ignores SIGTERM."""
    file = tmp_path / "pid"
    parent = start([sys.executable, "-c", PARENT, *supervise.command_line(reporting(file, argv))])
    pid = pid_in(file)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.wait()
    assert seconds_until_dead(pid) < limit_s


def test_the_whole_group_ends(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A process that the command started ends with it, also when it ignores SIGTERM."""
    file = tmp_path / "pid"
    inner = " ".join(f"'{word}'" for word in reporting(file, ["sleep", "60"]))
    supervisor = start(supervise.command_line(["sh", "-c", f"trap '' TERM; {inner} & trap - TERM; wait"]))
    pid = pid_in(file)
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    assert supervisor.wait(timeout=10) == 128 + signal.SIGTERM
    assert not is_alive(pid)


def test_what_a_command_leaves_behind_is_killed(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """When the command ends by itself, what it left in its group is killed at once, and its exit code is passed on."""
    file = tmp_path / "pid"
    inner = " ".join(f"'{word}'" for word in reporting(file, ["sleep", "60"]))
    supervisor = start(supervise.command_line(["sh", "-c", f'{inner} & while [ ! -s "{file}" ]; do :; done; exit 7']))
    assert supervisor.wait(timeout=10) == 7
    assert not is_alive(pid_in(file))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_ends_the_command(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, number: signal.Signals
) -> None:
    """SIGTERM and SIGINT to the supervisor end the command, and the exit code names the signal it got."""
    file = tmp_path / "pid"
    supervisor = start(supervise.command_line(reporting(file, SLEEPER)))
    pid = pid_in(file)
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=10) == 128 + signal.SIGTERM
    assert not is_alive(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death signal is Linux's")
def test_death_of_the_supervisor_by_sigkill_ends_the_command(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Where there is a death signal, the command ends even when the supervisor itself is killed with SIGKILL."""
    file = tmp_path / "pid"
    supervisor = start(supervise.command_line(reporting(file, STUBBORN)))
    pid = pid_in(file)
    supervisor.kill()
    supervisor.wait()
    assert seconds_until_dead(pid) < 2.0


def test_a_stopped_command_ends(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A command that was stopped with SIGSTOP is continued to take its SIGTERM, well before SIGKILL."""
    file = tmp_path / "pid"
    supervisor = start(supervise.command_line(reporting(file, SLEEPER)))
    pid = pid_in(file)
    os.kill(pid, signal.SIGSTOP)
    while not state_of(pid).startswith("T"):
        time.sleep(0.01)
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    assert supervisor.wait(timeout=10) == 128 + signal.SIGTERM


def test_exit_codes_are_the_shell_s() -> None:
    """A command that cannot be started is 127, one that a signal ended 128 + n, and no command at all 2."""

    def run(*argv: str) -> int:
        return subprocess.run(argv, stdin=subprocess.PIPE, capture_output=True, timeout=10, check=False).returncode

    with subprocess.Popen(["sleep", "30"], stdout=subprocess.PIPE) as holder:  # noqa: S607
        stdin = holder.stdout
        killed = subprocess.run(
            supervise.command_line(["sh", "-c", "kill -KILL $$"]), stdin=stdin, timeout=10, check=False
        )
        missing = subprocess.run(
            supervise.command_line(["no-such-command-xyz"]), stdin=stdin, capture_output=True, timeout=10, check=False
        )
        holder.terminate()
    assert killed.returncode == 128 + signal.SIGKILL
    assert missing.returncode == 127
    assert b"no-such-command-xyz: No such file" in missing.stderr
    assert run(sys.executable, "-m", "seawall.supervise") == 2


FRESH = """
import os, signal
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
opened = []
for n in range(3, 64):
    try:
        os.fstat(n)
        opened.append(n)
    except OSError:
        pass
print(blocked, opened, flush=True)
"""


def test_the_command_starts_like_a_fresh_process(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """The command inherits from the supervisor no blocked or ignored signal and no descriptor beyond the three."""
    supervisor = start(supervise.command_line([sys.executable, "-S", "-c", FRESH]))
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == b"set() []\n"
    # Python ignores SIGPIPE; the command must not, or `yes | head` would never end.
    broken = start(supervise.command_line(["sh", "-c", "kill -PIPE $$; exit 0"]))
    assert broken.wait(timeout=10) == 128 + signal.SIGPIPE

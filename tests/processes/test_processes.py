"""The processes of a run: started, made ready, signalled, stopped, and explained when they fail."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from seawall.processes import Child, Processes, ProcessFailed, accepting, free_port

pytestmark = pytest.mark.real

ANNOUNCER = """
import json, os, sys, time
print("warming up", flush=True)
print("3", flush=True)
print(json.dumps({"pid": os.getpid(), "port": 4711}), flush=True)
print("after", flush=True)
print("trouble", file=sys.stderr, flush=True)
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('{}', flush=True); time.sleep(60)"


@pytest.fixture
def events() -> list[tuple[str, str, int, int | None]]:
    """What the processes reported."""
    return []


@pytest.fixture
async def processes(events: list[tuple[str, str, int, int | None]]) -> AsyncIterator[Processes]:
    """The processes of a test, all stopped at its end."""
    async with Processes(on_event=lambda *event: events.append(event)) as running:
        yield running


def python(program: str) -> list[str]:
    """Return the command that runs a program given as text."""
    return [sys.executable, "-S", "-c", program]


async def test_a_child_announces_itself_with_a_line_of_json(
    processes: Processes, events: list[tuple[str, str, int, int | None]], tmp_path: Path
) -> None:
    """The first line that is a JSON object is handed over and not logged; everything else goes to the log."""
    log = tmp_path / "gateway.log"
    child = await processes.start("gateway", python(ANNOUNCER), ready="json-line", log=log)
    assert child.ready == {"pid": child.pid, "port": 4711}
    while "trouble" not in log.read_text():  # noqa: ASYNC110 - written by another process
        await asyncio.sleep(0.01)
    assert await child.stop() == -signal.SIGTERM
    assert sorted(log.read_text().split("\n")) == ["", "3", "after", "trouble", "warming up"]
    assert events == [
        ("gateway", "start", child.pid, None),
        ("gateway", "ready", child.pid, None),
        ("gateway", "stop", child.pid, None),
        ("gateway", "exit", child.pid, -signal.SIGTERM),
    ]


async def test_output_after_the_announcement_never_blocks_the_child(processes: Processes, tmp_path: Path) -> None:
    """A child that writes megabytes after it is ready runs to its end, and all of it is in the log."""
    program = "print('{}', flush=True)\nfor _ in range(4000): print('x' * 1023, flush=False)"
    child = await processes.start("talker", python(program), ready="json-line", log=tmp_path / "log")
    assert await asyncio.wait_for(child.wait(), 20) == 0
    assert (tmp_path / "log").stat().st_size == 4000 * 1024


async def test_a_callable_says_when_a_child_is_ready(processes: Processes, tmp_path: Path) -> None:
    """With `accepting`, a child is ready when its port accepts; refused connections mean not yet."""
    port = free_port()
    program = f"import socket, time; time.sleep(0.2); s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    child = await processes.start("server", python(program), ready=accepting(port), log=tmp_path / "log")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    assert child.is_running


async def test_an_early_end_is_explained_without_secrets(processes: Processes, tmp_path: Path) -> None:
    """A child that ends before it is ready: name, exit code and the last ten lines, but no secret it printed."""
    program = "import os, sys\nfor n in range(20): print(n, os.environ['FAKE_API_KEY'], file=sys.stderr)\nsys.exit(9)"
    environment = {**os.environ, "FAKE_API_KEY": "sk-very-secret"}
    with pytest.raises(ProcessFailed, match="emulator ended with exit code 9 before it was ready") as caught:
        await processes.start("emulator", python(program), env=environment, ready="json-line", log=tmp_path / "log")
    assert caught.value.exit_code == 9
    assert caught.value.log_lines == tuple(f"{n} ****" for n in range(10, 20))
    assert "sk-very-secret" not in str(caught.value)


async def test_a_late_child_is_killed(processes: Processes, tmp_path: Path) -> None:
    """A child that is not ready by its deadline is gone when the error is raised."""
    with pytest.raises(ProcessFailed, match=r"slow was not ready after 0\.3 s and was killed"):
        await processes.start("slow", ["sleep", "60"], ready="json-line", deadline_s=0.3, log=tmp_path / "log")
    assert processes.children["slow"].code == -signal.SIGKILL


async def test_a_command_that_does_not_exist_is_named(
    processes: Processes, events: list[tuple[str, str, int, int | None]], tmp_path: Path
) -> None:
    """A command that cannot be started raises at once, says why, and reports no start."""
    with pytest.raises(ProcessFailed, match="cannot be started: no-such-command-xyz: No such file"):
        await processes.start("ghost", ["no-such-command-xyz"], log=tmp_path / "log")
    assert events == []


async def test_a_crash_is_reported_with_its_signal(
    processes: Processes, events: list[tuple[str, str, int, int | None]], tmp_path: Path
) -> None:
    """A child that somebody else kills is reported as ended by that signal, without a stop before."""
    child = await processes.start("victim", ["sleep", "60"], log=tmp_path / "log")
    os.kill(child.pid, signal.SIGKILL)
    assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
    assert [action for _, action, _, _ in events] == ["start", "exit"]
    assert events[-1] == ("victim", "exit", child.pid, -signal.SIGKILL)


async def test_a_stubborn_child_is_killed_after_its_grace(processes: Processes, tmp_path: Path) -> None:
    """A child that ignores SIGTERM, and is stopped on top, is killed when the grace is over; stopping twice is fine."""
    child = await processes.start("stubborn", python(STUBBORN), ready="json-line", log=tmp_path / "log")
    child.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    assert await asyncio.gather(child.stop(0.3), child.stop(0.3)) == [-signal.SIGKILL] * 2
    assert 0.3 <= time.monotonic() - started < 5
    assert await child.stop() == -signal.SIGKILL


async def test_all_are_stopped_at_the_same_time(processes: Processes, tmp_path: Path) -> None:
    """Stopping three children that ignore SIGTERM takes one grace, not three."""
    for name in ("a", "b", "c"):
        await processes.start(name, python(STUBBORN), ready="json-line", log=tmp_path / name)
    started = time.monotonic()
    await processes.stop_all(grace_s=1.0)
    assert time.monotonic() - started < 2.8
    assert [child.code for child in processes.children.values()] == [-signal.SIGKILL] * 3


async def test_a_name_is_free_again_after_the_end(processes: Processes, tmp_path: Path) -> None:
    """A name that runs is refused; after a kill it can be started anew, into the same log."""
    log = tmp_path / "log"
    first = await processes.start("gateway", python(ANNOUNCER), ready="json-line", log=log)
    with pytest.raises(ValueError, match="'gateway' is running already"):
        await processes.start("gateway", ["true"], log=log)
    first.kill()
    await first.wait()
    second = await processes.start("gateway", python(ANNOUNCER), ready="json-line", log=log)
    assert second.pid != first.pid
    assert processes.children == {"gateway": second}
    assert log.read_text().count("warming up") == 2


async def test_a_cancelled_start_leaves_nothing(processes: Processes, tmp_path: Path) -> None:
    """When the start is cancelled while it waits for the child to be ready, the child ends."""
    start = asyncio.create_task(processes.start("slow", ["sleep", "60"], ready="json-line", log=tmp_path / "log"))
    while not (child := processes.children.get("slow")) or not child.pid:  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert await child.ended_within(5)


async def test_a_failing_callback_does_not_lose_the_child(tmp_path: Path) -> None:
    """What `on_event` raises goes to the loop's exception handler, and the child is still followed to its end."""
    problems: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context["message"]))

    def fail(*_event: object) -> None:
        raise OSError("disk full")

    async with Processes(on_event=fail) as processes:
        child = await processes.start("a", ["true"], log=tmp_path / "log")
        assert await asyncio.wait_for(child.wait(), 10) == 0
    assert problems == ["on_event failed for a start", "on_event failed for a exit"]


async def test_an_output_held_open_does_not_hide_the_end(processes: Processes, tmp_path: Path) -> None:
    """The end is seen though a process that left the group still holds the output."""
    file = tmp_path / "pid"
    program = f"""
import os, subprocess, sys
runaway = subprocess.Popen(["sleep", "60"], start_new_session=True)
open({str(file)!r}, "w").write(str(runaway.pid))
print("{{}}", flush=True)
"""
    child = await processes.start("parent", python(program), ready="json-line", log=tmp_path / "log")
    try:
        assert await asyncio.wait_for(child.wait(), 10) == 0
    finally:
        os.kill(int(file.read_text()), signal.SIGKILL)


HARNESS = """
import asyncio, pathlib, sys
from seawall.processes import Processes

async def main():
    processes = Processes()
    folder = pathlib.Path(sys.argv[1])
    for name in ("a", "b"):
        # Both started from a helper thread's loop, too: no death signal may hang on a thread.
        child = await processes.start(name, ["sh", "-c", "trap '' TERM; sleep 60"], log=folder / name)
        print(child.pid, flush=True)

import threading
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
import time; time.sleep(60)
"""


def test_death_of_the_harness_ends_every_child(tmp_path: Path) -> None:
    """When the harness is killed with SIGKILL all children end within the grace, also those that ignore SIGTERM."""
    harness = subprocess.Popen([sys.executable, "-c", HARNESS, str(tmp_path)], stdout=subprocess.PIPE)
    assert harness.stdout is not None
    pids = [int(harness.stdout.readline()) for _ in range(2)]
    harness.kill()
    harness.communicate()
    limit = time.monotonic() + 5
    while running := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < limit, running
        time.sleep(0.05)


def test_a_free_port_can_be_bound() -> None:
    """A free port is a number of a port that nobody listens on."""
    assert 1024 <= free_port() <= 65535


def _is_alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def test_a_child_shows_itself() -> None:
    """A child's representation names it, its process and its exit code."""

    async def make() -> str:
        return repr(Child("gateway", Path("x"), [], lambda *_: None))

    assert asyncio.run(make()) == "<Child gateway pid=0 code=None>"

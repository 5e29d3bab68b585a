"""The undo file: durable before the fault, locked while its run lives, replayed until all is clean."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import registry
from faults.base import FaultError, Undo
from faults.down import DownFault
from faults.proxy import OwnProxy
from faults.respond import RespondFault
from faults.toxic import ToxicFault
from faults.toxiproxy import Toxiproxy
from faults.undo import UndoFile, pending, replay
from seawall.emulators.steps import Behaviour

GONE = "http://127.0.0.1:9"  # the discard port: nobody listens there


def record(number: int = 0, url: str = GONE) -> Undo:
    """Return a record of a toxic."""
    return Undo(kind="toxic", arguments={"url": url, "proxy": "p", "toxic": f"seawall-r-{number}"})


def test_a_record_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Append ends with an fsync of the file, after the whole line was written."""
    with UndoFile.create(tmp_path, "r") as file:
        synced: list[bytes] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(file.path.read_bytes()))
        number = file.append(record())
        assert number == 0
        assert synced == [file.path.read_bytes()]
        assert synced[0].endswith(b"\n")
        assert [n for n, _ in pending(file.path).records] == [0]


def test_the_first_line_says_whose_it_is(tmp_path: Path) -> None:
    """Host, pid, boot id, run and time lead the file; only its owner may read it."""
    with UndoFile.create(tmp_path / "new", "r-1.x") as file:
        owner = json.loads(file.path.read_text().splitlines()[0])
        assert owner["run"] == "r-1.x"
        assert owner["host"] == socket.gethostname()
        assert owner["pid"] == os.getpid()
        assert owner["boot_id"]
        assert abs(owner["wall"] - time.time()) < 60
        assert file.path.stat().st_mode & 0o077 == 0
        assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]


@pytest.mark.parametrize("run", ["", "../x", "a/b", ".hidden"])
def test_a_run_whose_name_is_no_file_name_is_refused(tmp_path: Path, run: str) -> None:
    """The file stays inside its folder."""
    with pytest.raises(FaultError, match="no name of a run"):
        UndoFile.create(tmp_path, run)


def test_only_a_finished_file_is_removed(tmp_path: Path) -> None:
    """close_clean refuses while a record is open, and removes the file when all are done."""
    with UndoFile.create(tmp_path, "r") as file:
        first, second = file.append(record(1)), file.append(record(2))
        file.mark_done(first)
        with pytest.raises(FaultError, match="still has records"):
            file.close_clean()
        assert file.path.exists()
        assert file.still_open == (second,)
        file.mark_done(second)
        with pytest.raises(FaultError, match="not open"):
            file.mark_done(second)
        file.close_clean()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(FaultError, match="closed"):
            file.append(record(3))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """No undo file, no run: the error names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FaultError, match="cannot be created"):
        UndoFile.create(tmp_path / "file", "r")


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    """A record that lost its end was never injected; those before it are kept."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record(1))
        file.append(record(2))
    data = file.path.read_bytes()
    file.path.write_bytes(data[:-cut])
    found = pending(file.path)
    assert [r.arguments["toxic"] for _, r in found.records] == ["seawall-r-1"]
    assert found.problems == ()
    assert replay(file.path, 5).status == "clean"


def test_an_empty_or_headless_file_is_clean(tmp_path: Path) -> None:
    """A file without one whole line never had a record, and goes."""
    for name, data in [("undo-a-1.jsonl", b""), ("undo-b-1.jsonl", b'{"v":1,"ru')]:
        (tmp_path / name).write_bytes(data)
        assert replay(tmp_path / name, 5).status == "clean"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_keeps_the_file(tmp_path: Path) -> None:
    """What can be read is undone, but a line that cannot be read may hide a fault: not clean."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record(1))
    with file.path.open("ab") as raw:
        raw.write(b'{"n":1,"un\x00\n')
    result = replay(file.path, 5)
    assert result.status == "dirty"
    assert result.undone == 1
    assert "line 3" in result.problems[0]
    assert file.path.exists()


def test_a_living_runs_file_is_left_alone(tmp_path: Path) -> None:
    """While the owner holds the lock a replay touches nothing and says who it is; afterwards it works."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record())
        before = file.path.read_bytes()
        result = replay(file.path, 5)
        assert result.status == "running"
        assert result.owner is not None
        assert result.owner.pid == os.getpid()
        assert file.path.read_bytes() == before
    assert replay(file.path, 5).status == "clean"
    assert replay(file.path, 5).status == "clean"


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A process that the run started and that outlives it does not pass for the run."""
    with UndoFile.create(tmp_path, "r") as file:
        program = [sys.executable, "-c", "print('up', flush=True); input()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
    try:
        assert replay(file.path, 5).status == "clean"
    finally:
        child.communicate(b"\n", timeout=10)


def test_a_file_from_another_host_is_left_alone(tmp_path: Path) -> None:
    """A lock does not reach across hosts, and loopback there is not loopback here."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record())
    text = file.path.read_text().replace(f'"host":"{socket.gethostname()}"', '"host":"elsewhere.example"')
    file.path.write_text(text)
    assert replay(file.path, 5).status == "elsewhere"
    assert file.path.read_text() == text


def test_records_are_replayed_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last fault goes first, and a record that is marked done is not touched."""
    order: list[str] = []
    monkeypatch.setattr(registry, "undo", lambda record, **_: order.append(record.arguments["toxic"]))
    with UndoFile.create(tmp_path, "r") as file:
        numbers = [file.append(record(n)) for n in range(4)]
        file.mark_done(numbers[1])
    assert replay(file.path, 5).undone == 3
    assert order == ["seawall-r-3", "seawall-r-2", "seawall-r-0"]


def test_it_is_read_back_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the server carries out after the first reading is found by the second, 200 ms later, and undone."""
    reads: list[float] = []
    undone: list[float] = []

    def verify(record: Undo, **_: Any) -> bool:
        reads.append(time.monotonic())
        return len(reads) != 2  # the straggler

    monkeypatch.setattr(registry, "verify", verify)
    monkeypatch.setattr(registry, "undo", lambda record, **_: undone.append(time.monotonic()))
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record())
    assert replay(file.path, 10).status == "clean"
    assert len(undone) == 2
    assert len(reads) == 4
    assert reads[1] - reads[0] >= 0.19
    assert reads[3] - reads[2] >= 0.19


def test_what_cannot_be_verified_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is still there at the deadline is dirty, named, and its file stays."""
    monkeypatch.setattr(registry, "verify", lambda record, **_: False)
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record(7))
    result = replay(file.path, 0.6)
    assert result.status == "dirty"
    assert "seawall-r-7" in result.problems[0]
    assert file.path.exists()


def test_a_hanging_server_bounds_the_replay(tmp_path: Path) -> None:
    """Ten faults at a server that never answers take the deadline and little more, not ten times three calls."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with UndoFile.create(tmp_path, "r") as file:
            for number in range(10):
                file.append(record(number, url))
        began = time.monotonic()
        result = replay(file.path, 1.0)
        assert time.monotonic() - began < 6
    assert result.status == "dirty"
    assert len(result.problems) == 10


def test_a_short_write_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the append raises, and the records before and after it can still be read."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record(1))
        write = os.write

        def full(fd: int, data: bytes) -> int:
            write(fd, data[:10])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(FaultError, match="No space left"):
                file.append(record(2))
        assert file.append(record(3)) == 1
        found = pending(file.path)
        assert found.problems == ()
        assert [r.arguments["toxic"] for _, r in found.records] == ["seawall-r-1", "seawall-r-3"]


def test_no_secret_gets_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's token is in the environment and nowhere in the undo file."""
    monkeypatch.setenv("SEAWALL_TEST_TOKEN", "very-secret-2718")
    fault = RespondFault(
        id="x",
        target="gemini",
        admin_url="http://127.0.0.1:9",
        behaviour=Behaviour(fault_id="x", hang=True),
        token_env="SEAWALL_TEST_TOKEN",
    )
    with UndoFile.create(tmp_path, "r") as file:
        file.append(fault.prepare())
        assert "very-secret" not in file.path.read_text()
        assert "SEAWALL_TEST_TOKEN" in file.path.read_text()
    assert replay(file.path, 5).status == "clean"


def test_another_recovery_that_was_faster_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was removed between opening and locking is clean, and a new one under its name is not touched."""
    with UndoFile.create(tmp_path, "r") as file:
        file.append(record())
    flock = fcntl.flock

    def late(fd: int, how: int) -> None:
        file.path.unlink()
        file.path.write_text("a new run's file")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert replay(file.path, 5).status == "clean"
    assert file.path.read_text() == "a new run's file"


STEP = st.one_of(
    st.tuples(st.just("proxy"), st.integers(0, 2)),
    st.tuples(st.just("toxic"), st.integers(0, 2), st.sampled_from(["latency", "timeout", "reset_peer"])),
    st.tuples(st.just("adopt"), st.sampled_from(["latency", "slow_close"])),
    st.tuples(st.just("down"), st.integers(0, 2)),
    st.tuples(st.just("heal"), st.integers(0, 9)),
)


@pytest.mark.real
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=10), unborn=st.booleans())
def test_replay_cleans_up_after_any_prefix(
    steps: list[tuple[Any, ...]], unborn: bool, toxiproxy_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever a run stops, a replay leaves exactly what was there before: somebody else's proxy, toxic and all."""
    server = Toxiproxy(toxiproxy_url)
    foreign = f"foreign-{time.monotonic_ns()}"
    server.create_proxy(foreign, "127.0.0.1:9")
    server.add_toxic(foreign, "theirs", "latency", attributes={"latency": 7})
    try:
        before = server.proxies()
        run = f"r{time.monotonic_ns()}"
        with UndoFile.create(tmp_path_factory.mktemp("undo"), run) as file:
            _carry_out(steps, file, server, run, foreign, inject_last=not unborn)
        result = replay(file.path, 10)
        assert (result.status, result.problems) == ("clean", ())
        assert not file.path.exists()
        assert server.proxies() == before
    finally:
        server.delete_proxy(foreign)


def _carry_out(
    steps: list[tuple[Any, ...]], file: UndoFile, server: Toxiproxy, run: str, foreign: str, *, inject_last: bool
) -> None:
    open_: list[tuple[int, Undo]] = []
    for at, (what, *rest) in enumerate(steps):
        if what == "heal":
            if open_:
                number, undo = open_.pop(rest[0] % len(open_))
                registry.undo(undo)
                file.mark_done(number)
            continue
        own = f"seawall-{run}-{rest[0]}"
        undo, inject = _begin(what, rest, at, server.url, run, own, foreign)
        open_.append((file.append(undo), undo))
        if inject_last or at < len(steps) - 1:
            try:
                inject()
            except FaultError:
                # The proxy is not there, not any more, or was there before: a run that fails so is undone too.
                continue


def _begin(
    what: str, rest: list[Any], at: int, url: str, run: str, own: str, foreign: str
) -> tuple[Undo, Callable[[], object]]:
    if what == "proxy":
        proxy = OwnProxy(name=own, upstream="127.0.0.1:9", url=url)
        return proxy.prepare(), proxy.create
    if what == "down":
        down = DownFault(id=f"d{at}", target="gemini", proxy=own, url=url)
        return down.prepare(), down.inject
    type_ = rest[-1]
    toxic = ToxicFault(
        id=f"t{at}",
        target="gemini",
        run=run,
        proxy=foreign if what == "adopt" else own,
        url=url,
        type=type_,
        attributes={"latency": {"latency": 3}, "slow_close": {"delay": 3}}.get(type_, {"timeout": 3}),
        owns_proxy=what != "adopt",
    )
    return toxic.prepare(), toxic.inject

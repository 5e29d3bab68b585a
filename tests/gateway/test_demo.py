"""`seawall serve --demo`, and curl: what is printed can be pasted, and it works."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from seawall.answers import judge_text
from seawall.certs.authority import Authority

pytestmark = pytest.mark.real

Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def curl() -> str:
    """The command, where this machine has it."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")
    return found


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the demo; give its process and the curl command that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    command = [sys.executable, "-m", "seawall", "serve", "--demo", "--port", "0", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("Seawall gateway on http://127.0.0.1:")
            assert "no key is used" in process.stderr.readline()
            yield process, process.stderr.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_demo_prints_a_command_that_works(tmp_path: Path, curl: str, workers: int) -> None:
    """No key, a free port, any settings in `.env`: the line is pasted as it is; Ctrl-C ends every process."""
    (tmp_path / ".env").write_text("SEAWALL_API_KEYS=sk-mine\nBUDGET_STORE=redis\nGEMINI_BASE_URL=http://192.0.2.1:9\n")
    with demo(tmp_path, "--workers", str(workers)) as (process, line):
        assert line.startswith("curl ")
        said = subprocess.run([curl, "-sS", *shlex.split(line)[1:]], capture_output=True, check=True, timeout=20)
        assert json.loads(said.stdout)["choices"][0]["message"]["content"]
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        _, left = psutil.wait_procs(children, 5)
        assert not left


def test_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """After SIGKILL neither emulators nor workers are left."""
    with demo(tmp_path, "--workers", "2") as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 4
        process.kill()
        _, left = psutil.wait_procs(children, 8)
        assert not left


@pytest.mark.parametrize("stream", [False, True])
def test_curl_gets_whole_answers(gateway: Gateway, asked: Asked, curl: str, stream: bool) -> None:
    """curl, unchanged: JSON in one piece, and events as they come with -N."""
    request_id, body = asked(stream=stream)
    command = [curl, "-sSN", f"{gateway.url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", "@-"]
    said = subprocess.run(command, input=json.dumps(body).encode(), capture_output=True, check=True, timeout=20).stdout
    if stream:
        *events, done = [line.removeprefix(b"data: ") for line in said.split(b"\n\n") if line]
        assert done == b"[DONE]"
        deltas = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
        text = "".join(delta.get("content") or "" for delta in deltas)
    else:
        text = json.loads(said)["choices"][0]["message"]["content"]
    assert judge_text(text, request_id).whole


def test_curl_that_leaves_is_noticed(gateway: Gateway, emulators: Any, asked: Asked, curl: str) -> None:
    """curl with a time limit of its own ends the upstream call."""
    request_id, body = asked("openai")
    command = [curl, "-sS", "-m", "0.3", f"{gateway.url}/v1/chat/completions", "-d", json.dumps(body)]
    with emulators.misbehaving("openai", hang=True):
        began = time.monotonic()
        assert subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 28
        (call,) = emulators.calls(request_id, 1)
        assert time.monotonic() - began < 5
    assert not call["completed"]


def test_demo_with_tls_says_how_to_reach_it(tmp_path: Path, curl: str) -> None:
    """The command has https and the certificate's name; with the CA's certificate, as the words say, it works."""
    authority = Authority(tmp_path / "certs")
    authority.begin("ecdsa")
    authority.issue("backend", kind="ecdsa")
    command = [sys.executable, "-m", "seawall", "serve", "--demo", "--port", "0"]
    command += ["--tls-cert", str(authority.cert_path("backend")), "--tls-key", str(authority.key_path("backend"))]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("Seawall gateway on https://")
            process.stderr.readline()
            line = process.stderr.readline().strip()
            assert line.startswith("curl https://localhost:")
            assert "--cacert" in process.stderr.readline()
            asked = [curl, "-sS", "--cacert", str(authority.cert_path("ca")), *shlex.split(line)[1:]]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["choices"][0]["finish_reason"] == "stop"
        finally:
            process.terminate()
            process.wait(20)

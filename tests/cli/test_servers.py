"""`seawall emulate` and `seawall serve --demo` as processes: what they print leads to servers that answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from command_harness import wait_for

from seawall.processes import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

ASKED = {"model": "gemini", "messages": [{"role": "user", "content": "Hello"}]}


@contextmanager
def _serving(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    # No key and no address of this machine may matter.
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    with subprocess.Popen(
        [sys.executable, "-m", "seawall", *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_emulators_listen_where_they_say(tmp_path: Path) -> None:
    """Each line is one to paste; the addresses answer in the vendors' formats; ports of one's choice are taken."""
    port = free_port()
    with _serving(tmp_path, "emulate", "--providers", "openai,gemini", "--ports", f"openai={port}") as process:
        lines = [_line(process) for _ in range(4)]
        assert all(re.fullmatch(r"export [A-Z_]+=\S+", line) for line in lines)
        found = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        assert set(found) == {"OPENAI_BASE_URL", "OPENAI_API_KEY", "GEMINI_BASE_URL", "GEMINI_API_KEY"}
        assert found["OPENAI_BASE_URL"] == f"http://127.0.0.1:{port}"
        key = {"authorization": f"Bearer {found['OPENAI_API_KEY']}"}
        answer = httpx.post(
            f"{found['OPENAI_BASE_URL']}/v1/chat/completions", json=ASKED | {"model": "gpt-4o"}, headers=key
        )
        assert answer.json()["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_taken_port_is_told(tmp_path: Path) -> None:
    """Emulators on a port that is taken say so with the way out, exit code 3; ports that cannot be are usage, 2."""
    with _serving(tmp_path, "emulate", "--providers", "openai") as first:
        port = _line(first).rpartition(":")[2]
        with _serving(tmp_path, "emulate", "--providers", "openai", "--port", port) as second:
            _, problem = second.communicate(timeout=20)
            assert second.returncode == 3
            assert "choose others with --port" in problem
    for words in (
        ("--port", "70000"),
        ("--ports", "openai=x"),
        ("--providers", "opnai"),
        ("--port", "1", "--ports", "x=2"),
    ):
        with _serving(tmp_path, "emulate", *words) as process:
            _, problem = process.communicate(timeout=20)
            assert process.returncode == 2, problem
            assert len(problem.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_demo_answers_without_keys(tmp_path: Path, number: signal.Signals) -> None:
    """The demo's gateway answers from emulators, whatever a .env file says, and the emulators end with it."""
    (tmp_path / ".env").write_text("GEMINI_API_KEY=mine\nGEMINI_BASE_URL=http://192.0.2.1:9\nAIRGAP_MODE=true\n")
    with _serving(tmp_path, "serve", "--demo", "--port", "0", "--ready-json") as process:
        port = json.loads(_line(process))["port"]
        children = psutil.Process(process.pid).children(recursive=True)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ASKED, timeout=20)
        assert answer.status_code == 200
        assert answer.headers["x-seawall-provider"] == "gemini"
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == (0 if number is signal.SIGINT else -number)
        wait_for(lambda: not any(child.is_running() for child in children), 5)

"""The emulator as a process: how it starts, what it tells, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seawall.emulators.client import EmulatorClient
from seawall.emulators.config import ConfigError, from_file, from_names, with_ports
from seawall.emulators.steps import Behaviour


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "seawall.emulators", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.real
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_its_ports_and_ends_when_told(how: signal.Signals):
    """It prints one JSON line when it listens, makes a token when given none, and ends with 0 within a second."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEAWALL_")}
    command = [sys.executable, "-m", "seawall.emulators", "--providers", "gemini,local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["ready"], ready["pid"], set(ready["ports"])) == (True, process.pid, {"gemini", "local"})
            EmulatorClient(f"http://127.0.0.1:{ready['admin']}", ready["token"]).ping()
            with socket.create_connection(("127.0.0.1", ready["ports"]["gemini"])):
                began = time.monotonic()
                process.send_signal(how)
                assert process.wait(5) == 0
                assert time.monotonic() - began < 1
            assert process.stdout.read() == ""
        finally:
            process.kill()


@pytest.mark.real
@pytest.mark.parametrize("provider", ["claude", "gemini", "local", "openai"])
def test_a_cut_reaches_the_client_as_a_reset(emulators, chat: Callable, provider: str):
    """With the event loop that the process really uses, a cut is a reset after exactly the tokens asked for."""
    emulators.client.put_behaviour(provider, Behaviour(fault_id="cut", cut_after_chunks=2))
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", emulators.ports[provider]), timeout=5) as wire:
            wire.sendall(chat(provider, "[sw:cut] hi", stream=True).bytes())
            with pytest.raises(ConnectionResetError):  # noqa: PT012 - what came before the reset is kept
                while data := wire.recv(65_536):
                    received += data
    finally:
        emulators.client.delete_behaviour(provider, "cut")
    assert received.count(f"{provider}:cut:".encode()) == 2


@pytest.mark.real
def test_it_writes_its_part_of_the_journal(emulators, chat: Callable):
    """With SEAWALL_EVENTS the process writes a record of each call."""
    with socket.create_connection(("127.0.0.1", emulators.ports["local"]), timeout=5) as wire:
        for _ in range(2):
            wire.sendall(chat("local", "[sw:journal] hi", stream=True).bytes())
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n"):
                data = wire.recv(65_536)
                assert data, "the connection ended before the answer"
                received += data
    path = emulators.events / f"events-emulator-{emulators.process.pid}.jsonl"
    mine: list[dict[str, Any]] = []
    deadline = time.monotonic() + 5
    while len(mine) < 2 and time.monotonic() < deadline:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        mine = [record for record in records if record["request_id"] == "journal"]
    assert [record["completed"] for record in mine] == [True, True]


@pytest.mark.real
def test_bad_usage_is_exit_code_2(tmp_path: Path):
    """A provider that does not exist, no provider, a taken port and an unreadable file end it with 2 and a reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            ("--providers", "gemni"): "gemni",
            ("--providers", "gemini", "--ports", f"gemini={port}"): "port",
            ("--config", str(tmp_path / "none.json")): "none.json",
        }
        for arguments, word in cases.items():
            ran = run(*arguments)
            assert (ran.returncode, ran.stdout) == (2, "")
            assert word in ran.stderr


def test_a_configuration_lists_every_violation(tmp_path: Path):
    """All problems of a file are told at once, each by its name and value."""
    path = tmp_path / "config.json"
    path.write_text('{"providers": {"gemini": {"tokens": 0, "token": 3}, "gpt": {"tokens_per_second": 0}}}')
    with pytest.raises(ConfigError) as caught:
        from_file(path)
    for word in ("gemini.tokens is 0", "'token'", "'gpt'", "gpt.tokens_per_second"):
        assert word in str(caught.value)


def test_a_configuration_is_read(tmp_path: Path):
    """Fields that are written are taken, the others keep their defaults, and ports may be given apart."""
    path = tmp_path / "config.json"
    path.write_text('{"seed": 5, "providers": {"gemini": {"tokens": 3}, "local": {}}, "ports": {"local": 7}}')
    config = with_ports(from_file(path), {"gemini": 9001})
    assert (config.seed, config.providers["gemini"].tokens, config.providers["local"].tokens) == (5, 3, 16)
    assert config.ports == {"gemini": 9001, "local": 7}
    with pytest.raises(ConfigError, match="claude"):
        with_ports(config, {"claude": 1})
    with pytest.raises(ConfigError, match="no provider"):
        from_names([])

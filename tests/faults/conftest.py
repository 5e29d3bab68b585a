"""A real Toxiproxy and a real emulator for the tests of this room, one of each for all of them."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError

TOKEN = "a-token-that-no-file-may-hold-7f3a"


class Emulator(NamedTuple):
    """A running emulator of gemini: where it serves (host:port), the URL of its admin port, and the token for that."""

    upstream: str
    admin_url: str
    token: str


@contextmanager
def toxiproxy_server(binary: Path) -> Iterator[str]:
    """Run a Toxiproxy of our own and hand out the URL of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(binary), "-host", "127.0.0.1", "-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _await(lambda: Toxiproxy(url).version())
        yield url
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def toxiproxy_url(toxiproxy_binary: Path) -> Iterator[str]:
    """Return the URL of a real Toxiproxy that all tests share."""
    with toxiproxy_server(toxiproxy_binary) as url:
        yield url


@pytest.fixture
def another_toxiproxy_url(toxiproxy_binary: Path) -> Iterator[str]:
    """Return the URL of a real Toxiproxy that only this test has."""
    with toxiproxy_server(toxiproxy_binary) as url:
        yield url


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Return a real emulator of gemini that all tests share."""
    environment = {**os.environ, "SEAWALL_TOKEN": TOKEN}
    environment.pop("SEAWALL_EVENTS", None)
    command = [sys.executable, "-m", "seawall.emulators", "--providers", "gemini"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], 30)[0], "the emulator did not start"
            ready = json.loads(process.stdout.readline())
            yield Emulator(f"127.0.0.1:{ready['ports']['gemini']}", f"http://127.0.0.1:{ready['admin']}", TOKEN)
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def server(toxiproxy_url: str) -> Toxiproxy:
    """Return the client of the shared Toxiproxy."""
    return Toxiproxy(toxiproxy_url)


@pytest.fixture
def proxy(server: Toxiproxy, emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[ProxyInfo]:
    """Return a proxy to the emulator, fresh for each test."""
    name = f"test-{abs(hash(request.node.name)):x}-{time.monotonic_ns()}"
    yield server.create_proxy(name, emulator.upstream)
    server.delete_proxy(name)


def _await(call: object) -> None:
    assert callable(call)
    end = time.monotonic() + 15
    while True:
        try:
            call()
        except ToxiproxyError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return

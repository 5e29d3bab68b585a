"""A real Toxiproxy and a real emulator for the tests of this room, one of each for all of them."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError
from seawall.processes import free_port
from seawall.toolchain import resolve

Answer = tuple[int, str] | None  # None: never answer
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


@contextmanager
def scripted_api(answer: Callable[[str, str], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Serve an API that answers as told, and note the calls."""
    calls: list[str] = []
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            calls.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length") or 0))
            told = answer(self.command, self.path)
            if told is None:
                released.wait(20)
                self.close_connection = True
                return
            self.send_response(told[0])
            self.send_header("content-length", str(len(told[1])))
            self.end_headers()
            self.wfile.write(told[1].encode())

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", calls
        finally:
            released.set()
            httpd.shutdown()
            thread.join()


@pytest.fixture
def scripted() -> Callable[..., AbstractContextManager[tuple[str, list[str]]]]:
    """Return what serves an API that answers as told."""
    return scripted_api


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a real Redis that the tests of a module share."""
    program, port = resolve("redis").path, free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path_factory.mktemp("redis")) as process:
        try:
            _await(lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close())
            yield port
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
        except (ToxiproxyError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return

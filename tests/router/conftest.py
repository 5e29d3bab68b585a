"""Peers on real sockets, the transports to call them with, and a process of emulated providers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.httpx_transport import HttpxTransport
from router.settings import Settings
from router.transport import Call, Timeouts, Transport
from seawall.emulators.client import EmulatorClient
from seawall.emulators.steps import Behaviour
from seawall.processes import free_port
from seawall.toolchain import resolve
from seawall.transports.httptools_transport import HttptoolsTransport
from seawall.transports.pyreqwest_transport import PyreqwestTransport

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)  # the vendors' forms are data of their own beside the rooms

TRANSPORTS: dict[str, Callable[[], Transport]] = {
    "httpx": HttpxTransport,
    "pyreqwest": PyreqwestTransport,
    "httptools": HttptoolsTransport,
}
"""An implementation of the transport seam joins the conformance suite by its name here."""

PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
TOKEN = "the-token-of-this-test"
PROVIDERS = ("gemini", "claude", "openai", "local")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.hookimpl(optionalhook=True)  # pytest-asyncio 1.3 does not ask
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Have the conformance suite of the transports run on two event loops."""
    loops: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_transport"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the second loop would not change: only the transport on httptools lives on the loop itself."""
    dropped = [item for item in items if "[uvloop" in item.name and "httptools" not in item.nodeid.lower()]
    if dropped:
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)


class Wire:
    """One connection as the peer holds it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """Read one request; return its head and body. Raises IncompleteReadError when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """End the connection in order."""
        self.writer.close()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has closed its side."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass


Talk = Callable[[Wire], Awaitable[None]]


class Peer:
    """A listening server; `connections` counts those that it took."""

    def __init__(self, *talks: Talk) -> None:
        self.connections = 0
        self.port = 0
        self._talks = talks
        self._open: dict[asyncio.Task[None], Wire] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play the talk of this connection: the n-th gets the n-th, and the last one for ever."""
        talk = self._talks[min(self.connections, len(self._talks) - 1)]
        self.connections += 1
        wire = Wire(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = wire
        try:
            await talk(wire)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            del self._open[task]
            wire.close()

    async def settled(self) -> None:
        """Wait until no talk is going on any more."""
        async with asyncio.timeout(5):
            while self._open:
                await asyncio.wait(list(self._open))

    async def stop(self) -> None:
        """Break off what is going on."""
        for task, wire in list(self._open.items()):
            wire.writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def _peer(*talks: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve `talks` on a free port of 127.0.0.1."""
    made = Peer(*talks)
    server = await asyncio.start_server(made.take, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()


@pytest.fixture
def peer() -> Callable[..., AbstractAsyncContextManager[Peer]]:
    """Return what serves talks on a free port."""
    return _peer


@pytest.fixture(params=TRANSPORTS)
def make_transport(request: pytest.FixtureRequest) -> Callable[[], Transport]:
    """Return the maker of each implementation in turn."""
    return TRANSPORTS[request.param]


@pytest.fixture
async def transport(make_transport: Callable[[], Transport]) -> AsyncIterator[Transport]:
    """Return a transport of each implementation in turn."""
    made = make_transport()
    yield made
    await made.aclose()
    await made.aclose()


def _call_to(url: str, *, body: bytes = b"", timeouts: Timeouts = PATIENT) -> Call:
    return Call(method="POST", url=url, headers=(("x-test", "1"),), body=body, timeouts=timeouts)


@pytest.fixture
def call_to() -> Callable[..., Call]:
    """Return what makes a POST to a URL."""
    return _call_to


@pytest.fixture
def ask(transport: Transport) -> Callable[..., Awaitable[bytes]]:
    """Return what sends a call, or a POST to a URL, and reads the whole body; `got` gets each chunk as it comes."""

    async def send(to: str | Call, *, got: list[bytes] | None = None, **more: Any) -> bytes:
        got = [] if got is None else got
        async with transport.send(to if isinstance(to, Call) else _call_to(to, **more)) as answer:
            async for chunk in answer.body:
                assert chunk, "an empty chunk"
                got.append(chunk)
        return b"".join(got)

    return send


class Emulators:
    """A running emulator process: four providers that answer with `tokens` tokens, fast."""

    tokens = 6

    def __init__(self, ready: dict[str, Any], folder: Path) -> None:
        self._ports: dict[str, int] = ready["ports"]
        self._client = EmulatorClient(f"http://127.0.0.1:{ready['admin']}", TOKEN)
        self._journal = folder / f"events-emulator-{ready['pid']}.jsonl"

    def settings(self, **values: object) -> Settings:
        """Return settings that point at the emulators, with a key for each."""
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}
        base = {
            "gemini_base_url": urls["gemini"],
            "anthropic_base_url": urls["claude"],
            "openai_base_url": urls["openai"],
            "ollama_host": urls["local"],
            **dict.fromkeys(("gemini_api_key", "anthropic_api_key", "openai_api_key"), "a-key"),
        }
        return Settings.from_mapping(base | values)

    @contextmanager
    def misbehaving(self, *providers: str, **what: Any) -> Iterator[None]:
        """Have `providers` show a behaviour for as long as the block lasts."""
        for provider in providers:
            self._client.put_behaviour(provider, Behaviour(fault_id="fault", **what))
        try:
            yield
        finally:
            for provider in providers:
                self._client.delete_behaviour(provider, "fault")

    def calls(self, request_id: str, count: int) -> list[dict[str, Any]]:
        """Return the records of the calls of a request in order of arrival, once there are `count`."""
        deadline = time.monotonic() + 5
        while True:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
            found = [record for line in lines if (record := json.loads(line)).get("request_id") == request_id]
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count
                return sorted(found, key=lambda record: record["arrival_ns"])
            time.sleep(0.01)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """Start all four providers in a process of their own."""
    folder = tmp_path_factory.mktemp("emulators")
    healthy = {"first_token_p50_s": 0.001, "first_token_p99_s": 0.002, "tokens_per_second": 2000}
    providers = {name: {**healthy, "tokens": Emulators.tokens} for name in PROVIDERS}
    config = folder / "config.json"
    config.write_text(json.dumps({"seed": 3, "providers": providers}))
    environment = {**os.environ, "SEAWALL_TOKEN": TOKEN, "SEAWALL_EVENTS": str(folder)}
    command = [sys.executable, "-m", "seawall.emulators", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield Emulators(json.loads(process.stdout.readline()), folder)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


class RedisServer:
    """A real Redis on a port of its own, which can be frozen, killed, and started again on what it has on disk."""

    def __init__(self, program: Path, folder: Path) -> None:
        # As a node of a cluster it listens 10,000 ports higher as well.
        self.port = next(port for port in iter(free_port, 0) if port < 50_000)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it (nothing on disk unless `options` say so) and wait until it serves."""
        argv = [str(self._program), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*argv, "--save", "", *options], stdout=log)
        deadline = time.monotonic() + 10
        while not self.ask("PING").startswith((b"+PONG", b"-NOAUTH")):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.02)

    def ask(self, *words: str) -> bytes:
        """Send one command on a connection of its own; return the answer as it came, empty when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
                wire.sendall(
                    b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)])
                )
                return wire.recv(65536)
        except OSError:
            return b""

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """Return the program `redis-server`. Raises ToolchainError when it cannot be had."""
    found = resolve("redis")
    if found.path is None:
        pytest.fail("the tests start Redis servers of their own; unset SEAWALL_REDIS_URL")
    return found.path


@pytest.fixture(scope="module")
def quick_redis(redis_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start a Redis for a module's tests that keeps nothing on disk."""
    server = RedisServer(redis_program, tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_server(redis_program: Path, tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis of this test alone that confirms a step once it is on disk; `start(*DURABLE)` brings it back."""
    server = RedisServer(redis_program, tmp_path)
    server.start(*DURABLE)
    try:
        yield server
    finally:
        server.kill()

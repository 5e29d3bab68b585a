"""A real gateway between a hostile side and one that behaves: its memory, and what the others see, are measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.settings import setting_names
from seawall.gateway.config import NAMES

# For `canaries` here and `command_harness` above.
for _folder in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from canaries import Canaries  # noqa: E402 - only now can it be found

OURS = {name.upper() for name in setting_names()} | {*NAMES, "SEAWALL_CONFIG", "SEAWALL_EVENTS"}
GOOD = {"role": "assistant", "content": "the good answer"}
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request, given its body."""


async def good_ollama(body: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer as Ollama does."""
    told = {"model": "m", "message": GOOD, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4}
    kind = "application/x-ndjson" if json.loads(body).get("stream") else "application/json"
    content = json.dumps(told).encode() + b"\n"
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind.encode(), len(content)))
    writer.write(content)
    await writer.drain()


class Provider:
    """A provider's server in this process; `handler` is what it does."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.seen: list[bytes] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Provider]:
        """Listen on a free port."""
        clients: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            clients.add(task)
            task.add_done_callback(clients.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in [*clients]:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length.group(1)) if length else 0)
                self.seen.append(body)
                await self.handler(body, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


class Running:
    """A running gateway, and how those fare who behave."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.tried = self.whole = 0
        self.worst_s = 0.0

    def resident_mb(self, name: str) -> float:
        """Return VmHWM, the peak of the memory, or VmRSS."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found.group(1)) / 1024

    def forget_peak(self) -> None:
        """Have VmHWM begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def descriptors(self) -> int:
        """Return how many files the gateway has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a new connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    @asynccontextmanager
    async def attacked(self, name: str, *, grows_mb: float = 48, model: str = "llama3") -> AsyncIterator[None]:
        """Ask like a client that behaves while the block attacks; memory stays bounded, and each answer is whole."""
        before = self.resident_mb("VmRSS")
        self.forget_peak()
        self.tried = self.whole = 0
        self.worst_s = 0.0
        stop = asyncio.Event()
        others = asyncio.create_task(self._behave(stop, model))
        try:
            yield
        finally:
            stop.set()
            await others
        peak = self.resident_mb("VmHWM")
        print(
            f"{name}: peak {peak:.0f} MB, grown {peak - before:.1f} MB; others: {self.whole} of {self.tried} whole, "
            f"slowest {self.worst_s * 1000:.0f} ms"
        )
        assert peak - before < grows_mb, name
        assert self.tried > 0
        assert self.whole >= 0.999 * self.tried, name

    async def _behave(self, stop: asyncio.Event, model: str) -> None:
        asked = {"model": model, "messages": [{"role": "user", "content": "good"}]}
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            while not stop.is_set() or self.tried < 20:
                begun = time.monotonic()
                self.tried += 1
                answer = await client.post(f"{self.url}/v1/chat/completions", json=asked)
                self.whole += answer.status_code == 200 and "the good answer" in answer.text
                self.worst_s = max(self.worst_s, time.monotonic() - begun)
                await asyncio.sleep(0.005)


@pytest.fixture
def provider() -> type[Provider]:
    """Return Provider."""
    return Provider


@pytest.fixture
def start_gateway(tmp_path: Path) -> Any:
    """
    Return what runs a gateway of the test's own, with settings as in an environment.

    The provider `local` behaves; `openai` is the one that is given. What it says on stderr has no traceback.
    """

    @asynccontextmanager
    async def start(hostile: Provider | None = None, **settings: str) -> AsyncIterator[Running]:
        environment = {name: value for name, value in os.environ.items() if name not in OURS}
        async with Provider(good_ollama).serving() as local:
            environment |= {"OLLAMA_HOST": f"http://127.0.0.1:{local.port}", **settings}
            if hostile is not None:
                environment |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{hostile.port}", "OPENAI_API_KEY": "sk-o"}
            errors = tmp_path / "stderr"
            with errors.open("wb") as stderr:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "seawall.gateway", "--port", "0", "--ready-json"),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=stderr,
                    env=environment,
                    cwd=tmp_path,
                )
            try:
                assert process.stdout is not None
                line = await asyncio.wait_for(process.stdout.readline(), 30)
                yield Running(process, json.loads(line)["port"], tmp_path)
                assert process.returncode is None, "the gateway ended"
            finally:
                if process.returncode is None:
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 10)
                except TimeoutError:
                    process.kill()
                    await process.wait()
        said = errors.read_text(encoding="utf-8")
        assert "Traceback" not in said, said

    return start


@pytest.fixture
def canaries() -> Canaries:
    """Return fresh secrets."""
    return Canaries()

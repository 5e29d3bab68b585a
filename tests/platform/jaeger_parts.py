"""A real Jaeger for the tests of the traces: started on free ports of loopback, asked through its query API."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from platform_parts import ended

from seawall.ports import HeldPort
from seawall.toolchain import resolve

_FLAGS = (
    "collector.otlp.http.host-port",
    "collector.otlp.grpc.host-port",
    "collector.http-server.host-port",
    "collector.grpc-server.host-port",
    "query.http-server.host-port",
    "query.grpc-server.host-port",
    "admin.http.host-port",
)


class Jaeger:
    """A running Jaeger: where it takes spans, and what it has."""

    def __init__(self, otlp_port: int, query_port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{otlp_port}"
        self.query = f"http://127.0.0.1:{query_port}"

    def spans(self, trace_id: str, *, count: int, wait_s: float = 30) -> list[dict[str, Any]]:
        """Wait until a trace has `count` spans; return them in order of their start."""
        found: list[dict[str, Any]] = []
        end = time.monotonic() + wait_s
        while len(found) < count and time.monotonic() < end:
            try:
                (trace,) = self._ask(f"/api/traces/{trace_id}")
                found = trace["spans"]
            except httpx.HTTPStatusError:
                pass
            time.sleep(0.1)
        assert len(found) == count, found
        return sorted(found, key=lambda span: span["startTime"])

    def traces(self, service: str) -> list[str]:
        """Return the ids of the traces of a service."""
        return [trace["traceID"] for trace in self._ask(f"/api/traces?service={service}&limit=100")]

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        try:
            self._ask("/api/services")
        except httpx.HTTPError:
            return False
        return True

    def _ask(self, path: str) -> Any:
        return httpx.get(self.query + path, timeout=5, trust_env=False).raise_for_status().json()["data"]


def tags(told: dict[str, Any], within: str = "tags") -> dict[str, Any]:
    """Return the attributes of a span (`tags`) or of one of its events (`fields`)."""
    return {tag["key"]: tag["value"] for tag in told[within]}


@contextmanager
def jaeger_in(folder: Path, *arguments: str) -> Iterator[Jaeger]:
    """Run Jaeger's all-in-one with the toolchain's program, everything in memory."""
    program = resolve("jaeger").path
    assert program is not None
    with ExitStack() as stack:
        ports = [stack.enter_context(HeldPort()).port for _ in _FLAGS]
        addresses = [f"--{name}=127.0.0.1:{port}" for name, port in zip(_FLAGS, ports, strict=True)]
        log = stack.enter_context((folder / "jaeger.log").open("wb"))
        command = [str(program), *addresses, *arguments]
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.enter_context(ended(process))
        jaeger = Jaeger(ports[0], ports[4])
        end = time.monotonic() + 60
        while not jaeger.is_ready():
            assert process.poll() is None, (folder / "jaeger.log").read_text()[-3000:]
            assert time.monotonic() < end, (folder / "jaeger.log").read_text()[-3000:]
            time.sleep(0.1)
        yield jaeger

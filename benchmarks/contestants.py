"""
The processes of the speed benchmark: started, each bound to its core, and ended again.

The gateways have the first core for themselves, one measured at a time; upstream and generator share the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.generator import Figures
from benchmarks.machine import family, on_cores

__all__ = ["Contestant", "Field", "gateway_core", "seawall", "started"]

_ROOT = Path(__file__).parent.parent
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
_URLS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_HOST")


class Contestant(msgspec.Struct, frozen=True):
    """One process that answers chat completions. `start_s`: from its start to its listening."""

    port: int
    pids: list[int]
    start_s: float


class Field(msgspec.Struct, frozen=True):
    """All that is measured against each other, by name; `upstream` is also what `direct` means."""

    contestants: dict[str, Contestant]

    def measure(self, name: str, clients: int, seconds: float, kind: str) -> Figures:
        """Measure one contestant once, by a generator of its own."""
        upstream, chosen = self.contestants["direct"], self.contestants[name]
        pids = chosen.pids if name == "direct" else [*chosen.pids, *upstream.pids]
        command = [sys.executable, "-m", "benchmarks.generator", str(chosen.port), str(clients), str(seconds), kind]
        with on_cores([_load_core()]):
            done = subprocess.run(
                [*command, ",".join(map(str, pids))], cwd=_ROOT, check=True, capture_output=True, timeout=60 + seconds
            )
        return msgspec.json.decode(done.stdout, type=Figures)


def gateway_core() -> int:
    """Return the core of the gateways."""
    return min(os.sched_getaffinity(0))


def _load_core() -> int:
    return max(os.sched_getaffinity(0))


@contextmanager
def started(transport: str) -> Iterator[Field]:
    """Start everything, the gateway under test on the `transport` of that name, and end it when the block is left."""
    with ExitStack() as stack:
        upstream = stack.enter_context(_process(["benchmarks.upstream"], core=_load_core()))
        url = f"http://127.0.0.1:{upstream.port}"
        path = url + "/v1/chat/completions"
        yield Field(
            {
                "direct": upstream,
                "floor": stack.enter_context(_process(["benchmarks.floor", path], core=gateway_core())),
                "seawall": stack.enter_context(seawall(url, transport)),
                "textbook": stack.enter_context(_process(["benchmarks.textbook", path], core=gateway_core())),
            }
        )


@contextmanager
def seawall(upstream_url: str, transport: str, **settings: str) -> Iterator[Contestant]:
    """Start one gateway worker as users start it, with every provider's key set and a budget that has a limit."""
    environment = {
        **dict.fromkeys(_KEYS, "benchmark"),
        **dict.fromkeys(_URLS, upstream_url),
        "DAILY_SPEND_LIMIT_USD": "1000000",
        "TRANSPORT": transport,
        **settings,
    }
    arguments = ["seawall.gateway", "--port", "0", "--ready-json"]
    with _process(arguments, core=gateway_core(), environment=environment) as contestant:
        yield contestant


@contextmanager
def _process(arguments: list[str], *, core: int, environment: dict[str, str] | None = None) -> Iterator[Contestant]:
    plain = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")}
    began_s = time.perf_counter()
    with on_cores([core]):
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=_ROOT,
            env=plain | {"PYTHONPATH": str(_ROOT)} | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        start_s = time.perf_counter() - began_s
        if not line:
            raise RuntimeError(f"{arguments[0]} ended with exit code {process.wait()} before it was ready")
        told = json.loads(line)
        yield Contestant(told["port"] if isinstance(told, dict) else told, family(process.pid), start_s)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

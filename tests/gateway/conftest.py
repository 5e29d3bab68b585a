"""Real gateway processes in front of a real process of emulated providers."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from router.settings import setting_names
from seawall.answers import marked
from seawall.emulators.client import EmulatorClient
from seawall.emulators.steps import Behaviour
from seawall.gateway.config import NAMES

TOKEN = "the-token-of-this-test"
PROVIDERS = ("gemini", "claude", "openai", "local")
OURS = {name.upper() for name in setting_names()} | {*NAMES, "SEAWALL_CONFIG"}
_numbers = itertools.count(1)


class Emulators:
    """A running emulator process."""

    def __init__(self, ready: dict[str, Any], folder: Path) -> None:
        self.ports: dict[str, int] = ready["ports"]
        self._client = EmulatorClient(f"http://127.0.0.1:{ready['admin']}", TOKEN)
        self._journal = folder / f"events-emulator-{ready['pid']}.jsonl"

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


class Gateway:
    """A running gateway process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.says = ""
        """What is to stand on its stderr in the end; a traceback is nothing that a request may cause."""

    def client(self, key: str = "any") -> openai.OpenAI:
        """Return OpenAI's own client, without retries of its own; close it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)

    def async_client(self) -> openai.AsyncOpenAI:
        """Return OpenAI's own asynchronous client; close it."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, timeout=20)


def _start(folder: Path, healthy: dict[str, float]) -> tuple[list[str], dict[str, str]]:
    config = folder / "config.json"
    config.write_text(json.dumps({"seed": 3, "providers": dict.fromkeys(PROVIDERS, healthy)}))
    environment = {**os.environ, "SEAWALL_TOKEN": TOKEN, "SEAWALL_EVENTS": str(folder)}
    return [sys.executable, "-m", "seawall.emulators", "--config", str(config)], environment


@contextmanager
def _emulators(folder: Path, **healthy: float) -> Iterator[Emulators]:
    command, environment = _start(folder, {"first_token_p50_s": 0.001, "first_token_p99_s": 0.002, **healthy})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield Emulators(json.loads(process.stdout.readline()), folder)
        finally:
            _end(process)


@contextmanager
def _gateway(folder: Path, ports: dict[str, int], *arguments: str, **settings: str) -> Iterator[Gateway]:
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | {
        "GEMINI_BASE_URL": urls["gemini"],
        "ANTHROPIC_BASE_URL": urls["claude"],
        "OPENAI_BASE_URL": urls["openai"],
        "OLLAMA_HOST": urls["local"],
        "LOG_LEVEL": "off",
        **dict.fromkeys(("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "a-key"),
        **settings,
    }
    environment.pop("SEAWALL_EVENTS", None)
    command = [sys.executable, "-m", "seawall.gateway", "--port", "0", "--ready-json", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=environment, cwd=folder) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["ready"], ready["pid"]) == (True, process.pid)
            gateway = Gateway(process, ready["port"])
            yield gateway
        finally:
            _end(process)
            assert process.stderr is not None
            said = process.stderr.read()
        assert said.count(gateway.says) == 1 if gateway.says else not said
        assert "Traceback" not in said


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """Four providers whose answers are 6 tokens, at once."""
    with _emulators(tmp_path_factory.mktemp("emulators"), tokens_per_second=2000, tokens=6) as started:
        yield started


@pytest.fixture(scope="module")
def slow_emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """Four providers whose answers are 20 tokens in a second."""
    with _emulators(tmp_path_factory.mktemp("slow"), tokens_per_second=20, tokens=20) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in front of the emulators that several tests share: what they do leaves no trace in it."""
    with _gateway(tmp_path_factory.mktemp("gateway"), emulators.ports) as started:
        yield started


@pytest.fixture
def start_gateway(tmp_path: Path) -> Callable[..., AbstractContextManager[Gateway]]:
    """Return what starts a gateway of the test's own, with arguments, and settings as in an environment."""

    def start(emulators: Emulators, *arguments: str, **settings: str) -> AbstractContextManager[Gateway]:
        return _gateway(tmp_path, emulators.ports, *arguments, **settings)

    return start


@pytest.fixture
def asked() -> Callable[..., tuple[str, dict[str, Any]]]:
    """Return what makes the identity and the body of a new request."""

    def make(model: str = "seawall", **more: Any) -> tuple[str, dict[str, Any]]:
        request_id = f"g{next(_numbers)}"
        messages = [{"role": "user", "content": marked(request_id, "What does a seawall do?")}]
        return request_id, {"model": model, "messages": messages, **more}

    return make

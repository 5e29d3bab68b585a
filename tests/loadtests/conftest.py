"""The test server and Locust as processes, and the journal they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.command import command, environment, read_status, write_config
from loadtests.config import LoadConfig, LoadStatus
from seawall.plan import LoadPlan

PATIENCE_S = 60.0


class Server:
    """The test server's process."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("server.py")
        self.process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def seen(self) -> list[dict[str, Any]]:
        """Return the requests that came in, without their messages."""
        with urllib.request.urlopen(f"{self.url}/seen", timeout=PATIENCE_S) as answer:  # noqa: S310 - our own server
            return msgspec.json.decode(answer.read())

    def close(self) -> None:
        """End the process, frozen or not."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Run:
    """One load: its configuration and its Locust process."""

    def __init__(self, folder: Path, url: str, plan: LoadPlan, path: str, **more: Any) -> None:
        self.folder = folder
        self.config_path = folder / "load.json"
        self.config = LoadConfig(
            plan=plan, base_url=url, path=path, events=str(folder), status_file=str(folder / "status.json"), **more
        )
        write_config(self.config_path, self.config)
        self.log = folder / "locust.log"
        self.processes: list[subprocess.Popen[Any]] = []

    def start(self, arguments: list[str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start Locust, headless unless told otherwise."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                arguments or command(self.config_path),
                env={**os.environ, **environment(self.config_path)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )
        self.processes.append(process)
        return process

    def finish(self) -> int:
        """Wait for the process started first and return its exit code."""
        try:
            return self.processes[0].wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"Locust did not end:\n{self.log.read_text()}")

    def status(self) -> LoadStatus:
        """Wait for the start of the load to be told."""
        return until(lambda: read_status(self.config), self.log)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind from all files, by file and order."""
        lines = [line for path in sorted(self.folder.glob("events-*.jsonl")) for line in path.read_bytes().splitlines()]
        return [event for event in map(msgspec.json.decode, lines) if event["kind"] == kind]

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def until(look: Callable[[], Any], log: Path) -> Any:
    """Return what `look` returns once it is something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    pytest.fail(f"waited in vain:\n{log.read_text()}")


@pytest.fixture
def server() -> Iterator[Server]:
    """A test server of its own for each test."""
    started = Server()
    yield started
    started.close()


@pytest.fixture
def load(tmp_path: Path, server: Server) -> Iterator[Callable[..., Run]]:
    """Make a load against the test server; whatever it started is ended afterwards."""
    runs: list[Run] = []

    def make(plan: LoadPlan, path: str, **more: Any) -> Run:
        runs.append(Run(tmp_path, server.url, plan, path, **more))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any], Path], Any]:
    """`until`, for tests."""
    return until

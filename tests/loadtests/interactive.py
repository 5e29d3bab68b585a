"""`locust -f loadtests/locustfile.py` as a process of a test, with folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import loadtests

__all__ = ["Interactive", "ask"]

LOCUSTFILE = Path(loadtests.__file__).with_name("locustfile.py")
PATIENCE_S = 60.0


class Interactive:
    """Locust, and what it leaves in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.log = folder / "locust.log"
        self.environment = {**os.environ, "SEAWALL_OUT": str(self.out), "SEAWALL_STATE": str(folder / "state")}
        self.environment.pop("SEAWALL_LOAD", None)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one process."""
        with self.log.open("ab") as log:
            argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments]
            process = subprocess.Popen(
                argv, env=self.environment, cwd=self.out.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def said(self) -> str:
        """Return what they have said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, condition: Any, limit_s: float = PATIENCE_S) -> Any:
        """Return what `condition` returns once it is something."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"waited in vain:\n{self.said()[-4000:]}")

    def run(self) -> Path:
        """Return the folder of the latest run."""
        return max((path for path in self.out.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)

    def journal(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind in the latest run's journal."""
        lines = (self.run() / "journal.jsonl").read_bytes().splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(url: str, form: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own Locust
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()

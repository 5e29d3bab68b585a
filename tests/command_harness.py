"""The `seawall` command with folders of its own, for tests that run it to its end, or to a moment of their choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from faults.toxiproxy import Toxiproxy
from seawall.processes import free_port

__all__ = ["LATE", "Harness", "others_server", "until", "wait_for"]

LATE = "the load generator kept its times"


class Harness:
    """Runs the `seawall` command with folders of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.out = tmp_path / "out"
        self.state = tmp_path / "state"
        self.environment = {**os.environ, "SEAWALL_STATE": str(self.state), "NO_COLOR": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "seawall", *arguments],
            env=self.environment,
            cwd=self.tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command to its end; return exit code and output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=150)
        return process.returncode, output

    def run_scenarios(self, *arguments: str) -> tuple[int, str]:
        """Run scenarios to their end, once each, into the reports folder of this harness."""
        return self.run("run", *arguments, "--no-repeat", "--out", str(self.out))

    def start_scenario(self, scenario: Path) -> subprocess.Popen[str]:
        """Start a scenario that runs once, whatever comes of it."""
        return self.start("run", str(scenario), "--no-repeat", "--out", str(self.out))

    def folder(self, name: str = "dark") -> Path:
        """Return the folder of the latest run of a scenario."""
        found = [path for path in self.out.iterdir() if path.name.startswith(f"{name}-") and not path.is_symlink()]
        return max(found, key=lambda path: path.stat().st_mtime_ns)

    def verdict(self, name: str = "dark") -> dict[str, object]:
        """Return the verdict of the latest run of a scenario."""
        return json.loads((self.folder(name) / "verdict.json").read_text())

    def undo_files(self) -> list[str]:
        """Return the names of what is still to be taken back."""
        folder = self.state / "undo"
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def processes(self) -> list[psutil.Process]:
        """Return every living process that works for this harness, orphans too."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("SEAWALL_STATE") == str(self.state)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def child(self, process: subprocess.Popen[str], word: str) -> psutil.Process:
        """Return the process below `process` that has `word` on its command line, not its supervisor."""
        for child in psutil.Process(process.pid).children(recursive=True):
            words = child.cmdline()
            if word in words and not any("supervise" in each for each in words):
                return child
        raise AssertionError(f"no process {word}")

    def plant(self, program: str | None, code: str) -> None:
        """Let `code` run at the start of every Python process whose command line names `program`; None: of all."""
        folder = self.tmp_path / "planted"
        folder.mkdir()
        body = textwrap.indent(textwrap.dedent(code), " " * 8)
        condition = "True" if program is None else f"{program!r} in sys.orig_argv"
        # Python only remarks on an error here and goes on, without the code: then a test would prove nothing.
        end = "import os, traceback; traceback.print_exc(); os._exit(97)"
        loud = f"    except BaseException:\n        {end}\n"
        (folder / "sitecustomize.py").write_text(f"import sys\nif {condition}:\n    try:\n{body}\n{loud}")
        path = os.environ.get("PYTHONPATH")
        self.environment["PYTHONPATH"] = os.pathsep.join([str(folder), path] if path else [str(folder)])


@contextmanager
def others_server(program: Path) -> Generator[Toxiproxy]:
    """Start a Toxiproxy that is somebody else's, with a proxy and a toxic of theirs."""
    port = free_port()
    process = subprocess.Popen(
        [str(program), "-host", "127.0.0.1", "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Toxiproxy(f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: _answers(server), 10)
        server.create_proxy("theirs", "127.0.0.1:9")
        server.add_toxic("theirs", "slow", "latency", "downstream", 1.0, {"latency": 100})
        yield server
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until the condition holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def until(process: subprocess.Popen[str], words: str) -> str:
    """Read the output until a line has `words`; return what was read."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if words in line:
            return read
    raise AssertionError(f"{words!r} never came:\n{read}")


def _answers(server: Toxiproxy) -> bool:
    try:
        server.version()
    except Exception:  # noqa: BLE001 - not yet
        return False
    return True

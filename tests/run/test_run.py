"""The command on real parts: what passes, what must turn red, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from faults.toxiproxy import Toxiproxy
from seawall.processes import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SCENARIO = Path(__file__).with_name("dark.yaml")
LATE = "the load generator kept its times"


class Harness:
    """Runs the `seawall` command with folders of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.out = tmp_path / "out"
        self.environment = {**os.environ, "SEAWALL_STATE": str(tmp_path / "state"), "NO_COLOR": "1"}

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

    def start_run(self) -> subprocess.Popen[str]:
        """Start the scenario."""
        return self.start("run", str(SCENARIO), "--out", str(self.out))

    def folder(self) -> Path:
        """Return the folder of the one run."""
        (folder,) = (path for path in self.out.iterdir() if path.name.startswith("dark-"))
        return folder

    def verdict(self) -> dict[str, object]:
        """Return the verdict of the one run."""
        return json.loads((self.folder() / "verdict.json").read_text())

    def plant(self, program: str, code: str) -> None:
        """Let `code` run at the start of every Python process whose command line names `program`."""
        folder = self.tmp_path / "planted"
        folder.mkdir()
        body = textwrap.indent(textwrap.dedent(code), "    ")
        (folder / "sitecustomize.py").write_text(f"import sys\nif {program!r} in sys.orig_argv:\n{body}")
        self.environment["PYTHONPATH"] = str(folder)


@pytest.fixture
def harness(tmp_path: Path, toxiproxy_binary: Path) -> Harness:
    """Return a harness; Toxiproxy is there already."""
    return Harness(tmp_path)


@pytest.fixture
def others_toxiproxy(toxiproxy_binary: Path) -> Generator[Toxiproxy]:
    """Start a Toxiproxy that is somebody else's, with a proxy and a toxic of theirs."""
    port = free_port()
    process = subprocess.Popen(
        [str(toxiproxy_binary), "-host", "127.0.0.1", "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Toxiproxy(f"http://127.0.0.1:{port}")
    try:
        _wait_for(lambda: _answers(server), 10)
        server.create_proxy("theirs", "127.0.0.1:9")
        server.add_toxic("theirs", "slow", "latency", "downstream", 1.0, {"latency": 100})
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(server: Toxiproxy) -> bool:
    try:
        server.version()
    except Exception:  # noqa: BLE001 - not yet
        return False
    return True


def _wait_for(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _until(process: subprocess.Popen[str], words: str) -> str:
    """Read the output until a line has `words`; return what was read."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if words in line:
            return read
    raise AssertionError(f"{words!r} never came:\n{read}")


def _checks(verdict: dict[str, object], word: str) -> list[dict[str, str]]:
    return [check for check in verdict["checks"] if check["verdict"] == word]  # type: ignore[attr-defined]


def test_outage_of_the_primary_is_survived(harness: Harness) -> None:
    """The scenario holds on real parts: exit code 0, a report with every part, nothing left to undo."""
    code, output = harness.run("run", str(SCENARIO), "--out", str(harness.out))
    verdict = harness.verdict()
    assert [check["name"] for check in _checks(verdict, "fail")] == []
    assert {check["name"] for check in _checks(verdict, "invalid")} <= {LATE}  # a busy machine is no defect of ours
    assert verdict["undone"] is True
    assert code == (3 if _checks(verdict, "invalid") else 0), output
    for name in ("index.html", "junit.xml", "summary.md", "journal.jsonl"):
        assert (harness.folder() / name).stat().st_size > 0
    assert not list((harness.tmp_path / "state" / "undo").iterdir())


def test_breaker_that_never_opens_is_a_failure(harness: Harness) -> None:
    """A router whose breaker never opens turns the run red, with the cause in the first lines."""
    harness.plant(
        "seawall.gateway",
        """
        from router.breaker import Breaker
        Breaker._open = lambda self, now_s, cause: None
        """,
    )
    code, output = harness.run("run", str(SCENARIO), "--out", str(harness.out))
    assert code == 1, output
    told = output[output.index("FAIL dark") :]
    assert "gemini" in told.splitlines()[0]
    assert "open" in told.splitlines()[0]


def test_toxic_without_effect_is_invalid(harness: Harness) -> None:
    """A fault that was never put in force makes the run invalid, never a pass, and the reason names the fault."""
    harness.plant(
        "seawall",
        """
        from faults.toxic import ToxicFault
        ToxicFault.inject = lambda self: None
        """,
    )
    code, output = harness.run("run", str(SCENARIO), "--out", str(harness.out))
    assert code == 3, output
    assert harness.verdict()["verdict"] == "invalid"
    assert any("dark" in check["name"] for check in _checks(harness.verdict(), "invalid"))


@pytest.mark.parametrize("moment", ["injecting", "met by traffic", "healing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_undoes_and_reports(
    harness: Harness, others_toxiproxy: Toxiproxy, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C and SIGTERM in mid-run leave no process, no proxy and no toxic of ours; the report is there."""
    harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
    process = harness.start_run()
    _until(process, moment)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    _wait_for(lambda: not any(child.is_running() for child in children), 5)
    assert list(others_toxiproxy.proxies()) == ["theirs"]
    assert [toxic.name for toxic in others_toxiproxy.proxies()["theirs"].toxics] == ["slow"]
    assert harness.verdict()["undone"] is True
    assert (harness.folder() / "index.html").stat().st_size > 0
    assert not list((harness.tmp_path / "state" / "undo").iterdir())


@pytest.mark.parametrize("moment", ["injecting", "met by traffic", "healing"])
def test_kill_is_recovered_from(harness: Harness, others_toxiproxy: Toxiproxy, moment: str) -> None:
    """After SIGKILL the children end by themselves, `seawall recover` takes back the rest, `seawall report` reports."""
    harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
    process = harness.start_run()
    _until(process, moment)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    _wait_for(lambda: not any(child.is_running() for child in children), 10)
    assert len(others_toxiproxy.proxies()) > 1
    code, output = harness.run("recover")
    assert code == 0, output
    assert list(others_toxiproxy.proxies()) == ["theirs"]
    assert [toxic.name for toxic in others_toxiproxy.proxies()["theirs"].toxics] == ["slow"]
    code, output = harness.run("report", str(harness.folder()))
    assert "INVALID" in output or "FAIL" in output
    assert (harness.folder() / "index.html").stat().st_size > 0
    code, output = harness.run("recover")
    assert (code, output.strip()) == (0, "Nothing to undo.")


def test_bad_scenario_starts_nothing(harness: Harness) -> None:
    """A broken file is refused with its place and exit code 2 before anything is started or written."""
    broken = harness.tmp_path / "broken.yaml"
    broken.write_text(SCENARIO.read_text().replace("timeout: 0", "timeuot: 0"))
    code, output = harness.run("run", str(broken), "--out", str(harness.out))
    assert code == 2
    assert "broken.yaml:" in output
    assert "`timeout`" in output
    assert not harness.out.exists()


def test_gateway_that_dies_ends_the_run(harness: Harness) -> None:
    """When a part ends unasked the run is broken off at once, undone, and invalid with the part's name."""
    process = harness.start_run()
    _until(process, "met by traffic")
    gateway = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "seawall.gateway" in child.cmdline() and "seawall.supervise" not in " ".join(child.cmdline())
    )
    gateway.kill()
    output, _ = process.communicate(timeout=30)
    assert "gateway" in output
    assert process.returncode in {1, 3}, output
    assert harness.verdict()["undone"] is True

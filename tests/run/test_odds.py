"""Odd circumstances: whatever the machine does, the command says so in clear words, exits in order, and undoes all."""

from __future__ import annotations

import http.server
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_harness import LATE, Harness, until, wait_for

from faults.toxiproxy import Toxiproxy
from seawall.paths import cache_dir
from seawall.processes import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
SHORT = HERE / "short.yaml"


def _held(harness: Harness, name: str = "short") -> bool:
    """Whether a run held, but for a load generator that a busy machine made late."""
    verdict = harness.verdict(name)
    missed = {check["name"] for check in verdict["checks"] if check["verdict"] in ("fail", "invalid")}  # type: ignore[attr-defined]
    assert verdict["undone"] is True
    return missed <= {LATE}


def _nothing_left(harness: Harness) -> None:
    wait_for(lambda: not harness.processes(), 10)
    assert harness.undo_files() == []


@pytest.mark.parametrize("what", ["reports", "undo files"])
def test_folder_that_cannot_be_written_is_named(harness: Harness, what: str) -> None:
    """A folder that cannot be written is told with the way out and exit code 3, before anything is started."""
    (harness.tmp_path / "file").write_text("in the way")
    if what == "reports":
        harness.out = harness.tmp_path / "file" / "out"
    else:
        harness.environment["SEAWALL_STATE"] = str(harness.tmp_path / "file" / "state")
    code, output = harness.run_scenarios(str(SHORT))
    assert code == 3, output
    assert str(harness.tmp_path / "file") in output
    assert ("--out" if what == "reports" else "SEAWALL_STATE") in output
    assert "Traceback" not in output
    assert "▶" not in output


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process's files")
def test_disk_full_while_journalling_ends_the_run(harness: Harness) -> None:
    """When the journal cannot be written any more, the run ends at once with that reason, exit code 3, all undone."""
    process = harness.start_scenario(SHORT)
    until(process, "injecting")
    size = (harness.folder("short") / f"events-harness-{process.pid}.jsonl").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3, output
    assert "the journal cannot be written: File too large" in output
    assert "Traceback" not in output
    _nothing_left(harness)


@pytest.mark.parametrize("who", ["nobody", "a web server"])
def test_toxiproxy_address_that_is_none_is_refused(harness: Harness, who: str) -> None:
    """An address at which no Toxiproxy is gives exit code 3 with the variable's name, and nothing is started."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = free_port() if who == "nobody" else server.server_address[1]
        harness.environment["SEAWALL_TOXIPROXY_URL"] = f"http://127.0.0.1:{port}"
        code, output = harness.run_scenarios(str(SHORT))
    finally:
        server.shutdown()
        server.server_close()
    assert code == 3, output
    assert f"SEAWALL_TOXIPROXY_URL=http://127.0.0.1:{port}" in output
    assert ("cannot be reached" if who == "nobody" else "does not answer like Toxiproxy") in output
    assert "unset SEAWALL_TOXIPROXY_URL" in output
    assert "▶" not in output
    _nothing_left(harness)


def test_no_home_folder_is_told(harness: Harness) -> None:
    """A user without a home folder is told which variables stand in for it, exit code 3."""
    harness.plant("seawall", "import pwd\npwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError('no such user'))")
    for name in ("HOME", "SEAWALL_STATE", "XDG_STATE_HOME"):
        harness.environment.pop(name, None)
    for words in (("recover",), ("run", str(SHORT))):
        code, output = harness.run(*words)
        assert code == 3, output
        assert "SEAWALL_STATE" in output
        assert "Traceback" not in output


def test_reader_scenario_and_home_may_go(harness: Harness) -> None:
    """A run whose reader left after one line, whose file vanished, and that has no HOME, ends as any other."""
    scenario = harness.tmp_path / "short.yaml"
    scenario.write_text(SHORT.read_text())
    harness.environment["SEAWALL_CACHE"] = str(cache_dir())
    harness.environment.pop("HOME", None)
    process = harness.start_scenario(scenario)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("▶ short")
    process.stdout.close()
    scenario.unlink()
    code = process.wait(timeout=60)
    assert _held(harness)
    assert code in (0, 3)
    assert (harness.folder("short") / "index.html").stat().st_size > 0
    _nothing_left(harness)
    code, output = harness.run_scenarios(str(scenario))
    assert code == 2
    assert "there is no such scenario" in output


def test_jumping_wall_clock_changes_nothing(harness: Harness) -> None:
    """Durations come from the monotonic clock: a wall clock that jumps by hours changes no verdict and no latency."""
    harness.plant(
        None,
        """
        import time
        _real, _mono = time.time, time.monotonic
        # An hour forth, an hour back, every 300 ms.
        _jump = lambda: 3600 * (int(_mono() / 0.3) % 3 - 1)
        time.time = lambda: _real() + _jump()
        time.time_ns = lambda: round(time.time() * 1e9)
        """,
    )
    began_s = time.monotonic()
    code, output = harness.run_scenarios(str(SHORT))
    assert time.monotonic() - began_s < 60
    assert _held(harness), output
    assert code in (0, 3)
    assert harness.verdict("short")["figures"]["latency_ms_max"] < 10_000  # type: ignore[index]
    _nothing_left(harness)


def test_load_generator_killed_makes_the_run_invalid(harness: Harness) -> None:
    """A load generator that is killed in mid-run ends it: exit code 3, the reason named, everything undone."""
    process = harness.start_scenario(SHORT)
    until(process, "healing")
    harness.child(process, "locust").kill()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3, output
    assert "the load generator ended with exit code -9" in output
    assert harness.verdict("short")["undone"] is True
    _nothing_left(harness)


def test_two_commands_at_once_share_a_folder(harness: Harness) -> None:
    """Two commands at once, reports and undo files in the same folders: neither touches what is the other's."""
    processes = [harness.start_scenario(SHORT) for _ in range(2)]
    outputs = [process.communicate(timeout=90)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode in (0, 3), output
    folders = [path for path in harness.out.iterdir() if not path.is_symlink()]
    assert len(folders) == 2
    assert all((folder / "verdict.json").is_file() for folder in folders)
    assert (harness.out / "latest").resolve() in folders
    assert _held(harness)
    _nothing_left(harness)


def test_second_signal_still_waits_for_the_undo(harness: Harness, others_toxiproxy: Toxiproxy) -> None:
    """Ctrl-C again and again, by somebody impatient, neither skips the undo nor changes the exit code."""
    harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
    process = harness.start_scenario(HERE / "ends.yaml")
    until(process, "fault slow: active")
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "still stopping" in output
    assert list(others_toxiproxy.proxies()) == ["theirs"]
    assert harness.verdict("ends")["undone"] is True
    _nothing_left(harness)


def test_stop_when_ends_the_run(harness: Harness) -> None:
    """A run in which next to nothing succeeds is stopped by its own rule: exit code 4, the rule named, all undone."""
    scenario = harness.tmp_path / "stopped.yaml"
    text = SHORT.read_text().replace("duration: 2500ms", "duration: 20s").replace("duration: 1s", "duration: 15s")
    others = "".join(
        f"  - {{id: {name}, at: 500ms, duration: 15s, target: {name}, respond: {{status: 503}}}}\n"
        for name in ("claude", "openai", "local")
    )
    text = text.replace("expect:", f"{others}stop_when: {{success_rate: '< 20%', for: 1s}}\nexpect:")
    scenario.write_text(text)
    began_s = time.monotonic()
    code, output = harness.run_scenarios(str(scenario))
    assert code == 4, output
    assert "stop_when: success rate" in output
    assert time.monotonic() - began_s < 18
    assert harness.verdict("stopped")["undone"] is True
    _nothing_left(harness)


def test_closed_outputs_end_nothing(tmp_path: Path) -> None:
    """Commands whose outputs were never open, or are full, end with their own exit code and without a traceback."""
    command = [sys.executable, "-m", "seawall", "list"]
    environment = {**os.environ, "SEAWALL_STATE": str(tmp_path / "state")}
    shell = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', *command]
    assert subprocess.run(shell, env=environment, check=False, timeout=30).returncode == 0
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, env=environment, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
            )
        assert (done.returncode, done.stderr) == (0, "")

"""Process and budget faults in whole runs: who goes on, what comes back where, and what is left at the end."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_harness import LATE, Harness, until, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SCENARIO = """
version: 1
title: {title}
arenas: [wire]
seed: 3
system:
  gateway: seawall
  workers: {workers}
  settings: {{CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 300ms, first_byte_timeout: 2s, idle_timeout: 2s{settings}}}
load: {load}
faults:
  {faults}
expect:
  thresholds:
    - {{metric: success_rate, limit: ">= {success}"}}
"""


def written(
    folder: Path, *faults: str, workers: int = 1, duration: str = "4s", success: str = "50%", together: int = 0
) -> Path:
    """Write a scenario with these faults into the folder: 20 requests/s, or so many `together` every 250 ms."""
    load = f"{{executor: constant-arrival-rate, rate: 20/s, duration: {duration}, stream: 30%}}"
    if together:
        moments = ", ".join(f"{{at: {at}ms, count: {together}}}" for at in range(0, 4000, 250))
        load = f"{{executor: arrivals, arrivals: [{moments}]}}"
    shared = any("redis" in fault or "budget" in fault for fault in faults)
    path = folder / "harm.yaml"
    path.write_text(
        SCENARIO.format(
            title="Processes are harmed",
            workers=workers,
            load=load,
            settings=", BUDGET_STORE: redis" if shared else "",
            faults="\n  ".join(f"- {{{fault}}}" for fault in faults),
            success=success,
        )
    )
    return path


def ran(harness: Harness, scenario: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Run a scenario that must hold; return the evidence of each fault by phase."""
    code, output = harness.run_scenarios(str(scenario))
    verdict: Any = harness.verdict("harm")
    missed = [check["name"] for check in verdict["checks"] if check["verdict"] not in ("pass", "safe")]
    assert set(missed) <= {LATE}, output  # a busy machine is no defect of ours
    assert (code, verdict["undone"]) == (3 if missed else 0, True), output
    assert harness.undo_files() == []
    return phases(harness)


def events(harness: Harness, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind in the journal of the latest run."""
    lines = (harness.folder("harm") / "journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def phases(harness: Harness) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the evidence of each fault by phase."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for event in events(harness, "fault"):
        found.setdefault(event["id"], {})[event["phase"]] = event["evidence"]
    return found


def test_a_killed_worker_leaves_the_other_serving(harness: Harness) -> None:
    """Of two workers one is killed: its end is no unasked one, the other serves, and it comes back on the port."""
    faults = ran(
        harness,
        written(
            harness.tmp_path,
            "id: killed, at: 1s, duration: 1s, target: gateway, process: kill",
            workers=2,
            success="80%",
            together=10,
        ),
    )
    assert faults["killed"]["active"]["criterion"] == "gone"
    assert faults["killed"]["healed"]["port"] == faults["killed"]["active"]["port"]
    assert faults["killed"]["met"]["requests"] > 0
    exits = [event["code"] for event in events(harness, "process") if event["name"] == "gateway" and event["code"]]
    assert exits == [-signal.SIGKILL]
    assert len({event["worker"] for event in events(harness, "attempt")}) >= 2


def test_a_gateway_stands_still_and_a_budget_runs_out(harness: Harness) -> None:
    """Requests wait while the gateway is stopped; with nearly nothing left of the day's limit local serves."""
    faults = ran(
        harness,
        written(
            harness.tmp_path,
            "id: stopped, at: 500ms, duration: 1s, target: gateway, process: stop",
            "id: broke, at: 2500ms, duration: 1s, target: budget, remaining: 0.0001 USD",
            duration="5s",
        ),
    )
    assert faults["stopped"]["active"]["state"] == "T"
    assert faults["stopped"]["healed"]["pid"] == faults["stopped"]["active"]["pid"]
    assert faults["broke"]["active"]["left_micro_usd"] <= 100
    assert faults["broke"]["healed"]["adjusted_micro_usd"] == 0
    assert any(event["reason"] == "budget" for event in events(harness, "skip"))
    assert any(event["provider"] == "local" for event in events(harness, "request"))


def test_redis_dies_and_toxiproxy_restarts(harness: Harness) -> None:
    """
    Both come back where they were and what they held is there; the versions of both are in the journal.

    That the first port at the start was taken by somebody else does not end the run.
    """
    harness.plant(
        "seawall",
        """
        import socket
        from seawall.arenas import parts
        taken = socket.create_server(("127.0.0.1", 0))
        class Taken(parts.HeldPort):
            ports = [taken.getsockname()[1]]
            def __init__(self):
                super().__init__()
                self.port = Taken.ports.pop() if Taken.ports else self.port
        parts.HeldPort = Taken
        """,
    )
    faults = ran(
        harness,
        written(
            harness.tmp_path,
            "id: slow, at: 500ms, duration: 4s, target: gemini, toxic: {type: latency, attributes: {latency: 50}}",
            "id: killed, at: 1s, duration: 1s, target: redis, process: kill",
            "id: restarted, at: 3s, duration: 500ms, target: toxiproxy, process: restart",
            duration="6s",
        ),
    )
    assert faults["killed"]["active"]["port_refuses"]
    assert faults["killed"]["healed"]["answer"] == "PONG"
    assert faults["restarted"]["active"]["exit_code"] == 0
    assert "healed" in faults["slow"]
    (header,) = events(harness, "header")
    assert {"redis", "toxiproxy"} <= set(header["versions"])


IN_FORCE = (
    "id: stopped, at: 500ms, duration: 5s, target: redis, process: stop",
    "id: killed, at: 500ms, duration: 5s, target: gateway, process: kill",
)


def test_a_killed_harness_leaves_nothing(harness: Harness) -> None:
    """After SIGKILL, with process and budget faults in force, all processes end and none starts again."""
    scenario = written(
        harness.tmp_path,
        "id: broke, at: 300ms, duration: 5s, target: budget, remaining: 0.01 USD",
        *IN_FORCE,
        duration="7s",
    )
    process = harness.start_scenario(scenario)
    until(process, "fault killed: active")
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not harness.processes(), 10)
    assert harness.undo_files()
    code, output = harness.run("recover")
    assert (code, harness.undo_files()) == (0, []), output
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert harness.processes() == []
        time.sleep(0.1)


def test_an_interrupted_harness_undoes_all(harness: Harness) -> None:
    """Ctrl-C with process and budget faults in force heals them, ends every process and starts none again."""
    scenario = written(
        harness.tmp_path,
        "id: broke, at: 300ms, duration: 5s, target: budget, remaining: 0.01 USD",
        *IN_FORCE,
        duration="7s",
    )
    process = harness.start_scenario(scenario)
    until(process, "fault killed: active")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert harness.verdict("harm")["undone"] is True
    assert harness.undo_files() == []
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert harness.processes() == []
        time.sleep(0.1)


def test_a_crash_of_toxiproxy_breaks_the_run_off(harness: Harness) -> None:
    """When Toxiproxy ends unasked in mid-run the word names it, the exit code is 3, and nothing is left to undo."""
    process = harness.start_scenario(
        written(
            harness.tmp_path,
            "id: slow, at: 300ms, duration: 5s, target: gemini, toxic: {type: latency, attributes: {latency: 50}}",
            duration="7s",
        )
    )
    until(process, "fault slow: active")
    server = next(each for each in harness.processes() if Path(each.exe()).name == "toxiproxy-server")
    assert isinstance(server, psutil.Process)
    server.kill()
    output, _ = process.communicate(timeout=60)
    assert "toxiproxy (pid " in output
    assert "ended unasked" in output
    assert process.returncode == 3, output
    assert harness.verdict("harm")["undone"] is True
    assert harness.undo_files() == []


def test_a_missing_redis_is_told(harness: Harness) -> None:
    """Where no Redis can be had the word says what was tried, with exit code 3 and nothing started."""
    harness.environment["SEAWALL_REDIS_URL"] = "redis://127.0.0.1:1"
    scenario = written(harness.tmp_path, "id: killed, at: 1s, duration: 1s, target: redis, process: kill")
    code, output = harness.run_scenarios(str(scenario))
    assert code == 3, output
    assert "SEAWALL_REDIS_URL" in output
    assert harness.processes() == []
    assert harness.undo_files() == []

"""Locust's web UI and its distributed mode."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from loadtests.command import command, worker_command
from seawall.plan import LoadPlan, RateStage, arrivals

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


def steady(rate: float, duration_s: float) -> LoadPlan:
    """Return a plan with one rate, all JSON."""
    stages = (RateStage(duration_s=duration_s, start_rate=rate, end_rate=rate),)
    return LoadPlan(executor="constant-arrival-rate", seed=1, stages=stages)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url: str, form: dict[str, Any] | None = None) -> Any:
    """Return the JSON that Locust's web UI answers, or None while it does not listen."""
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:  # noqa: S310 - our own Locust
            return json.load(answer)
    except OSError:
        return None


def test_the_web_ui_runs_the_same_load_and_a_restart_begins_anew(load: Callable, eventually: Callable) -> None:
    """More users send no more requests, the figures are right, and each start has an events file of its own."""
    run = load(steady(50, 2.0), "/v1/whole")
    port = free_port()
    headless = command(run.config_path)
    run.start([*headless[: headless.index("--headless")], "--web-host", "127.0.0.1", "--web-port", str(port)])
    url = f"http://127.0.0.1:{port}"

    def state() -> Any:
        return ask(f"{url}/stats/requests")

    eventually(state, run.log)
    assert ask(f"{url}/swarm", {"user_count": 1, "spawn_rate": 1})["success"]
    eventually(lambda: run.config.status_file and run.events("request"), run.log)
    assert ask(f"{url}/swarm", {"user_count": 5, "spawn_rate": 5})["success"]
    figures = eventually(lambda: (found := state()) and found["state"] == "stopped" and found, run.log)
    row = next(row for row in figures["stats"] if row["method"] == "POST")
    assert (row["name"], row["num_requests"], row["num_failures"]) == ("json", 100, 0)
    assert len(run.events("request")) == 100
    assert ask(f"{url}/swarm", {"user_count": 1, "spawn_rate": 1})["success"]
    eventually(lambda: len(run.events("request")) == 200, run.log)
    roles = sorted(path.name.rsplit("-", 1)[0] for path in run.folder.glob("events-*.jsonl"))
    assert roles == ["events-load", "events-load-2"]
    run.processes[0].terminate()
    assert run.finish() == 0


def start_distributed(run: Any) -> None:
    """Start a master and two workers."""
    port = free_port()
    run.start(command(run.config_path, expect_workers=2, port=port))
    for _ in range(2):
        run.start(worker_command(port))


def test_two_workers_share_the_arrivals(load: Callable) -> None:
    """Each arrival is sent by exactly one worker, at its planned time, and all three processes end with 0."""
    plan = steady(50, 2.0)
    run = load(plan, "/v1/whole")
    start_distributed(run)
    t0_ns = run.status().t0_ns
    assert run.finish() == 0
    assert [process.wait(30) for process in run.processes] == [0, 0, 0]
    records = run.events("request")
    intended = {record["request_id"]: record["intended_ns"] for record in records}
    assert len(records) == len(intended)
    assert intended == {arrival.request_id: t0_ns + round(arrival.at_s * 1e9) for arrival in arrivals(plan)}
    assert all(record["outcome"] == "whole" for record in records)
    assert sorted(int(record["request_id"]) % 2 for record in records) == [0] * 50 + [1] * 50
    assert {record["source"] for record in records} == {f"load-{process.pid}" for process in run.processes[1:]}


@pytest.mark.parametrize("killed", [1, 2])
def test_a_lost_worker_breaks_the_load(load: Callable, killed: int) -> None:
    """A master whose worker was killed, or whose last one was, does not wait for ever: code 3 and a note say so."""
    run = load(steady(20, 25.0), "/v1/whole")
    start_distributed(run)
    time.sleep(max(run.status().t0_ns / 1e9 + 0.5 - time.monotonic(), 0))
    for worker in run.processes[1 : 1 + killed]:
        worker.kill()
    before = time.monotonic()
    assert run.finish() == 3
    assert time.monotonic() - before < 15
    assert any("lost" in note["text"] for note in run.events("note") if note["level"] == "error")


def test_the_command_needs_no_gevent() -> None:
    """The harness's side of the load generator imports neither gevent nor Locust nor httptools."""
    import subprocess

    probe = "import loadtests.command, sys; print(sorted({'gevent', 'locust', 'httptools'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

"""Locust in a process of its own against a server that behaves well and badly."""

from __future__ import annotations

import resource
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from seawall.plan import ArrivalSpec, LoadPlan, RateStage, arrivals

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


def steady(rate: float, duration_s: float, *, stream_share: float = 0.0, deadline_s: float = 10.0) -> LoadPlan:
    """Return a plan with one rate."""
    stages = (RateStage(duration_s=duration_s, start_rate=rate, end_rate=rate),)
    return LoadPlan(
        executor="constant-arrival-rate", seed=1, stages=stages, stream_share=stream_share, deadline_s=deadline_s
    )


EXPECTED = {  # behaviour: (outcome of JSON, outcome of a stream)
    "whole": ("whole", "whole"),
    "cut": ("cut", "cut"),
    "undone": ("whole", "cut"),
    "html": ("disguised", "disguised"),
    "unavailable": ("refused", "refused"),
    "reset": ("error", "error"),
    "hang": ("hung", "hung"),
    "other": ("disguised", "disguised"),
    "error_event": ("whole", "error"),
    "refused_plain": ("error", "error"),
}


def test_every_behaviour_gets_its_outcome_and_the_load_ends_with_zero(load: Callable, server) -> None:
    """Whatever the server does, each planned request is sent and recorded once, and the code is 0."""
    specs = tuple(ArrivalSpec(at_s=0.02 * n, stream=n % 20 >= 10) for n in range(60))
    plan = LoadPlan(executor="arrivals", seed=1, arrivals=specs, deadline_s=1.0)
    run = load(plan, "/v1/mixed")
    run.start()
    assert run.finish() == 0
    records = {record["request_id"]: record for record in run.events("request")}
    assert len(run.events("request")) == len(records) == 60
    behaviours = list(EXPECTED)
    for n in range(60):
        record = records[f"{n:06d}"]
        behaviour = behaviours[n % 10]
        assert record["outcome"] == EXPECTED[behaviour][record["stream"]], (behaviour, record)
        assert (record["problem"] is None) == (record["outcome"] == "whole")
        assert record["first_byte_ns"] is None or record["sent_ns"] <= record["first_byte_ns"] <= record["end_ns"]
    assert sorted(request["id"] for request in server.seen()) == sorted(records)
    assert any(record["reused"] for record in records.values())
    whole, refused = records["000000"], records["000004"]
    assert (whole["provider"], whole["providers_in_text"], whole["tokens"]) == ("claude", ["claude"], 8)
    assert (refused["status"], refused["code"], refused["retry_after_s"]) == (503, "all_clouds_down", 7.0)
    assert records["000010"]["chunks"] == 8
    assert records["000010"]["provider"] == "gemini"
    assert sum(lag["requests"] for lag in run.events("lag")) == 60
    status = run.status()
    assert (status.arrivals, status.duration_s) == (60, pytest.approx(1.18))
    assert "gemini:0000" not in "".join(path.read_text() for path in run.folder.glob("events-*"))
    log = run.log.read_text()
    assert "POST     json" in log
    assert "POST     stream" in log


def test_a_frozen_server_delays_no_send(load: Callable, server) -> None:
    """While the server stands still for a second, requests leave at their planned times; their latency tells it."""
    plan = steady(100, 2.5, stream_share=0.3)
    run = load(plan, "/v1/whole")
    run.start()
    t0_ns = run.status().t0_ns
    time.sleep(max(t0_ns / 1e9 + 0.5 - time.monotonic(), 0))
    frozen_ns = time.monotonic_ns()
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    server.process.send_signal(signal.SIGCONT)
    thawed_ns = time.monotonic_ns()
    assert run.finish() == 0
    records = {record["request_id"]: record for record in run.events("request")}
    planned = {arrival.request_id: t0_ns + round(arrival.at_s * 1e9) for arrival in arrivals(plan)}
    assert {key: record["intended_ns"] for key, record in records.items()} == planned
    assert {record["outcome"] for record in records.values()} == {"whole"}
    late_ns = {key: record["sent_ns"] - record["intended_ns"] for key, record in records.items()}
    assert min(late_ns.values()) >= 0
    assert max(late_ns.values()) < 250e6
    caught = [r for r in records.values() if frozen_ns + 50e6 < r["intended_ns"] < thawed_ns - 50e6]
    assert len(caught) >= 80
    assert all(record["end_ns"] >= thawed_ns for record in caught)
    assert max(record["end_ns"] - record["intended_ns"] for record in caught) > 0.8e9
    lags = run.events("lag")
    assert 2 <= len(lags) <= 6
    assert max(lag["max_ms"] for lag in lags) == pytest.approx(max(late_ns.values()) / 1e6, abs=0.01)
    assert all(0 < lag["cpu_share"] <= 1 for lag in lags)


def test_sent_means_that_the_last_byte_has_left(load: Callable, server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request larger than all buffers counts as sent when the server has taken it, and its lag says so."""
    monkeypatch.setenv("SEAWALL_TEST_KEY", "sk-secret")
    specs = (ArrivalSpec(at_s=0.2, prompt="x" * 30_000_000, max_tokens=9),)
    plan = LoadPlan(executor="arrivals", seed=1, arrivals=specs, model="auto-chain")
    run = load(plan, "/v1/whole", api_key_env="SEAWALL_TEST_KEY")
    run.start()
    t0_ns = run.status().t0_ns
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(max(t0_ns / 1e9 + 0.8 - time.monotonic(), 0))
    thawed_ns = time.monotonic_ns()
    server.process.send_signal(signal.SIGCONT)
    assert run.finish() == 0
    (record,) = run.events("request")
    assert record["outcome"] == "whole"
    assert record["intended_ns"] < thawed_ns < record["sent_ns"] <= record["first_byte_ns"]
    assert run.events("lag")[-1]["max_ms"] > 500
    (request,) = server.seen()
    sent = {"key": "Bearer sk-secret", "model": "auto-chain", "max_tokens": 9, "stream": False}
    assert request == {"id": "000000", **sent}
    assert not [path for path in run.folder.iterdir() if b"sk-secret" in path.read_bytes()]


def test_a_connection_that_the_server_left_is_not_used_again(load: Callable) -> None:
    """A server that closes its connections without notice costs no request: each finds out before it sends."""
    run = load(steady(20, 1.0), "/v1/leave")
    run.start()
    assert run.finish() == 0
    assert [(record["outcome"], record["reused"]) for record in run.events("request")] == [("whole", False)] * 20


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_a_record_for_every_request_in_flight(load: Callable, signal_number: int) -> None:
    """A signal with 200 in flight ends the process at once with code 0, 200 records `dropped`, and none not yet due."""
    specs = (*(ArrivalSpec(at_s=0.002 * n) for n in range(200)), ArrivalSpec(at_s=60.0))
    run = load(LoadPlan(executor="arrivals", seed=1, arrivals=specs), "/v1/hang")
    process = run.start()
    time.sleep(max(run.status().t0_ns / 1e9 + 1.0 - time.monotonic(), 0))
    before = time.monotonic()
    process.send_signal(signal_number)
    assert run.finish() == 0
    assert time.monotonic() - before < 2.0
    records = run.events("request")
    assert Counter(record["outcome"] for record in records) == {"dropped": 200}
    assert {record["problem"] for record in records} == {"stopped by the harness"}
    assert {record["request_id"] for record in records} == {f"{n:06d}" for n in range(200)}


def test_a_plan_beyond_the_descriptor_limit_is_refused(load: Callable) -> None:
    """A plan that may need more open files than allowed sends nothing, says why, and ends with code 3."""
    run = load(steady(200, 2.0, deadline_s=30.0), "/v1/whole")
    run.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300)))
    assert run.finish() == 3
    assert run.events("request") == []
    note = next(event for event in run.events("note") if event["level"] == "error")
    assert "464 open files, but the limit is 300" in note["text"]


def test_a_full_disk_breaks_the_load(load: Callable) -> None:
    """When the journal cannot be written in mid-load, the generator stops and ends with code 3, long before the end."""
    run = load(steady(100, 30.0), "/v1/whole")
    run.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    t0_ns = run.status().t0_ns
    assert run.finish() == 3
    assert time.monotonic_ns() - t0_ns < 10e9
    assert "the load broke: OSError" in run.log.read_text()


def test_a_load_that_cannot_begin_is_told_in_the_journal(load: Callable) -> None:
    """When the dispatcher fails before the first request, the journal has a note of level error and the code is 3."""
    run = load(steady(10, 1.0), "/v1/whole")
    text = run.config_path.read_text()
    run.config_path.write_text(text.replace("status.json", "nowhere/status.json"))
    run.start()
    assert run.finish() == 3
    notes = [event["text"] for event in run.events("note") if event["level"] == "error"]
    assert len(notes) == 1
    assert "nowhere/status.json" in notes[0]
    assert run.events("request") == []


def test_an_unusable_configuration_ends_with_three(load: Callable) -> None:
    """A folder that does not exist, or a key that is not set, is exit code 3 and a clear line, not a run for ever."""
    run = load(steady(10, 1.0), "/v1/whole")
    run.config_path.write_text(run.config_path.read_text().replace(str(run.folder), "/nowhere"))
    run.start()
    assert run.finish() == 3
    assert "/nowhere" in run.log.read_text()
    other = load(steady(10, 1.0), "/v1/whole", api_key_env="SEAWALL_NO_SUCH_KEY")
    other.start()
    assert other.finish() == 3
    assert "SEAWALL_NO_SUCH_KEY, which is not set" in other.log.read_text()

"""Every toxic in one real run: a chain of short faults, some at once, one again and again, one at Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command_harness import LATE, Harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(150)]

SCENARIO = """
version: 1
title: Every toxic once, some at once, one again and again
arenas: [wire]
seed: 3
system:
  gateway: seawall
  settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 200ms, first_byte_timeout: 1s, idle_timeout: 1s, BUDGET_STORE: redis}
load: {executor: constant-arrival-rate, rate: 20/s, duration: 16s, stream: 30%}
faults:
  - {id: slow, at: 500ms, duration: 2800ms, target: gemini, toxic: {type: latency, attributes: {latency: 200}}}
  - {id: dark, at: 800ms, duration: 2s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}
  - {id: gone, at: 3500ms, duration: 1300ms, target: gemini, toxic: {type: down}}
  - {id: hidden, at: 3800ms, duration: 1800ms, target: gemini, toxic: {type: latency, attributes: {latency: 300}}}
  - {id: narrow, follows: hidden, duration: 1600ms, target: gemini, toxic: {type: bandwidth, attributes: {rate: 100}}}
  - id: sliced
    follows: narrow
    duration: 1300ms
    target: gemini
    toxic: {type: slicer, attributes: {average_size: 64, delay: 10000}}
  - {id: short, follows: sliced, duration: 1300ms, target: gemini, toxic: {type: limit_data, attributes: {bytes: 200}}}
  - {id: late, follows: short, duration: 1500ms, target: gemini, toxic: {type: slow_close, attributes: {delay: 200}}}
  - id: late_up
    follows: late
    duration: 1500ms
    target: gemini
    toxic: {type: slow_close, attributes: {delay: 200}, stream: upstream}
  - id: reset
    follows: late_up
    every: 1800ms
    duration: 900ms
    target: gemini
    toxic: {type: reset_peer, attributes: {timeout: 0}}
  - {id: far, at: 6s, duration: 1500ms, target: redis, toxic: {type: latency, attributes: {latency: 100}}}
expect:
  thresholds:
    - {metric: success_rate, limit: ">= 50%"}
"""
SHOWN_BY = {
    "slow": {"delayed"},
    "dark": {"silent while latency (fault slow) is in force"},
    "gone": {"refused"},
    "hidden": {"read_back while down (fault gone) is in force"},
    "narrow": {"delayed"},
    "sliced": {"spread"},
    "short": {"exact_bytes"},
    "late": {"late_close"},
    "late_up": {"late_fin"},
    "reset": {"reset"},
    "far": {"delayed"},
}


def test_every_toxic_is_proven_met_and_undone(harness: Harness) -> None:
    """Each fault is in force by its own criterion, met by traffic each time, seen to heal and verified undone."""
    path = harness.tmp_path / "toxics.yaml"
    path.write_text(SCENARIO)
    code, output = harness.run_scenarios(str(path))
    verdict: Any = harness.verdict("toxics")
    missed = {check["name"] for check in verdict["checks"] if check["verdict"] not in ("pass", "safe")}
    assert missed <= {LATE}, output  # a busy machine is no defect of ours
    assert (code, verdict["undone"]) == (3 if missed else 0, True), output
    assert harness.undo_files() == []

    lines = (harness.folder("toxics") / "journal.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, lines) if event["kind"] == "fault"]
    active = [event for event in told if event["phase"] == "active"]
    shown = {name: {event["evidence"]["criterion"] for event in active if event["id"] == name} for name in SHOWN_BY}
    # A fault that follows another at once is read back where the one before takes long to go.
    alone = {name: {word.partition(" while ")[0] for word in words} for name, words in shown.items()}
    for name, words in SHOWN_BY.items():
        assert shown[name] == words or alone[name] <= {*words, "read_back"}, (name, shown[name])
    repeated = [event for event in told if event["id"] == "reset"]
    life = ["planned", "injecting", "active", "healing", "healed", "undo_verified", "met"]
    for start_s in (12.8, 14.6):
        phases = [event["phase"] for event in repeated if event["planned_at_s"] == pytest.approx(start_s)]
        assert sorted(phases) == sorted(life)

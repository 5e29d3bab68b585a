"""Chaos on the platform as scenarios: the key service and the traces' collector away, and what the loader refuses."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seawall.journal.read import load_journal
from seawall.scenario import ScenarioError, load_text
from seawall.verdicts.touching import Traffic, in_force

HEAD = """version: 1
title: parts
arenas: [{arena}]
system: {{{system}}}
load: {{executor: constant-arrival-rate, rate: {rate}/s, duration: {length}s, stream: 50%}}
faults:
  - {{id: away, at: 2s, duration: {duration}s, target: {target}, toxic: {{type: {toxic}}}}}
"""


def scenario(target: str, system: str, **more: Any) -> str:
    """Return the text of a scenario in which a part is away from its third second on."""
    told = {"arena": "wire", "rate": 10, "length": 7, "duration": 3, "toxic": "down", **more}
    return HEAD.format(target=target, system=system, **told)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (scenario("collector", ""), 7, "TELEMETRY: otel"),
        (scenario("key_service", "settings: {TELEMETRY: otel}"), 7, "transcripts: closed"),
        (scenario("collector", "settings: {TELEMETRY: otel}", arena="wire, simulation"), 3, "take simulation out"),
        (scenario("key_service", "transcripts: closed", arena="simulation, wire"), 4, "arenas: \\[wire\\]"),
        (scenario("key_service", "transcripts: sometimes"), 4, "closed"),
        (scenario("key_service", "transcripts: open, gateway: litellm"), 4, "gateway: seawall"),
        (scenario("colector", "settings: {TELEMETRY: otel}"), 7, "collector"),
    ],
)
def test_what_a_run_could_not_do_is_refused_at_its_line(text: str, line: int, words: str) -> None:
    """A part that the gateway does not use, an arena or a gateway without it, a word that there is not."""
    with pytest.raises(ScenarioError) as caught:
        load_text(text, "parts.yaml")
    assert line in {problem.line for problem in caught.value.problems}
    with pytest.raises(ScenarioError, match=words):
        raise caught.value


def run(text: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """Run a scenario on the wire; return its verdict and its folder."""
    file = folder / "parts.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "seawall", "run", str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    verdict = folder / "seawall-reports" / "latest" / "verdict.json"  # a busy machine may have taken more than one run
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: this machine was too busy for its load
    return json.loads(verdict.read_text()), verdict.parent


def met_and_undone(folder: Path) -> list[str]:
    """Check that the fault's evidence is whole; return the outcomes of the exchanges with its part while it lasted."""
    journal = load_journal(folder / "journal.jsonl")
    (interval,) = journal.faults["away"].intervals
    phases = [timed.event.phase for timed in journal.fault_events]
    assert {"planned", "injecting", "active", "met", "healing", "healed", "undo_verified"} == set(phases)
    span = in_force(interval, journal.last_ns)
    (target,) = {timed.event.target for timed in journal.fault_events}
    assert Traffic(journal).met("away", target, None, span)
    assert {timed.event.part for timed in journal.exchanges} == {target}
    return [t.event.outcome for t in journal.exchanges if span.start_ns <= t.event.start_ns < span.end_ns]


@pytest.mark.real
@pytest.mark.parametrize("way", ["closed", "open"])
def test_without_the_key_service_nothing_is_kept_in_plain_text(tmp_path: Path, way: str) -> None:
    """Closed refuses with 503 and asks no provider, open answers; neither leaves a prompt readable on the disk."""
    text = scenario("key_service", f"transcripts: {way}") + "allow_refusal: [transcripts]\n"
    verdict, folder = run(text, tmp_path)
    assert verdict["verdict"] in ("safe" if way == "closed" else "pass", "invalid")
    assert "failed" in met_and_undone(folder)
    journal = load_journal(folder / "journal.jsonl")
    refused = [request for request in journal.requests if request.outcome == "refused"]
    assert {(request.status, request.code) for request in refused} == (
        {(503, "transcripts_down")} if way == "closed" else set()
    )
    assert not {request.request_id for request in refused} & {call.request_id for call in journal.calls}
    kept = [path for name in ("transcripts", "keys") for path in (folder / name).rglob("*") if path.is_file()]
    assert not [path for path in kept if b"[sw:" in path.read_bytes() or b"messages" in path.read_bytes()]
    with sqlite3.connect(folder / "transcripts" / "transcripts.db") as db:
        (records,) = db.execute("SELECT count(*) FROM records").fetchone()
    db.close()
    assert 20 <= records < len(journal.requests) - 20
    if way == "open":
        assert "transcripts: " in (folder / "gateway.log").read_text()


@pytest.mark.real
def test_without_the_collector_every_request_is_answered(tmp_path: Path) -> None:
    """Batches fail while it is away and are taken again afterwards, and every answer is whole."""
    verdict, folder = run(scenario("collector", "settings: {TELEMETRY: otel}"), tmp_path)
    assert verdict["verdict"] in ("pass", "invalid")
    assert met_and_undone(folder).count("failed") >= 2
    journal = load_journal(folder / "journal.jsonl")
    assert {request.outcome for request in journal.requests} == {"whole"}
    (interval,) = journal.faults["away"].intervals
    assert interval.healed_ns is not None
    after = [t.event.outcome for t in journal.exchanges if t.event.start_ns > interval.healed_ns]
    assert "ok" in after  # the last of all may find that the stand-in has ended first

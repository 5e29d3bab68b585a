"""Locust without its web UI, with the harness as its child: alone, and with workers of which one is killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

from interactive import Interactive  # noqa: E402 - only now can it be found

from loadtests.shipping import Received, ShippedEvents  # noqa: E402
from seawall.journal.events import Note  # noqa: E402
from seawall.processes import free_port  # noqa: E402

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def locust(tmp_path: Path, toxiproxy_binary: Path) -> Iterator[Interactive]:
    """Locust with folders of its own; Toxiproxy is there already."""
    started = Interactive(tmp_path)
    yield started
    started.close()


@pytest.mark.real
def test_a_killed_worker_is_counted_and_named(locust: Interactive) -> None:
    """What a worker that is killed takes with it is counted and named in journal and report; the exit code says so."""
    port = str(free_port())
    where = ("--master-host", "127.0.0.1", "--master-port", port)
    bind = ("--master-bind-host", "127.0.0.1", "--master-bind-port", port)
    master = locust.start("--headless", "--master", *bind, "--expect-workers", "2", "-u", "8", "-r", "8", "-t", "90s")
    workers = [locust.start("--worker", *where) for _ in range(2)]
    locust.wait_for(lambda: locust.out.is_dir() and list(locust.run().glob("events-load-worker?.jsonl")))
    parts = locust.run().glob
    locust.wait_for(lambda: min((path.stat().st_size for path in parts("events-load-worker?.jsonl")), default=0) > 4000)
    workers[0].kill()
    began_s = time.monotonic()
    assert master.wait(60) == 3, locust.said()
    assert time.monotonic() - began_s < 50
    workers[1].wait(30)
    [note] = [
        note["text"] for note in locust.journal("note") if "lost worker" in note["text"] and "broke" not in note["text"]
    ]
    requests = [request for request in locust.journal("request") if request["source"] == f"load-{workers[0].pid}"]
    assert f"{len(requests)} of its requests are recorded" in note
    assert "under way when it last spoke" in note
    assert len({request["request_id"] for request in locust.journal("request")}) == len(locust.journal("request"))
    assert "lost worker" in (locust.run() / "index.html").read_text()
    assert json.loads((locust.run() / "verdict.json").read_text())["verdict"] == "invalid"


@pytest.mark.real
def test_alone_without_a_web_ui(locust: Interactive) -> None:
    """The same file, headless: a journal, a report, the figures of streams in Locust's table, and a good exit code."""
    process = locust.start("--headless", "-u", "4", "-r", "4", "-t", "9s", "--only-summary")
    code = process.wait(60)
    verdict = json.loads((locust.run() / "verdict.json").read_text())
    late = {check["name"] for check in verdict["checks"] if check["verdict"] == "invalid"}
    assert late <= {"the load generator kept its times"}, verdict["why"]  # a busy machine is no defect of ours
    assert code == (3 if late else 0), locust.said()
    assert verdict["figures"]["requests"] == len(locust.journal("request")) > 0
    assert locust.journal("header")[0]["planned"] is False
    for row in ("time to first token", "longest gap between tokens", "tokens a second", "cut streams"):
        assert row in locust.said()
    assert (locust.run() / "index.html").stat().st_size > 0


def test_what_is_shipped_is_what_is_written(tmp_path: Path) -> None:
    """The master's file holds the worker's lines as they were; the counts tell what is missing of a share."""
    received = Received(tmp_path, "w1", 1, share=10)
    shipped = ShippedEvents(received.take)
    shipped.begun = 4
    for n in range(3):
        shipped.write(Note(text=f"line {n}"))
    shipped.flush()
    assert not received.is_complete
    lines = [json.loads(line) for line in (tmp_path / "events-load-worker1.jsonl").read_bytes().splitlines()]
    assert [(line["seq"], line["text"]) for line in lines] == [(0, "line 0"), (1, "line 1"), (2, "line 2")]
    assert "4 were under way" in received.loss()
    assert "6 that were planned for it were not begun" in received.loss()
    shipped.close()
    assert received.is_complete

"""Faults and verdicts on Grafana's dashboards, posted to a real HTTP server that speaks its annotations API."""

from __future__ import annotations

import argparse
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seawall.cli import main
from seawall.commands.running import _annotate
from seawall.grafana import Grafana, GrafanaError, marks_of
from seawall.journal.faults import FaultInterval, FaultTrace
from seawall.journal.view import Journal, Timed
from seawall.screen import Screen
from seawall.verdicts.model import RunVerdict, Verdict

TOKEN = "glsa_canary-77aa"
VERDICT = RunVerdict(verdict=Verdict.PASS, why="all held", checks=(), undone=True, figures={})


@contextmanager
def _grafana(status: int = 200) -> Iterator[tuple[str, list[tuple[str, str | None, Any]]]]:
    seen: list[tuple[str, str | None, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            right = isinstance(body.get("time"), int) and body["timeEnd"] >= body["time"] and body.get("text")
            answer = json.dumps({"message": "Annotation added", "id": len(seen)}).encode()
            self.send_response(status if right else 400)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def _journal(healed_ns: int | None = 9_000_000_000) -> Journal:
    interval = FaultInterval(planned_at_s=1.0, injected_ns=4_000_000_000, healed_ns=healed_ns)
    fault = FaultTrace(
        id="dark", target="gemini", description="down", planned_at_s=1.0, duration_s=5.0, intervals=[interval]
    )
    stamp: Any = Timed(mono_ns=1_000_000_000, wall=1_700_000_001.0, source="run", seq=1, event=None)
    return Journal(path=Path("x"), faults={"dark": fault}, notes=[stamp], first_ns=0, last_ns=12_000_000_000)


def test_a_fault_is_a_region_and_the_verdict_a_mark() -> None:
    """Times are milliseconds of the epoch, from injection to healing; an unhealed fault lasts to the end."""
    verdict, fault = marks_of(_journal(), VERDICT)
    assert fault["tags"] == ["seawall", "unknown", "dark"]
    assert (fault["time"], fault["timeEnd"]) == (1_700_000_004_000, 1_700_000_009_000)
    assert verdict["tags"] == ["seawall", "unknown", "verdict", "pass"]
    assert marks_of(_journal(None), VERDICT)[1]["timeEnd"] == 1_700_000_012_000


def test_grafana_takes_them() -> None:
    """Each annotation is one POST to /api/annotations with the token."""
    marks = marks_of(_journal(), VERDICT)
    with _grafana() as (url, seen):
        assert Grafana(f"{url}/", TOKEN).post(marks) == 2
    assert seen == [("/api/annotations", f"Bearer {TOKEN}", mark) for mark in marks]


@pytest.mark.parametrize("url", ["grafana", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    """What is no http address is refused with what it must be like."""
    with pytest.raises(GrafanaError, match="must be like"):
        Grafana(url)


def test_what_is_refused_or_away_is_told_without_secrets() -> None:
    """A refusal and a closed port are one error, with neither the token nor the address's password in it."""
    with _grafana(401) as (url, _), pytest.raises(GrafanaError, match="GRAFANA_TOKEN") as refused:
        Grafana(url.replace("//", "//me:secret-1@"), TOKEN).post(marks_of(_journal(), VERDICT))
    with pytest.raises(GrafanaError, match="cannot be reached") as away:
        Grafana(url.replace("//", "//me:secret-1@"), TOKEN).post(marks_of(_journal(), VERDICT))
    assert not [word for word in (TOKEN, "secret-1") if word in f"{refused.value} {away.value}"]


def test_a_run_is_annotated_and_never_fails_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--annotate` posts a run's faults; `report annotations` gives the same; a Grafana that is away is told once."""
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    run = ["run", "primary-dark", "--arena", "simulation", "--out", str(tmp_path)]
    with _grafana() as (url, seen):
        code = main([*run, "--annotate", url])
    assert {body["tags"][0] for _, _, body in seen} == {"seawall"}
    assert len(seen) >= 2
    capsys.readouterr()
    folder = next(path.parent for path in tmp_path.glob("*/journal.jsonl"))
    assert main(["report", "annotations", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out) == [body for _, _, body in seen]
    assert main([*run, "--annotate", url]) == code
    told = capsys.readouterr()
    assert told.out.count("not on Grafana") == 1
    assert TOKEN not in told.out + told.err


def test_an_address_from_the_environment_that_is_none_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRAFANA_URL counts where there is no --annotate, and a wrong one is one line."""
    monkeypatch.setenv("GRAFANA_URL", "nonsense")
    out = io.StringIO()
    _annotate(argparse.Namespace(annotate=None), [], Screen(out))
    assert out.getvalue().count("not on Grafana") == 1

"""What the gateway logs: JSON by structlog or text, without secrets, and never in a request's way."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from router.events import Attempt, BreakerChange, Spend
from router.settings import Secret, Settings
from seawall.gateway.config import GatewaySettings
from seawall.gateway.logs import BURST_MAX, Log, logged
from seawall.gateway.redaction import Redaction, secrets_in, secrets_of
from seawall.screen import complain

CANARY = "canary-8f31d0"


def _failed(request_id: str = "r1") -> Attempt:
    return Attempt(
        request_id=request_id, provider="gemini", model="m", n=1, stream=False, start_ns=0, end_ns=1,
        first_byte_ns=None, outcome="failed", reason="preferred", error="timeout", status=None, worker="w",
        generation=0,
    )  # fmt: skip


def _spend(total: int) -> Spend:
    return Spend(
        action="reserve", reservation_id="a", request_id="r1", provider="gemini", micro_usd=1,
        total_micro_usd=total, limit_micro_usd=100, estimated=False, worker="w",
    )  # fmt: skip


def _collected(**options: Any) -> tuple[Log, list[tuple[str, str, dict[str, Any]]]]:
    lines: list[tuple[str, str, dict[str, Any]]] = []
    log = Log(lambda _at, level, event, fields: lines.append((level, event, dict(fields))), **options)
    return log, lines


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_is_ever_written(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A canary among the settings comes out of no value, key, complaint or exception, in either format."""
    gateway = GatewaySettings(log_format=form, transcripts_master_key=Secret(CANARY))
    with logged(gateway, Redaction(secrets_of(gateway))) as log:
        log.event("warning", f"with {CANARY}", provider=CANARY, at={"deep": [f"x{CANARY}y", CANARY.encode()]})
        log.event("warning", "headers", headers={"Authorization": "Bearer unknown-1"}, api_key="unknown-2")
        log.event("warning", "urls", url="redis://user:unknown-3@host/0", said="Authorization: Basic unknown-4")
        complain(f"seawall serve: trouble with {CANARY}")
    told = capsys.readouterr().err
    assert CANARY not in told
    assert "unknown-" not in told
    assert told.count("***") >= 8
    if form == "json":
        assert [json.loads(line)["event"] for line in told.splitlines()][1:] == ["headers", "urls", "trouble with ***"]


def test_secrets_are_known_by_the_names_of_variables_and_by_urls() -> None:
    """Keys, tokens, headers and passwords in the environment are secrets; paths and plain words are not."""
    found = secrets_in(
        {
            "SEAWALL_API_KEYS": "key-one, key-two",
            "VAULT_TOKEN": "token-1",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-auth=header-1",
            "REDIS_URL": "redis://:password-1@host",
            "TLS_KEY": "certs/key.pem",
            "LANG": "a-language",
        }
    )
    assert found == {"key-one", "key-two", "token-1", "x-auth=header-1", "header-1", "password-1"}
    assert "sk-12345" in secrets_of(Settings(openai_api_key=Secret("sk-12345")))


def test_a_line_of_json_has_what_one_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, event, request, trace, provider and outcome are fields of a line of their own."""
    with logged(GatewaySettings(log_format="json"), Redaction()) as log:
        parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
        log.request("r9", "timeout", provider="claude", begun_s=time.monotonic(), traceparent=parent)
    line = json.loads(capsys.readouterr().err)
    assert line["time"].endswith("Z")
    told = [line[name] for name in ("level", "event", "request_id", "trace_id", "provider", "outcome")]
    assert told == ["warning", "request", "r9", "0af7651916cd43dd8448eb211c80319c", "claude", "timeout"]


def test_what_is_a_warning_is_told_and_the_budget_once() -> None:
    """Failed attempts, opened breakers and a budget that is nearly spent are told; the last once, until it is not."""
    log, lines = _collected()
    log.take(_failed())
    change = BreakerChange(
        worker="w", provider="gemini", from_state="closed", to="open", generation=1, cause="3 failures"
    )
    log.take(change)
    for total in (90, 91, 95, 10, 99):
        log.take(_spend(total))
    log.close()
    told = [event for _, event, _ in lines]
    assert told == ["attempt failed", "breaker opened", "budget nearly spent", "budget nearly spent"]


def test_off_writes_no_event_but_complaints() -> None:
    """LOG_LEVEL=off takes no events and no requests, while what an operator must know still comes."""
    log, lines = _collected(level="off", requests="all")
    log.take(_failed())
    assert not log.tells_all
    assert not log.tells_errors
    log.said("the disk is full")
    log.close()
    assert [event for _, event, _ in lines] == ["the disk is full"]


def test_a_flood_is_cut_and_counted() -> None:
    """Of one kind no more than a burst is written in a second, and the next line says how many were left out."""
    log, lines = _collected()
    for n in range(1000):
        log.take(_failed(str(n)))
    assert log._queue.qsize() + len(lines) <= 5 * BURST_MAX
    time.sleep(1.1)
    log.take(_failed("last"))
    log.close()
    assert len(lines) + sum(fields.get("suppressed", 0) for _, _, fields in lines) == 1000 + 1


def test_a_reader_that_hangs_holds_nobody_up() -> None:
    """While a line cannot be written, logging returns at once, the queue stays bounded, and the end is in time."""
    gate = threading.Event()
    log = Log(lambda *_: gate.wait(30) and None, requests="all")
    began_s = time.monotonic()
    for n in range(10_000):
        log.request(str(n), "ok", provider="claude", begun_s=0.0, traceparent=b"")
    assert log._queue.full()
    log.close()
    assert time.monotonic() - began_s < 20
    gate.set()

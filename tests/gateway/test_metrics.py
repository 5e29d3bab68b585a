"""The figures: what they count, how they read, and who may read them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.events import Attempt, BreakerChange, LatencyChange, Skip, Spend
from router.models import Usage
from router.testing import Answering, ScriptedTransport, scripted_router
from seawall.gateway.app import create_app
from seawall.gateway.config import GatewaySettings
from seawall.gateway.metrics import BUCKETS_S, Board, Metrics

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def samples_of(text: bytes | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample by name and labels, as Prometheus's own parser reads them."""
    text = text.decode() if isinstance(text, bytes) else text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: bytes | str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    return sum(
        number for (found, has), number in samples_of(text).items() if found == name and labels.items() <= set(has)
    )


def attempt(provider: str = "gemini", outcome: Any = "ok", error: str | None = None) -> Attempt:
    """Return the end of a call that took 20 ms."""
    return Attempt(
        request_id="r",
        provider=provider,
        model="m",
        n=1,
        stream=False,
        start_ns=0,
        end_ns=20_000_000,
        first_byte_ns=None,
        outcome=outcome,
        reason="chain",
        error=error,
        status=None,
        worker="w",
        generation=0,
    )


def spend(action: Any, micro_usd: int) -> Spend:
    """Return a step of the budget."""
    return Spend(
        action=action,
        reservation_id="x",
        request_id="r",
        provider="claude",
        micro_usd=micro_usd,
        total_micro_usd=0,
        limit_micro_usd=0,
        estimated=False,
        worker="w",
    )


def test_each_event_is_counted_once() -> None:
    """Attempts, skips, breakers, slowness and settled cost; a reservation is no cost."""
    metrics = Metrics()
    for event in (attempt(), attempt(), attempt(outcome="failed", error="rate_limited"), spend("reserve", 900)):
        metrics.take(event)
    metrics.take(spend("settle", 1_500_000))
    metrics.take(Skip(request_id="r", provider="openai", reason="no_key", worker="w"))
    for old, new in itertools.pairwise(("closed", "open", "half_open", "open")):
        change = BreakerChange(worker="w", provider="gemini", from_state=old, to=new, generation=1, cause="x")
        metrics.take(change)
    metrics.take(
        LatencyChange(worker="w", provider="local", to="slow", average_ms=9.0, limit_ms=5.0, message="latency")
    )
    text = metrics.render()
    assert value(text, "seawall_attempts_total", provider="gemini", outcome="ok", error="") == 2
    assert value(text, "seawall_attempts_total", provider="gemini", outcome="failed", error="rate_limited") == 1
    assert value(text, "seawall_attempt_duration_seconds_sum", provider="gemini") == pytest.approx(0.06)
    assert value(text, "seawall_cost_usd_total", provider="claude") == 1.5
    assert value(text, "seawall_cost_usd_total") == 1.5
    assert value(text, "seawall_skips_total", provider="openai", reason="no_key") == 1
    states = {s: value(text, "seawall_breakers", provider="gemini", state=s) for s in ("closed", "open")}
    assert states == {"closed": 0, "open": 1}
    assert value(text, "seawall_breakers") == 4
    assert value(text, "seawall_breaker_transitions_total", provider="gemini", to="open") == 2
    assert value(text, "seawall_slow", provider="local") == 1


def test_histogram_holds_to_prometheus_rules() -> None:
    """Buckets are cumulative, a value on a bound counts below it, +Inf equals the count."""
    metrics = Metrics()
    for seconds in (0.005, 0.0051, 1.0, 500.0):
        metrics.begun()
        now_s = time.monotonic()
        metrics.ended("ok", stream=True, begun_s=now_s - seconds, provider="gemini", first_s=now_s)
    found = samples_of(metrics.render())
    name = "seawall_time_to_first_token_seconds_bucket"
    counts = [found[name, (("le", bound), ("provider", "gemini"))] for bound in (*map(repr, BUCKETS_S), "+Inf")]
    assert counts == sorted(counts)
    assert (counts[1], counts[-2], counts[-1]) == (2, 3, 4)
    assert value(metrics.render(), "seawall_time_to_first_token_seconds_count", provider="gemini") == 4


def test_what_nobody_foresaw_counts_as_other() -> None:
    """Labels stay bounded whatever comes: an unknown code or provider makes no new series."""
    metrics = Metrics()
    before = len(metrics.render().splitlines())
    for n in range(50):
        metrics.take(attempt(f"provider{n}", "failed", f"code{n}"))
        metrics.begun()
        metrics.ended(f"outcome{n}", stream=False, begun_s=time.monotonic(), provider=f"provider{n}")
    text = metrics.render()
    assert value(text, "seawall_attempts_total", provider="other", outcome="failed", error="other") == 50
    assert value(text, "seawall_requests_total", outcome="other", provider="other") == 50
    assert len(text.splitlines()) - before < 25


def test_boards_of_one_folder_are_added_up(tmp_path: Path) -> None:
    """The sum is that of all files; a new worker goes on where the former stopped, but for what is true now only."""
    first, second = Metrics(Board(tmp_path / "0.board")), Metrics(Board(tmp_path / "1.board"))
    for metrics, times in ((first, 2), (second, 3)):
        for _ in range(times):
            metrics.begun()
            metrics.ended("ok", stream=False, begun_s=time.monotonic(), provider="local")
    second.begun()
    (tmp_path / "2.board").write_bytes(b"of another version")
    for metrics in (first, second):
        assert value(metrics.render(), "seawall_requests_total") == 5
        assert value(metrics.render(), "seawall_requests_in_flight") == 1
    restarted = Metrics(Board(tmp_path / "1.board"))
    assert value(restarted.render(), "seawall_requests_total") == 5
    assert value(restarted.render(), "seawall_requests_in_flight") == 0
    assert value(restarted.render(), "seawall_workers") == 2
    Board(tmp_path / "0.board").clear_gauges()
    assert value(restarted.render(), "seawall_workers") == 1


async def test_requests_are_counted_by_what_became_of_them() -> None:
    """Whole answers, refusals of ours and outages: each with its mode, its provider and its tokens."""
    down = [Answering(status=500)]
    script = ScriptedTransport({"gemini": [Answering(text="one two three")]})
    metrics = Metrics()
    app = create_app(lambda: scripted_router(script), GatewaySettings(), metrics=metrics)
    dead = ScriptedTransport(dict.fromkeys(("gemini", "claude", "openai", "local"), down))
    broken = create_app(lambda: scripted_router(dead), GatewaySettings(), metrics=metrics)
    for served, bodies in ((app, (BODY, {**BODY, "stream": True}, {"messages": []})), (broken, (BODY,))):
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            for body in bodies:
                await client.post(CHAT, json=body)
    text = metrics.render()
    assert value(text, "seawall_requests_total", outcome="ok", provider="gemini", mode="json") == 1
    assert value(text, "seawall_requests_total", outcome="ok", provider="gemini", mode="stream") == 1
    assert value(text, "seawall_requests_total", outcome="bad_request", provider="none") == 1
    assert value(text, "seawall_requests_total", outcome="all_clouds_down", provider="none") == 1
    assert value(text, "seawall_request_duration_seconds_count") == 2
    assert value(text, "seawall_time_to_first_token_seconds_count", provider="gemini") == 1
    assert value(text, "seawall_tokens_total", provider="gemini", kind="completion") == 6
    assert value(text, "seawall_requests_in_flight") == 0


@pytest.mark.real
def test_scrape_shows_failover_and_those_who_left(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """A real gateway: attempts by error, who served instead, clients that gave up, the budget and its limit."""
    with (
        start_gateway(emulators, DAILY_SPEND_LIMIT_USD="7") as gateway,
        httpx.Client(base_url=gateway.url, timeout=20) as http,
    ):
        with emulators.misbehaving("gemini", status=503):
            assert http.post(CHAT, json=asked("gemini")[1]).headers["x-seawall-attempts"] == "2"
        with emulators.misbehaving("openai", hang=True), pytest.raises(httpx.ReadTimeout):
            http.post(CHAT, json=asked("openai")[1], timeout=0.3)
        time.sleep(0.2)
        answer = http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.text
    failed = {"provider": "gemini", "outcome": "failed", "error": "provider_overloaded"}
    assert value(text, "seawall_attempts_total", **failed) == 1
    assert value(text, "seawall_requests_total", outcome="ok", provider="claude") == 1
    assert value(text, "seawall_requests_total", outcome="cancelled") == 1
    assert value(text, "seawall_budget_limit_usd") == 7
    assert value(text, "seawall_budget_spent_usd") > 0
    assert value(text, "seawall_requests_in_flight") == 0


async def test_keys_guard_what_tells_of_the_business() -> None:
    """Models, status and metrics ask for a key like the chat; metrics take one of their own that opens nothing else."""
    settings = GatewaySettings.from_environment({"SEAWALL_API_KEYS": "sk-chat", "METRICS_API_KEY": "sk-metrics"})
    app = create_app(lambda: scripted_router(ScriptedTransport({})), settings)
    opens = {
        "/v1/models": {"sk-chat"},
        "/v1/router/status": {"sk-chat"},
        "/metrics": {"sk-chat", "sk-metrics"},
        "/healthz": {"", "sk-chat", "sk-metrics"},
        "/readyz": {"", "sk-chat", "sk-metrics"},
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        for path, keys in opens.items():
            for key in ("", "sk-chat", "sk-metrics", "sk-other"):
                headers = {"authorization": f"Bearer {key}"} if key else {}
                answer = await client.get(path, headers=headers)
                is_open = key in keys or path in ("/healthz", "/readyz")
                assert answer.status_code == (200 if is_open else 401), (path, key)
                if not is_open:
                    assert answer.json()["error"]["code"] == "invalid_api_key"
        headers = {"authorization": "Bearer sk-metrics"}
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 401


def test_counting_a_request_costs_microseconds() -> None:
    """All that is counted of one streamed request takes less than 60 µs, on the busiest machine: it is about 5."""
    metrics, usage = Metrics(), Usage(prompt_tokens=5, completion_tokens=6)
    events = (spend("reserve", 9), attempt(), spend("settle", 9))
    best_s = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(1000):
            metrics.begun()
            for event in events:
                metrics.take(event)
            now_s = time.monotonic()
            metrics.ended("ok", stream=True, begun_s=now_s, provider="gemini", first_s=now_s, usage=usage)
        best_s = min(best_s, time.perf_counter() - began)
    assert best_s / 1000 < 60e-6

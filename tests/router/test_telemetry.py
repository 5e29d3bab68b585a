"""Telemetry: what OpenTelemetry's own SDK gets to see of a request, and that nothing is loaded when it is off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from router.errors import AllCloudsDownError, ConfigurationError
from router.hybrid import HybridRouter
from router.models import Message, Request
from router.testing import Answering, CapturedEvents, ScriptedTransport, test_settings
from seawall.equipped import EquippedRouter
from seawall.telemetry import OpenTelemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = Request(messages=(Message(role="user", content="hi"),), request_id="r1")


class Seen:
    """A router whose spans and metrics stay in memory."""

    def __init__(self, script: dict[str, Sequence[Answering]], **settings: object) -> None:
        self._exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.events = CapturedEvents()
        self.transport = ScriptedTransport(script)
        self.telemetry = OpenTelemetry(
            tracer_provider=tracers, meter_provider=MeterProvider(metric_readers=[self._reader])
        )
        self.router = HybridRouter(
            test_settings(**settings), transport=self.transport, sink=self.events, telemetry=self.telemetry
        )

    def spans(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """Return the request's span and those of its attempts, in order of their end."""
        *attempts, request = self._exporter.get_finished_spans()
        assert request.name == "route"
        return request, attempts

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def trace_parent(span: ReadableSpan) -> str:
    """Return the W3C header that names a span."""
    context = span.get_span_context()
    assert context is not None
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-01"


@pytest.mark.parametrize("stream", [False, True])
async def test_request_is_a_span_and_each_attempt_one_below_it(stream: bool) -> None:
    """A failover: three spans in one trace, with the names of the GenAI conventions, usage and cost."""
    seen = Seen({"gemini": [Answering(status=503)], "claude": [Answering(text="one two")]})
    if stream:
        async with aclosing(seen.router.stream(REQUEST)) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == "one two"
    else:
        assert (await seen.router.complete(REQUEST)).text == "one two"
    request, (failed, good) = seen.spans()
    assert {span.get_span_context().trace_id for span in (failed, good)} == {request.get_span_context().trace_id}
    assert {span.parent.span_id for span in (failed, good)} == {request.get_span_context().span_id}
    assert (request.kind, failed.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert (failed.status.status_code, good.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert failed.name.startswith("chat gemini")
    assert (
        attributes(failed).items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "gcp.gemini",
            "gen_ai.request.stream": stream,
            "error.type": "provider_overloaded",
            "http.response.status_code": 503,
            "server.address": "127.0.0.1",
            "seawall.attempt.number": 1,
        }.items()
    )
    assert (
        attributes(good).items() >= {"gen_ai.provider.name": "anthropic", "seawall.attempt.reason": "failover"}.items()
    )
    assert ("gen_ai.response.time_to_first_chunk" in attributes(good)) is stream
    assert (
        attributes(request).items()
        >= {
            "gen_ai.provider.name": "anthropic",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 2,
            "seawall.attempts": 2,
            "seawall.request.id": "r1",
        }.items()
    )
    assert attributes(request)["seawall.cost_usd"] > 0


async def test_trace_context_comes_in_and_goes_out() -> None:
    """The caller's traceparent is the parent; each provider is sent its own attempt's, and the caller's tracestate."""
    seen = Seen({"gemini": [Answering(status=503)], "claude": [Answering()]})
    context = (("traceparent", PARENT), ("tracestate", "vendor=value"))
    await seen.router.complete(Request(messages=REQUEST.messages, request_id="r2", trace_context=context))
    request, attempts = seen.spans()
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert format_span_id(request.parent.span_id) == "b7ad6b7169203331"
    assert format_trace_id(request.get_span_context().trace_id) == "0af7651916cd43dd8448eb211c80319c"
    for (_, call), span in zip(seen.transport.calls, attempts, strict=True):
        headers = dict(call.headers)
        assert headers["traceparent"] == trace_parent(span)
        assert headers["tracestate"] == "vendor=value"


async def test_breaker_budget_and_skips_are_events_of_who_caused_them() -> None:
    """The attempt that opens the breaker says so, the request tells its reservations and whom it passed over."""
    seen = Seen({"gemini": [Answering(status=503)]}, circuit_breaker_failure_threshold=1, openai_api_key="")
    await seen.router.complete(REQUEST)
    request, (failed, good) = seen.spans()
    (opened,) = failed.events
    assert opened.name == "seawall.breaker"
    assert (opened.attributes or {})["seawall.breaker.to"] == "open"
    assert not good.events
    names = [event.name for event in request.events]
    assert names.count("seawall.budget.reserve") == 2
    assert "seawall.skip" in names
    await seen.router.aclose()
    assert not seen.telemetry.open
    assert not seen.telemetry.changes


async def test_outage_and_departure_end_the_span() -> None:
    """All down is an error with its code; a caller that leaves is `cancelled` and no error; nothing stays open."""
    down = [Answering(status=500)]
    seen = Seen(dict.fromkeys(("gemini", "claude", "openai", "local"), down))
    with pytest.raises(AllCloudsDownError):
        await seen.router.complete(REQUEST)
    request, attempts = seen.spans()
    assert len(attempts) == 4
    assert request.status.status_code is StatusCode.ERROR
    assert attributes(request)["error.type"] == "all_clouds_down"

    left = Seen({"gemini": [Answering(text="one two three")]})
    async with aclosing(left.router.stream(REQUEST)) as chunks:
        assert (await anext(chunks)).text
    request, (attempt,) = left.spans()
    assert request.status.status_code is StatusCode.UNSET
    assert attributes(request)["error.type"] == "cancelled"
    assert attributes(attempt)["seawall.attempt.outcome"] == "cancelled"
    assert not left.telemetry.open


async def test_metrics_follow_the_conventions() -> None:
    """Durations a provider and error, tokens by kind, cost by provider, transitions by state."""
    seen = Seen({"gemini": [Answering(status=503)]}, circuit_breaker_failure_threshold=1)
    await seen.router.complete(REQUEST)
    await seen.router.aclose()
    durations = {
        point.attributes["gen_ai.provider.name"]: point for point in seen.points("gen_ai.client.operation.duration")
    }
    assert durations["gcp.gemini"].attributes["error.type"] == "provider_overloaded"
    assert durations["anthropic"].count == 1
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in seen.points("gen_ai.client.token.usage")}
    assert set(tokens) == {"input", "output"}
    assert tokens["input"] == 5
    (cost,) = seen.points("seawall.cost")
    assert cost.attributes["gen_ai.provider.name"] == "anthropic"
    assert cost.value > 0
    (opened,) = seen.points("seawall.breaker.transitions")
    assert opened.attributes["seawall.breaker.state"] == "open"


async def test_no_text_and_no_key_is_told() -> None:
    """Spans carry neither what was asked nor what was answered, and no key."""
    seen = Seen({"gemini": [Answering(text="the answer")]})
    await seen.router.complete(Request(messages=(Message(role="user", content="the question"),), request_id="r3"))
    request, attempts = seen.spans()
    told = "".join(span.to_json() for span in (request, *attempts))
    for secret in ("the question", "the answer", "gemini-key"):
        assert secret not in told


def test_off_loads_nothing() -> None:
    """Without TELEMETRY a router neither imports OpenTelemetry nor goes any other way than the engine's own."""
    code = (
        "import sys; from router.hybrid import HybridRouter; from router.chain import answer; "
        "from router.settings import Settings; router = HybridRouter(Settings()); "
        "assert router._answer is answer; "
        "assert not {'opentelemetry', 'seawall'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_air_gap_refuses_an_exporter_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """With AIRGAP_MODE the exporter's endpoint must be on this machine or listed; the message names the variable."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        EquippedRouter(test_settings(telemetry="otel", airgap_mode=True), transport=ScriptedTransport({}))
    EquippedRouter(
        test_settings(telemetry="otel", airgap_mode=True, airgap_allow="collector.example"),
        transport=ScriptedTransport({}),
    )
    EquippedRouter(test_settings(telemetry="otel"), transport=ScriptedTransport({}))

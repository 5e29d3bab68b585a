"""Traces through the gateway: what comes in at the front goes out at the back."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from router.hybrid import HybridRouter
from router.testing import ScriptedTransport, test_settings
from seawall.gateway.app import create_app
from seawall.gateway.config import GatewaySettings
from seawall.telemetry import OpenTelemetry

BODY = {"messages": [{"role": "user", "content": "hi"}]}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("header", [f"00-{TRACE}-b7ad6b7169203331-01", "nonsense", None])
async def test_trace_of_the_caller_goes_through(header: str | None, stream: bool) -> None:
    """A `traceparent` is gone on from, up to the provider; one that is none is no harm, and a trace begins."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    script = ScriptedTransport({})
    telemetry = OpenTelemetry(tracer_provider=tracers)
    app = create_app(lambda: HybridRouter(test_settings(), transport=script, telemetry=telemetry), GatewaySettings())
    headers = {} if header is None else {"traceparent": header}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.post("/v1/chat/completions", json={**BODY, "stream": stream}, headers=headers)
    assert answer.status_code == 200
    spans = exporter.get_finished_spans()
    ((_, call),) = script.calls
    found = dict(call.headers)["traceparent"].split("-")[1]
    assert {format_trace_id(span.get_span_context().trace_id) for span in spans} == {found}
    assert (found == TRACE) is (header is not None and header != "nonsense")


async def test_trace_is_not_passed_on_while_telemetry_is_off() -> None:
    """Off is off: a provider gets none of the caller's headers."""
    script = ScriptedTransport({})
    app = create_app(lambda: HybridRouter(test_settings(), transport=script), GatewaySettings())
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-anything": "private", "cookie": "a=b"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        assert (await client.post("/v1/chat/completions", json=BODY, headers=headers)).status_code == 200
    ((_, call),) = script.calls
    assert not {"traceparent", "x-anything", "cookie"} & {name for name, _ in call.headers}

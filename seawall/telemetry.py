"""
Spans and metrics of the router by OpenTelemetry.

    request ──▶ span `route` ─┬─▶ span `chat <model>`: one attempt, from its call to its end; traceparent goes upstream
                              │      └── events: a breaker changed, a first chunk came
                              └── events: skips, reservations

The gateway acts on TELEMETRY=otel; who uses the router as a library passes it: `HybridRouter(settings,
telemetry=from_settings(settings))`. Names are those of OpenTelemetry's conventions for generative AI; what these do not
know begins with `seawall.`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import msgspec

from router.airgap import allows_endpoint
from router.errors import ConfigurationError, SeawallError
from router.events import Attempt, BreakerChange, Event, Skip, Spend
from router.models import Chunk, Request
from router.settings import Settings
from router.telemetry import Trace
from router.transport import Call

__all__ = ["OpenTelemetry", "from_settings"]

_PROVIDER_NAMES = {"gemini": "gcp.gemini", "claude": "anthropic", "openai": "openai", "local": "ollama"}
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)


def from_settings(settings: Settings) -> OpenTelemetry | None:
    """Return what TELEMETRY asks for, None for `off`. Raises ConfigurationError, as OpenTelemetry does."""
    if settings.telemetry == "off":
        return None
    return OpenTelemetry(allowed=settings.airgap_allowed() if settings.airgap_mode else None)


class OpenTelemetry:
    """
    Spans and metrics by OpenTelemetry's API; where they go is the business of the SDK that the process has set up.

    `tracer_provider` and `meter_provider` are the process's own when None. With an air gap, `allowed` are the entries
    of AIRGAP_ALLOW (None: no air gap). Raises ConfigurationError when the package is missing, or when the environment
    names an endpoint that the air gap forbids.
    """

    def __init__(
        self, *, tracer_provider: Any = None, meter_provider: Any = None, allowed: Collection[str] | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - needs a package that most need not have
            from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                "TELEMETRY=otel needs the package opentelemetry-api: pip install 'seawall[otel]'"
            ) from None
        _check_endpoints(allowed)
        self.api = trace
        self.tracer = trace.get_tracer("seawall.router", tracer_provider=tracer_provider)
        self.propagator = tracecontext.TraceContextTextMapPropagator()
        meter = metrics.get_meter("seawall.router", meter_provider=meter_provider)
        self.durations = meter.create_histogram("gen_ai.client.operation.duration", "s", "Length of a call to a model.")
        self.first_chunks = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "From a call to the first piece of a streamed answer."
        )
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of an answer.")
        self._costs = meter.create_counter("seawall.cost", "{USD}", "Settled cost of the calls to a provider.")
        self._transitions = meter.create_counter("seawall.breaker.transitions", description="Transitions of a breaker.")
        self._skips = meter.create_counter("seawall.skips", description="Times that a provider was passed over.")
        self.open: dict[str, _Followed] = {}
        """The requests under way, by id."""
        self.changes: list[BreakerChange] = []
        """What a breaker has just reported: the attempt that caused it is told of next, before anything can wait."""

    def begin(self, request: Request, *, stream: bool) -> Trace:
        """See Telemetry."""
        followed = _Followed(self, request, stream=stream)
        self.open[request.request_id] = followed
        return followed

    def take(self, event: Event) -> None:
        """See Telemetry."""
        if isinstance(event, BreakerChange):
            self._transitions.add(1, {**_provider(event.provider), "seawall.breaker.state": str(event.to)})
            self.changes.append(event)
        elif isinstance(event, Spend):
            if event.action == "settle" and event.micro_usd:
                self._costs.add(event.micro_usd / 1_000_000, _provider(event.provider))
            if event.request_id in self.open:
                self.open[event.request_id].spent(event)
        elif isinstance(event, Skip):
            self._skips.add(1, {**_provider(event.provider), "seawall.skip.reason": event.reason})


class _Followed:
    """One request's spans."""

    def __init__(self, telemetry: OpenTelemetry, request: Request, *, stream: bool) -> None:
        self._of = telemetry
        self._request = request
        self._stream = stream
        self._attempt: Any = None
        kinds = telemetry.api.SpanKind
        parent = telemetry.propagator.extract(dict(request.trace_context)) if request.trace_context else None
        self._span: Any = telemetry.tracer.start_span(
            "route",
            context=parent,
            kind=kinds.SERVER if parent is not None else kinds.INTERNAL,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": str(request.model),
                "gen_ai.request.stream": stream,
                "seawall.request.id": request.request_id,
            },
        )
        self._context = telemetry.api.set_span_in_context(self._span)

    def calling(self, call: Call) -> Call:
        """See Trace."""
        url = urlsplit(call.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        self._attempt = self._begin_attempt({"server.address": url.hostname or "", "server.port": port})
        self._tell_changes()
        headers: dict[str, str] = {}
        self._of.propagator.inject(headers, self._of.api.set_span_in_context(self._attempt))
        return msgspec.structs.replace(call, headers=(*call.headers, *headers.items()))

    def take(self, event: Attempt | Skip) -> None:
        """See Trace."""
        if isinstance(event, Skip):
            attributes = {**_provider(event.provider), "seawall.skip.reason": event.reason}
            self._span.add_event("seawall.skip", attributes)
            return
        span = self._begin_attempt({}) if self._attempt is None else self._attempt
        self._attempt = None
        self._tell_changes(span)
        named = {**_provider(event.provider), "gen_ai.request.model": event.model, "gen_ai.operation.name": "chat"}
        told: dict[str, Any] = {
            **named,
            "gen_ai.request.stream": event.stream,
            "seawall.attempt.number": event.n,
            "seawall.attempt.reason": event.reason,
            "seawall.attempt.outcome": event.outcome,
            "seawall.breaker.generation": event.generation,
        }
        if event.status is not None:
            told["http.response.status_code"] = event.status
        if event.error is not None:
            named["error.type"] = told["error.type"] = event.error
        if event.stream and event.first_byte_ns is not None:
            told["gen_ai.response.time_to_first_chunk"] = (event.first_byte_ns - event.start_ns) * 1e-9
            self._of.first_chunks.record(told["gen_ai.response.time_to_first_chunk"], named)
        span.update_name(f"chat {event.model}")
        span.set_attributes(told)
        if event.outcome == "failed":
            span.set_status(self._of.api.StatusCode.ERROR, event.error)
        span.end()
        self._of.durations.record((event.end_ns - event.start_ns) * 1e-9, named)

    def spent(self, event: Spend) -> None:
        """Note a step of the budget."""
        self._span.add_event(
            f"seawall.budget.{event.action}",
            {
                **_provider(event.provider),
                "seawall.budget.amount_usd": event.micro_usd / 1_000_000,
                "seawall.budget.total_usd": event.total_micro_usd / 1_000_000,
                "seawall.budget.limit_usd": event.limit_micro_usd / 1_000_000,
            },
        )

    def end(self, last: Chunk | None, error: BaseException | None) -> None:
        """See Trace."""
        if self._of.open.get(self._request.request_id) is self:
            del self._of.open[self._request.request_id]
        span = self._span
        if self._attempt is not None:  # no engine of ours ends without a word of its attempt
            self._attempt.end()
        if last is not None:
            span.set_attributes(
                {
                    **_provider(last.provider),
                    "gen_ai.response.model": last.model,
                    "gen_ai.response.finish_reasons": [str(last.stop_reason)],
                    "seawall.attempts": len(last.attempts),
                    "seawall.cost_usd": last.cost_usd,
                }
            )
            if last.usage is not None:
                self._count({"input": last.usage.prompt_tokens, "output": last.usage.completion_tokens}, last)
        elif error is not None:
            code = error.code if isinstance(error, SeawallError) else "cancelled"
            span.set_attribute("error.type", code)
            if isinstance(error, Exception):  # a client that left is no error
                span.set_status(self._of.api.StatusCode.ERROR, code)
        span.end()

    def _count(self, tokens: dict[str, int], last: Chunk) -> None:
        for kind, count in tokens.items():
            self._span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
            named = {**_provider(last.provider), "gen_ai.operation.name": "chat", "gen_ai.response.model": last.model}
            self._of.tokens.record(count, {**named, "gen_ai.token.type": kind})

    def _begin_attempt(self, attributes: dict[str, Any]) -> Any:
        kind = self._of.api.SpanKind.CLIENT
        return self._of.tracer.start_span("chat", context=self._context, kind=kind, attributes=attributes)

    def _tell_changes(self, span: Any = None) -> None:
        for change in self._of.changes:
            (span or self._attempt).add_event(
                "seawall.breaker",
                {
                    **_provider(change.provider),
                    "seawall.breaker.from": str(change.from_state),
                    "seawall.breaker.to": str(change.to),
                    "seawall.breaker.cause": change.cause,
                },
            )
        self._of.changes.clear()


def _provider(name: str) -> dict[str, str]:
    return {"gen_ai.provider.name": _PROVIDER_NAMES.get(name, name)}


def _check_endpoints(allowed: Collection[str] | None) -> None:
    """Raise ConfigurationError where the exporter's own variables lead out of the air gap."""
    if allowed is None:
        return
    outside = [name for name in _ENDPOINTS if os.environ.get(name) and not _is_allowed(os.environ[name], allowed)]
    if outside:
        raise ConfigurationError(
            f"{', '.join(outside)}: not on this machine; list its host in AIRGAP_ALLOW, or leave AIRGAP_MODE"
        )


def _is_allowed(url: str, allowed: Collection[str]) -> bool:
    try:
        return allows_endpoint(url if "://" in url else f"http://{url}", allowed)
    except SeawallError:
        return False

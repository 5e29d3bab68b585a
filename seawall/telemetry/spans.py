"""
Spans and metrics of the router by OpenTelemetry.

    request ──▶ span of the request ─┬─▶ span `chat <model>`: one attempt; its traceparent goes upstream
                                     │      └── events: a breaker changed
                                     └── events: skips, reservations

The gateway acts on TELEMETRY=otel; who uses the router as a library passes it: `HybridRouter(settings,
telemetry=from_settings(settings))`. Names are those of OpenTelemetry's conventions for generative AI; what these do not
know begins with `seawall.`. Neither prompts nor answers nor keys are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from router.chain import Engine
from router.errors import ConfigurationError, SeawallError
from router.events import Attempt, BreakerChange, Event, Skip, Spend
from router.models import Chunk, Request
from router.settings import Settings
from router.transport import Call
from seawall.telemetry.export import Export, begin_export, check_endpoints
from seawall.telemetry.recent import RECENT
from seawall.telemetry.sampling import parent_flag
from seawall.tracing import Trace, traced

__all__ = ["OpenTelemetry", "from_settings"]

_PROVIDER_NAMES = {"gemini": "gcp.gemini", "claude": "anthropic", "openai": "openai", "local": "ollama"}
_ROUTE = "/v1/chat/completions"
_SERVED = {"http.request.method": "POST", "http.route": _ROUTE, "url.path": _ROUTE}
_CHANGES_MAX = 64


def from_settings(settings: Settings, *, worker: str = "router") -> OpenTelemetry | None:
    """
    Return what TELEMETRY asks for, None for `off`. Raises ConfigurationError, as OpenTelemetry does.

    Unless this process has an SDK already, one is set up that exports by OTLP; `close` it. `worker` is the instance's
    name; that of a gateway begins with `gateway`.
    """
    if settings.telemetry == "off":
        return None
    allowed = settings.airgap_allowed() if settings.airgap_mode else None
    return OpenTelemetry(allowed=allowed, worker=worker, exports=True)


class OpenTelemetry:
    """
    Spans and metrics by OpenTelemetry's API; where they go is the business of the SDK that the process has set up.

    `tracer_provider` and `meter_provider` are the process's own when None. With an air gap, `allowed` are the entries
    of AIRGAP_ALLOW (None: no air gap). Raises ConfigurationError when the package is missing, or when the environment
    names an endpoint that the air gap forbids.
    """

    def __init__(
        self,
        *,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        allowed: Collection[str] | None = None,
        worker: str = "router",
        exports: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - needs a package that most need not have
            from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                "TELEMETRY=otel needs the package opentelemetry-api: pip install 'seawall[otel]'"
            ) from None
        check_endpoints(allowed)
        self.api = trace
        self.export: Export | None = None
        if exports and tracer_provider is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self.export = begin_export(worker)
        self.is_served = worker.startswith("gateway")
        self.tracer: Any = (
            trace.get_tracer("seawall.router", tracer_provider=tracer_provider)
            if self.export is None
            else self.export.tracer
        )
        self.propagator = tracecontext.TraceContextTextMapPropagator()
        # Of an export of our own only the sampled requests would be counted; `/metrics` counts them all.
        self.meters = (
            None if self.export is not None else _Meters(metrics.get_meter("seawall.router", "", meter_provider))
        )
        self.open: dict[str, _Followed] = {}
        """The traced requests under way, by id."""
        self.changes: list[tuple[object, BreakerChange]] = []
        """What a breaker has just reported, and in which task: the attempt that caused it is told of next."""

    def around(self, engine: Engine) -> Engine:
        """See Telemetry."""
        return traced(engine, self._begin)

    def take(self, event: Event) -> None:
        """See Telemetry."""
        if isinstance(event, Spend):
            if self.open and event.request_id in self.open:
                self.open[event.request_id].spent(event)
        elif isinstance(event, BreakerChange):
            self.changes = [*self.changes[-_CHANGES_MAX:], (_task(), event)]
        if self.meters is not None:
            self.meters.take(event)

    def told(self) -> list[BreakerChange]:
        """Return, once, what breakers have reported in this task."""
        if not self.changes:
            return []
        task = _task()
        found = [change for whose, change in self.changes if whose is task]
        self.changes = [each for each in self.changes if each[0] is not task]
        return found

    def close(self) -> None:
        """Send the last spans; blocks for two seconds at most. An SDK of the process's own is left alone."""
        if self.export is not None:
            self.export.close()

    def _begin(self, request: Request, stream: bool) -> Trace | None:
        parent, trace_id = None, 0
        if request.trace_context:
            traceparent = dict(request.trace_context).get("traceparent", "")
            flag = parent_flag(traceparent)
            if flag is not None:
                if self.export is not None and not self.export.sampling.joins(traceparent, flag):
                    if RECENT.is_kept:
                        RECENT.add(request.request_id, traceparent.strip()[3:35])
                    return _Passing(request.trace_context)
                parent = self.propagator.extract(dict(request.trace_context))
        if self.export is not None and (parent is None or not self._context_in(parent).is_valid):
            drawn = self.export.sampling.root()
            if drawn is None:
                return None
            parent, trace_id = None, drawn or 1
        followed = _Followed(self, request, parent, trace_id, stream=stream)
        self.open[request.request_id] = followed
        if RECENT.is_kept:
            RECENT.add(request.request_id, f"{followed.trace_id:032x}")
        return followed

    def begin(self, name: str, parent: Any, trace_id: int, kind: Any, attributes: dict[str, Any]) -> Any:
        """Begin a request's span below that in the context `parent`, else as the first of the trace `trace_id`."""
        if self.export is None:
            return self.tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        if parent is None:
            return self.tracer.begin(name, trace_id, kind, attributes)
        return self.tracer.join(name, self._context_in(parent), kind, attributes)

    def _context_in(self, parent: Any) -> Any:
        return self.api.get_current_span(parent).get_span_context()


class _Meters:
    """The metrics, for an SDK that the process has set up."""

    def __init__(self, meter: Any) -> None:
        self.durations = meter.create_histogram("gen_ai.client.operation.duration", "s", "Length of a call to a model.")
        self.first_chunks = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "From a call to the first piece of a streamed answer."
        )
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of an answer.")
        self._costs = meter.create_counter("seawall.cost", "{USD}", "Settled cost of the calls to a provider.")
        self._transitions = meter.create_counter("seawall.breaker.transitions", description="Transitions of a breaker.")
        self._skips = meter.create_counter("seawall.skips", description="Times that a provider was passed over.")

    def take(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, BreakerChange):
            self._transitions.add(1, {**_provider(event.provider), "seawall.breaker.state": str(event.to)})
        elif isinstance(event, Spend):
            if event.action == "settle" and event.micro_usd:
                self._costs.add(event.micro_usd / 1_000_000, _provider(event.provider))
        elif isinstance(event, Skip):
            self._skips.add(1, {**_provider(event.provider), "seawall.skip.reason": event.reason})


class _Passing:
    """A request whose trace is not sampled: it is only handed on."""

    def __init__(self, context: tuple[tuple[str, str], ...]) -> None:
        self._context = context

    def calling(self, call: Call) -> Call:
        """See Trace."""
        return msgspec.structs.replace(call, headers=(*call.headers, *self._context))

    def take(self, event: Attempt | Skip) -> None:
        """See Trace."""

    def end(self, last: Chunk | None, error: BaseException | None) -> None:
        """See Trace."""


class _Followed:
    """One request's spans."""

    def __init__(self, telemetry: OpenTelemetry, request: Request, parent: Any, trace_id: int, *, stream: bool) -> None:
        self._of = telemetry
        self._request = request
        self._attempt: Any = None
        kinds = telemetry.api.SpanKind
        told: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": str(request.model),
            "gen_ai.request.stream": stream,
            "seawall.request.id": request.request_id,
        }
        if telemetry.is_served:
            told |= _SERVED
        if request.max_tokens is not None:
            told["gen_ai.request.max_tokens"] = request.max_tokens
        if request.temperature is not None:
            told["gen_ai.request.temperature"] = request.temperature
        name = f"POST {_ROUTE}" if telemetry.is_served else "route"
        kind = kinds.SERVER if telemetry.is_served or parent is not None else kinds.INTERNAL
        self._span: Any = telemetry.begin(name, parent, trace_id, kind, told)
        # Without a parent's, so that nothing of the surroundings gets in.
        self._context = None if telemetry.export else telemetry.api.set_span_in_context(self._span, parent)

    @property
    def trace_id(self) -> int:
        """The trace's id."""
        return self._span.trace_id if self._of.export else self._span.get_span_context().trace_id

    def calling(self, call: Call) -> Call:
        """See Trace."""
        self._attempt = span = self._begin_attempt(_server(call.url))
        if self._of.changes:
            self._tell_changes()
        if self._of.export is not None and not span.trace_state:
            told = f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
            return msgspec.structs.replace(call, headers=(*call.headers, ("traceparent", told)))
        headers: dict[str, str] = {}
        self._of.propagator.inject(headers, self._of.api.set_span_in_context(span))
        return msgspec.structs.replace(call, headers=(*call.headers, *headers.items()))

    def take(self, event: Attempt | Skip) -> None:
        """See Trace."""
        if isinstance(event, Skip):
            attributes = {**_provider(event.provider), "seawall.skip.reason": event.reason}
            self._span.add_event("seawall.skip", attributes)
            return
        span = self._begin_attempt({}) if self._attempt is None else self._attempt
        self._attempt = None
        if self._of.changes:
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
            if self._of.meters is not None:
                self._of.meters.first_chunks.record(told["gen_ai.response.time_to_first_chunk"], named)
        span.update_name(f"chat {event.model}")
        span.set_attributes(told)
        if event.outcome == "failed":
            span.set_status(self._of.api.StatusCode.ERROR, event.error)
        span.end()
        if self._of.meters is not None:
            self._of.meters.durations.record((event.end_ns - event.start_ns) * 1e-9, named)

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
                    "gen_ai.response.finish_reasons": (str(last.stop_reason),),
                    "seawall.attempts": len(last.attempts),
                    "seawall.cost_usd": last.cost_usd,
                }
            )
            if last.usage is not None:
                self._count({"input": last.usage.prompt_tokens, "output": last.usage.completion_tokens}, last)
            if self._of.is_served:
                span.set_attribute("http.response.status_code", 200)
        elif error is not None:
            code = error.code if isinstance(error, SeawallError) else "cancelled"
            if self._of.is_served and isinstance(error, SeawallError):
                span.set_attribute("http.response.status_code", error.status)
            span.set_attribute("error.type", code)
            if isinstance(error, Exception):  # a client that left is no error
                span.set_status(self._of.api.StatusCode.ERROR, code)
        span.end()

    def _count(self, tokens: dict[str, int], last: Chunk) -> None:
        for kind, count in tokens.items():
            self._span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
            if self._of.meters is not None:
                named = {
                    **_provider(last.provider),
                    "gen_ai.operation.name": "chat",
                    "gen_ai.response.model": last.model,
                }
                self._of.meters.tokens.record(count, {**named, "gen_ai.token.type": kind})

    def _begin_attempt(self, attributes: Mapping[str, Any]) -> Any:
        kind = self._of.api.SpanKind.CLIENT
        if self._of.export is not None:
            return self._of.tracer.below(self._span, "chat", kind, dict(attributes))
        return self._of.tracer.start_span("chat", context=self._context, kind=kind, attributes=attributes)

    def _tell_changes(self, span: Any = None) -> None:
        for change in self._of.told():
            (span or self._attempt).add_event(
                "seawall.breaker",
                {
                    **_provider(change.provider),
                    "seawall.breaker.from": str(change.from_state),
                    "seawall.breaker.to": str(change.to),
                    "seawall.breaker.cause": change.cause,
                },
            )


@lru_cache(256)
def _server(url: str) -> Mapping[str, Any]:
    """Return the attributes that say where a call goes."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def _provider(name: str) -> dict[str, str]:
    return {"gen_ai.provider.name": _PROVIDER_NAMES.get(name, name)}


def _task() -> object:
    """Return what runs this code: a task, or None outside of any."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None

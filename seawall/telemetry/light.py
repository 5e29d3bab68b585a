"""
Spans of OpenTelemetry's API that cost little: a tenth of the SDK's, which checks and copies each attribute.

Ours are right by construction: keys are text; values text, numbers, truths, or lists of text.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, get_current_span

__all__ = ["LightSpan", "LightTracer"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_ids = random.Random()  # noqa: S311 - ids, not secrets


class LightSpan(NonRecordingSpan):
    """A span that is kept as it is told, and handed to `ended` at its end."""

    def __init__(
        self, name: str, context: SpanContext, parent_id: int, kind: SpanKind, ended: Callable[[LightSpan], None]
    ) -> None:
        super().__init__(context)
        self.name = name
        self.context = context
        self.parent_id = parent_id
        """0: it has none."""
        self.kind = kind
        self.attributes: dict[str, Any] = {}
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        """When, in nanoseconds since the epoch; the name; the attributes."""
        self.error: str | None = None
        """Why the span has failed."""
        self.start_ns = time.time_ns()
        self.end_ns = 0
        self._ended = ended

    def is_recording(self) -> bool:
        """See Span."""
        return not self.end_ns

    def set_attributes(self, attributes: Any) -> None:
        """See Span."""
        self.attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """See Span."""
        self.attributes[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """See Span."""
        self.events.append((timestamp or time.time_ns(), name, attributes or {}))

    def update_name(self, name: str) -> None:
        """See Span."""
        self.name = name

    def set_status(self, status: Any, description: str | None = None) -> None:
        """See Span; the only status that we set is ERROR."""
        del status
        self.error = description or ""

    def end(self, end_time: int | None = None) -> None:
        """See Span."""
        if not self.end_ns:
            self.end_ns = end_time or time.time_ns()
            self._ended(self)


class LightTracer:
    """What begins spans; `ended` takes each at its end, and neither blocks nor raises."""

    def __init__(self, ended: Callable[[LightSpan], None]) -> None:
        self._ended = ended
        self.next_trace_id = 0
        """The id of the next trace: sampling was decided by it."""

    def start_span(
        self, name: str, context: Any = None, kind: SpanKind = SpanKind.INTERNAL, attributes: Any = None
    ) -> Span:
        """Begin a span, below that in `context` where there is one."""
        parent = get_current_span(context).get_span_context() if context is not None else None
        if parent is None or not parent.is_valid:
            own = SpanContext(self.next_trace_id or _ids.getrandbits(128), _id(), False, _SAMPLED)
            parent_id = 0
        else:
            own = SpanContext(parent.trace_id, _id(), False, _SAMPLED, parent.trace_state)
            parent_id = parent.span_id
        span = LightSpan(name, own, parent_id, kind, self._ended)
        if attributes:
            span.attributes.update(attributes)
        return span


def _id() -> int:
    return _ids.getrandbits(64) or 1

"""
Spans of OpenTelemetry's API that cost little: a tenth of the SDK's, which checks and copies each attribute.

Ours are right by construction: keys are text; values text, numbers, truths, or lists of text.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

__all__ = ["LightSpan", "LightTracer"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_ids = random.Random()  # noqa: S311 - ids, not secrets


class LightSpan(NonRecordingSpan):
    """A span that is kept as it is told, and handed to `ended` at its end. `parent_id` is 0 where it has no parent."""

    def __init__(
        self,
        name: str,
        trace_id: int,
        parent_id: int,
        kind: SpanKind,
        attributes: dict[str, Any],
        ended: Callable[[LightSpan], None],
        trace_state: Any = None,
    ) -> None:
        # Not its base's: a context is made when somebody asks for it, and most need only the ids.
        self.name = name
        self.trace_id = trace_id
        self.span_id = _ids.getrandbits(64) or 1
        self.parent_id = parent_id
        self.trace_state = trace_state
        """The vendors' own part of the trace's context; None or empty where there is none."""
        self.kind = kind
        self.attributes = attributes
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        """When, in nanoseconds since the epoch; the name; the attributes."""
        self.error: str | None = None
        """Why the span has failed."""
        self.start_ns = time.time_ns()
        self.end_ns = 0
        self._ended = ended

    def get_span_context(self) -> SpanContext:
        """See Span."""
        return SpanContext(self.trace_id, self.span_id, False, _SAMPLED, self.trace_state)

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

    def begin(self, name: str, trace_id: int, kind: SpanKind, attributes: dict[str, Any]) -> LightSpan:
        """Begin a trace, with its first span."""
        return LightSpan(name, trace_id, 0, kind, attributes, self._ended)

    def join(self, name: str, parent: SpanContext, kind: SpanKind, attributes: dict[str, Any]) -> LightSpan:
        """Begin a span below one of another process."""
        state = parent.trace_state or None
        return LightSpan(name, parent.trace_id, parent.span_id, kind, attributes, self._ended, state)

    def below(self, parent: LightSpan, name: str, kind: SpanKind, attributes: dict[str, Any]) -> LightSpan:
        """Begin a span below one of ours."""
        return LightSpan(name, parent.trace_id, parent.span_id, kind, attributes, self._ended, parent.trace_state)

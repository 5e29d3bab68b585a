"""
What OpenTelemetry gets to see of the router: spans, sampled and exported.

Only `batch`, `light` and `otlp` import packages of an extra, and only TELEMETRY=otel loads them.
"""

from __future__ import annotations

from seawall.telemetry.spans import OpenTelemetry, from_settings

__all__ = ["OpenTelemetry", "from_settings"]

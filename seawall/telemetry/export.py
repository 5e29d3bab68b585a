"""
The gateway's own export: spans to a collector by OTLP (http/protobuf), by OpenTelemetry's own variables.

A process that has set up an SDK of its own (`opentelemetry-instrument`, or in code) keeps that, and this is not used.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from router.airgap import allows_endpoint
from router.errors import ConfigurationError, SeawallError
from seawall.journal.exchanges import Exchanges
from seawall.telemetry.sampling import Sampling
from seawall.telemetry.tally import SPANS
from seawall.version import version

if TYPE_CHECKING:
    from seawall.telemetry.batch import BatchExport
    from seawall.telemetry.light import LightTracer

__all__ = ["Export", "begin_export", "check_endpoints"]

END_S = 2.0
"""What the end of the export may take."""
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)
_PROTOCOL = "http/protobuf"
_MISSING = "TELEMETRY=otel needs OpenTelemetry's packages: pip install 'seawall[otel]'"


class Export:
    """A tracer, its sampling, and the way out."""

    def __init__(self, sampling: Sampling, tracer: LightTracer, batches: BatchExport) -> None:
        self.sampling = sampling
        self.tracer = tracer
        self._batches = batches

    def close(self) -> None:
        """Send what there is and end; blocks for END_S at most."""
        self._batches.close()


def begin_export(worker: str, environment: Mapping[str, str] = os.environ) -> Export | None:
    """
    Return an export as the environment's variables want it, None where they want none.

    Raises ConfigurationError for what we cannot do, or when a package is missing.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter != "otlp":
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER is {exporter!r}; it must be otlp or none (others: opentelemetry-instrument)"
        )
    _check_protocol(environment)
    sampling = Sampling(environment)
    queue_max = _whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch_max = _whole(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    delay_ms = _whole(environment, "OTEL_BSP_SCHEDULE_DELAY", 1000)
    try:
        from seawall.telemetry.batch import BatchExport  # noqa: PLC0415 - needs packages of an extra
        from seawall.telemetry.light import LightTracer  # noqa: PLC0415
        from seawall.telemetry.otlp import Collector  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    collector = Collector(environment, _resource(worker, environment))
    batches = BatchExport(
        collector,
        SPANS,
        queue_max=queue_max,
        batch_max=batch_max,
        delay_s=delay_ms / 1000,
        end_s=END_S,
        exchanges=Exchanges.of("collector"),
    )
    return Export(sampling, LightTracer(batches.take), batches)


def check_endpoints(allowed: Collection[str] | None) -> None:
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


def _check_protocol(environment: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        told = environment.get(name, "").strip()
        if told and told != _PROTOCOL:
            raise ConfigurationError(
                f"{name} is {told!r}; the gateway speaks {_PROTOCOL} (port 4318 of most collectors)"
            )
        if told:
            break
    for name in _ENDPOINTS[:2]:
        told = environment.get(name, "").strip()
        if told and urlsplit(told).scheme not in ("http", "https"):
            raise ConfigurationError(f"{name} is no URL; it must be like http://localhost:4318")


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    told = environment.get(name, "").strip() or str(default)
    if not told.isdecimal() or not 1 <= int(told) <= 1_000_000:
        raise ConfigurationError(f"{name} is {told!r}; it must be a whole number from 1 to 1000000")
    return int(told)


def _resource(worker: str, environment: Mapping[str, str]) -> dict[str, str]:
    found = {"service.name": "seawall", "service.version": version(), "service.instance.id": worker}
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = pair.partition("=")
        if equals:
            found[name.strip()] = unquote(value.strip())
    named = environment.get("OTEL_SERVICE_NAME", "").strip()
    return found | {"service.name": named} if named else found

"""
OTLP over HTTP: spans as OpenTelemetry's own protobuf messages, sent by one connection that is kept.

An attribute that comes again, and most do, is encoded once: a message's fields are its parts one after the other, each
with its tag and its length in front, so that ready ones can be put together.

Whatever a collector does not take is not sent again: a queue that waits for a sick collector grows old, and the next
batch is due in a second.
"""

from __future__ import annotations

import http.client
import ssl
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import SpanKind

from router.errors import ConfigurationError
from seawall.telemetry.light import LightSpan
from seawall.version import version

__all__ = ["Collector", "encoded"]

_UNIQUE = frozenset(["seawall.request.id"])
_KEPT = 4096
# A field's number and type are one byte, its value follows, least significant byte first.
_TIMES = struct.Struct("<BQBQ")
_EVENT = struct.Struct("<BQ")
_DOUBLE = struct.Struct("<BBBd")
_KINDS = {kind: Span.SpanKind.Value(f"SPAN_KIND_{kind.name}") for kind in SpanKind}


class Collector:
    """Where spans go, by OpenTelemetry's variables. Raises ConfigurationError."""

    def __init__(self, environment: Mapping[str, str], resource: Mapping[str, str]) -> None:
        url = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
        if not url:
            base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
            url = f"{base.rstrip('/')}/v1/traces"
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path or "/"
        self._timeout_s = _seconds(_either(environment, "TIMEOUT") or "10")
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"seawall/{version()}"}
        self._headers |= dict(_headers(_either(environment, "HEADERS")))
        self._tls = _context(environment) if parts.scheme == "https" else None
        self._resource = Resource(
            attributes=[KeyValue(key=key, value=_value(value)) for key, value in resource.items()]
        )
        self._connection: http.client.HTTPConnection | None = None

    def export(self, spans: Sequence[LightSpan]) -> bool:
        """Send a batch; tell whether it was taken. Blocks for OTEL_EXPORTER_OTLP_TIMEOUT, by each step of the way."""
        body = encoded(spans, self._resource)
        for is_fresh in (self._connection is None, True):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.request("POST", self._path, body, self._headers)
                answer = self._connection.getresponse()
                answer.read(65_536)
            except (ConnectionError, http.client.HTTPException):  # a kept one may have been closed meanwhile
                self.close()
                if is_fresh:
                    return False
            except OSError:
                self.close()
                return False
            else:
                return 200 <= answer.status < 300
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)


def encoded(spans: Iterable[LightSpan], resource: Any) -> bytes:
    """Return the body, an ExportTraceServiceRequest, that tells of these spans of a resource."""
    scope = InstrumentationScope(name="seawall.router", version=version()).SerializeToString()
    told = b"".join([b"\x0a", _framed(scope), *[b"\x12" + _framed(_span(each)) for each in spans]])
    told = b"\x0a" + _framed(resource.SerializeToString()) + b"\x12" + _framed(told)
    return b"\x0a" + _framed(told)


def _span(span: LightSpan) -> bytes:
    context = span.context
    parts = [
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big"),
        _named(span.name, _KINDS[span.kind]),
        _TIMES.pack(0x39, span.start_ns, 0x41, span.end_ns),
    ]
    if span.parent_id:
        parts.append(b"\x22\x08" + span.parent_id.to_bytes(8, "big"))
    if context.trace_state:
        parts.append(b"\x1a" + _framed(context.trace_state.to_header().encode()))
    if span.error is not None:
        status = Status(code=Status.STATUS_CODE_ERROR, message=span.error)
        parts.append(b"\x7a" + _framed(status.SerializeToString()))
    parts += [b"\x4a" + _attribute(key, value) for key, value in span.attributes.items()]
    for at, name, told in span.events:
        event = [_EVENT.pack(0x09, at), _event_named(name)]
        event += [b"\x1a" + _attribute(key, value) for key, value in told.items()]
        parts.append(b"\x5a" + _framed(b"".join(event)))
    return b"".join(parts)


@lru_cache(_KEPT)
def _named(name: str, kind: Any) -> bytes:
    return Span(name=name, kind=kind).SerializeToString()


@lru_cache(_KEPT)
def _event_named(name: str) -> bytes:
    return Span.Event(name=name).SerializeToString()


@lru_cache(_KEPT)
def _key(key: str) -> bytes:
    return KeyValue(key=key).SerializeToString()


def _attribute(key: str, value: Any) -> bytes:
    """Return a KeyValue with its length in front."""
    if isinstance(value, float):
        # Field 2 of nine bytes: field 4, a double.
        return _framed(_key(key) + _DOUBLE.pack(0x12, 9, 0x21, value))
    if key in _UNIQUE:
        return _framed(_key(key) + b"\x12" + _framed(b"\x0a" + _framed(value.encode())))
    return _kept(key, tuple(cast("list[str]", value)) if isinstance(value, list) else value)


def _new(key: str, value: Any) -> bytes:
    return _framed(KeyValue(key=key, value=_value(value)).SerializeToString())


_kept = lru_cache(_KEPT, typed=True)(_new)


def _framed(data: bytes) -> bytes:
    """Return the data with its length in front, as a protobuf field has it after its tag."""
    size, length = len(data), b""
    if size < 0x80:
        return bytes((size,)) + data
    while size > 0x7F:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return length + bytes((size,)) + data


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))


def _either(environment: Mapping[str, str], name: str) -> str:
    """Return a variable of the traces, or that of all signals."""
    own = environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return own or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _headers(told: str) -> Iterable[tuple[str, str]]:
    for pair in filter(None, told.split(",")):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError("OTEL_EXPORTER_OTLP_HEADERS is no list such as name=value,other=value")
        yield name.strip(), unquote(value.strip())


def _seconds(told: str) -> float:
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {told!r}; it must be seconds, above 0 and up to 600")
    return seconds


def _context(environment: Mapping[str, str]) -> ssl.SSLContext:
    certificate, key = _either(environment, "CLIENT_CERTIFICATE"), _either(environment, "CLIENT_KEY")
    try:
        context = ssl.create_default_context(cafile=_either(environment, "CERTIFICATE") or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_CERTIFICATE or its client's cannot be read: {error}") from None
    return context

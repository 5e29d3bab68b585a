"""
OTLP over HTTP: spans as OpenTelemetry's own protobuf messages, sent by one connection that is kept.

An attribute that comes again, and most do, is encoded once: a message's fields are its parts one after the other, each
with its tag and its length in front, so that ready ones can be put together. A key always has values of one type.

Whatever a collector does not take is not sent again: a queue that waits for a sick collector grows old, and the next
batch is due in a second.
"""

from __future__ import annotations

import http.client
import ssl
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import SpanKind

from router.errors import ConfigurationError
from seawall.telemetry.light import LightSpan
from seawall.version import version

__all__ = ["Collector", "encoded", "encoded_span"]

_UNIQUE = frozenset(["seawall.request.id"])
_KEPT = 4096
# A field's number and type are one byte, its value follows, least significant byte first.
_TIMES = struct.Struct("<BQBQ")
_IDS = struct.Struct(">BBQQBBQ")
_HALF = (1 << 64) - 1
_EVENT = struct.Struct("<BQ")
_DOUBLE = struct.Struct("<d")
_OF_A_SPAN, _OF_AN_EVENT = 0x4A, 0x1A
# What is encoded already: by the tag in front of it, whole attributes, and the beginnings of those that are fractions.
_whole: dict[int, dict[Any, bytes]] = {_OF_A_SPAN: {}, _OF_AN_EVENT: {}}
_begun: dict[int, dict[str, bytes]] = {_OF_A_SPAN: {}, _OF_AN_EVENT: {}}
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

    def export(self, spans: Sequence[bytes]) -> bool:
        """
        Send a batch of encoded spans; tell whether it was taken.

        Blocks for OTEL_EXPORTER_OTLP_TIMEOUT, by each step of the way.
        """
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


def encoded(spans: Iterable[bytes], resource: Any) -> bytes:
    """Return the body, an ExportTraceServiceRequest, that tells of these encoded spans of a resource."""
    scope = InstrumentationScope(name="seawall.router", version=version()).SerializeToString()
    told = b"".join([b"\x0a", _framed(scope), *spans])
    told = b"\x0a" + _framed(resource.SerializeToString()) + b"\x12" + _framed(told)
    return b"\x0a" + _framed(told)


def encoded_span(span: LightSpan) -> bytes:
    """Return the part of the body that tells of one span."""
    parts = [
        _IDS.pack(0x0A, 16, span.trace_id >> 64, span.trace_id & _HALF, 0x12, 8, span.span_id),
        _named(span.name, span.kind),
        _TIMES.pack(0x39, span.start_ns, 0x41, span.end_ns),
    ]
    if span.parent_id:
        parts.append(b"\x22\x08" + span.parent_id.to_bytes(8, "big"))
    if span.trace_state:
        parts.append(b"\x1a" + _framed(span.trace_state.to_header().encode()))
    if span.error is not None:
        status = Status(code=Status.STATUS_CODE_ERROR, message=span.error)
        parts.append(b"\x7a" + _framed(status.SerializeToString()))
    _attributes(parts, span.attributes, _OF_A_SPAN)
    for at, name, told in span.events:
        event = [_EVENT.pack(0x09, at), _event_named(name)]
        _attributes(event, told, _OF_AN_EVENT)
        parts.append(b"\x5a" + _framed(b"".join(event)))
    return b"\x12" + _framed(b"".join(parts))


@lru_cache(_KEPT)
def _named(name: str, kind: Any) -> bytes:
    return Span(name=name, kind=_KINDS[kind]).SerializeToString()


@lru_cache(_KEPT)
def _event_named(name: str) -> bytes:
    return Span.Event(name=name).SerializeToString()


def _attributes(parts: list[bytes], told: Mapping[str, Any], tag: int) -> None:
    """Add the attributes to the parts of a span or an event."""
    whole, begun = _whole[tag], _begun[tag]
    for item in told.items():
        if type(item[1]) is float:
            start = begun.get(item[0])
            parts.append((_beginning(item[0], tag) if start is None else start) + _DOUBLE.pack(item[1]))
        else:
            ready = whole.get(item)
            parts.append(_attribute(item, tag) if ready is None else ready)


def _beginning(key: str, tag: int) -> bytes:
    """Return all of a KeyValue but the eight bytes of its value, a double; keep it."""
    # Field 2 of nine bytes: field 4, a double.
    zero = _framed(KeyValue(key=key).SerializeToString() + b"\x12\x09\x21" + bytes(8))
    _begun[tag][key] = start = bytes((tag,)) + zero[:-8]
    return start


def _attribute(item: tuple[str, Any], tag: int) -> bytes:
    """Return a KeyValue with its tag and its length in front; keep it, unless its like does not come again."""
    key, value = item
    ready = bytes((tag,)) + _framed(KeyValue(key=key, value=_value(value)).SerializeToString())
    if key not in _UNIQUE:
        kept = _whole[tag]
        if len(kept) >= _KEPT:
            kept.clear()
        kept[item] = ready
    return ready


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

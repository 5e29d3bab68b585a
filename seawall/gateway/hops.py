"""What a caller, or a gateway in front of this one, says of a request beside its body. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from router.errors import RequestError
from router.models import Request
from router.settings import parse_seconds

__all__ = ["heeded"]

_COUNT = re.compile(rb"[0-9]{1,4}")


def heeded(request: Request, headers: Mapping[bytes, bytes]) -> Request:
    """
    Return the request with what `X-Seawall-Timeout`, `X-Seawall-Attempts` and W3C's `traceparent` say of it.

    The first is the caller's patience (`2.5`, `300ms`); the second counts the attempts that gateways in front have made
    for the same request, so that layers of gateways do not multiply calls. Raises RequestError for a timeout that is
    none; a count that is none is ignored, for nobody means it.
    """
    timeout, attempts = headers.get(b"x-seawall-timeout"), headers.get(b"x-seawall-attempts")
    if timeout is not None:
        try:
            seconds = parse_seconds(timeout.decode("latin-1"))
        except ValueError as error:
            raise RequestError(f"X-Seawall-Timeout {error}") from None
        if seconds <= 0:
            raise RequestError("X-Seawall-Timeout must be above 0; leave it out for no timeout of your own")
        request = msgspec.structs.replace(request, timeout_s=seconds)
    if attempts is not None and _COUNT.fullmatch(attempts):
        request = msgspec.structs.replace(request, attempts=int(attempts))
    if b"traceparent" in headers:
        names = (b"traceparent", b"tracestate")
        context = tuple((name.decode(), headers[name].decode("latin-1")) for name in names if name in headers)
        request = msgspec.structs.replace(request, trace_context=context)
    return request

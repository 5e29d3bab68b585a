"""
One request of the router as a telemetry system follows it: its engine with a transport and a sink of the request's own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from router.chain import Engine, Ports
from router.events import Attempt, Event, Skip
from router.models import Chunk, Request
from router.run import Deliver
from router.transport import Answer, Call, Transport

__all__ = ["Trace", "traced"]


class Trace(Protocol):
    """One request as a telemetry system follows it. No method may raise or block."""

    def calling(self, call: Call) -> Call:
        """Take the call that an attempt is about to make; return it with the headers that carry the trace upstream."""
        ...

    def take(self, event: Attempt | Skip) -> None:
        """Take what happened to this request; an Attempt has ended."""
        ...

    def end(self, last: Chunk | None, error: BaseException | None) -> None:
        """Take the end: `last` is the chunk that a whole answer ends with."""
        ...


def traced(answer: Engine, begin: Callable[[Request, bool], Trace | None]) -> Engine:
    """
    Return the engine `answer` with a trace of each request, which `begin(request, stream)` makes.

    One for which it makes none goes the engine's own way, and pays for the question only.
    """

    def choose(request: Request, ports: Ports, deliver: Deliver | None = None) -> Coroutine[Any, Any, Chunk]:
        trace = begin(request, deliver is not None)
        return answer(request, ports, deliver) if trace is None else follow(trace, request, ports, deliver)

    async def follow(trace: Trace, request: Request, ports: Ports, deliver: Deliver | None) -> Chunk:
        def sink(event: Event) -> None:
            ports.sink(event)
            if isinstance(event, (Attempt, Skip)):
                trace.take(event)

        own = msgspec.structs.replace(ports, transport=_Traced(ports.transport, trace), sink=sink)
        try:
            last = await answer(request, own, deliver)
        except BaseException as error:
            trace.end(None, error)
            raise
        trace.end(last, None)
        return last

    return choose


class _Traced:
    """A transport that tells one request's trace of each call."""

    def __init__(self, inner: Transport, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def send(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """See `router.transport.Transport`."""
        return self._inner.send(self._trace.calling(call))

    async def aclose(self) -> None:
        """See `router.transport.Transport`."""
        await self._inner.aclose()

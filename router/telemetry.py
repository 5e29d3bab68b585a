"""
What a telemetry system is told of each request. OpenTelemetry's is `seawall.telemetry`; any other may be passed.

Without one nothing of this is loaded and nothing stands on a request's way: the router calls `chain.answer` itself.
With one it calls what `traced` returns, which hands the engine a transport and a sink that belong to this one request;
no context variable has to survive an async generator.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

import msgspec

from router.chain import Ports, answer
from router.events import Attempt, Event, Skip
from router.models import Chunk, Request
from router.transport import Answer, Call, Transport

__all__ = ["Telemetry", "Trace", "traced"]


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


class Telemetry(Protocol):
    """A telemetry system."""

    def begin(self, request: Request, *, stream: bool) -> Trace:
        """Return what follows a request that has just come in."""
        ...

    def take(self, event: Event) -> None:
        """Take every event of the router, those of single requests too, before the request's own trace does."""
        ...


def traced(telemetry: Telemetry) -> Callable[..., AsyncGenerator[Chunk]]:
    """Return `chain.answer` as `telemetry` sees it."""

    async def follow(request: Request, ports: Ports, *, stream: bool) -> AsyncGenerator[Chunk]:
        trace = telemetry.begin(request, stream=stream)

        def sink(event: Event) -> None:
            ports.sink(event)
            if isinstance(event, (Attempt, Skip)):
                trace.take(event)

        own = msgspec.structs.replace(ports, transport=_Traced(ports.transport, trace), sink=sink)
        last: Chunk | None = None
        problem: BaseException | None = None
        try:
            async with aclosing(answer(request, own, stream=stream)) as chunks:
                async for chunk in chunks:
                    if chunk.stop_reason is not None:
                        last = chunk
                    yield chunk
        except BaseException as error:
            problem = error
            raise
        finally:
            trace.end(last, problem)

    return follow


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

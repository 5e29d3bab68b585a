"""
The clients of a simulation: one request each, from its planned time to the record of what came of it.

A request is read by the gateway's own `parse_request` and answered by the router's API. What the client gets to see of
an answer or of an error (status, code, `Retry-After`) are the gateway's words for it, and the record is judged by the
rules of the load generator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import Context
from typing import Protocol

import msgspec

from loadtests.outcome import Ending, Trip, record_of
from loadtests.reception import Reception
from router.errors import SeawallError
from router.models import Chunk, Reply, Request
from seawall.gateway.wire import error_json, parse_request, retry_after
from seawall.journal.events import RequestRecord
from seawall.plan import Arrival
from seawall.simulation.loop import VirtualLoop

__all__ = ["Answerer", "SimClient"]

_encode = msgspec.json.Encoder().encode


class Answerer(Protocol):
    """What a simulation asks of a router: `HybridRouter`, or another behind the same three methods."""

    async def complete(self, request: Request) -> Reply:
        """Answer in one piece. Raises SeawallError."""
        ...

    def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer in chunks; the last one has a `stop_reason`. Raises SeawallError."""
        ...

    async def aclose(self) -> None:
        """End in order."""
        ...


class _Received(Reception):
    """What a client has of its answer, told in facts instead of bytes."""

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream
        self.started = False
        self.body_bytes = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keep_alive = False
        self.unreadable = None
        self.first_body_ns = None
        self.first_token_ns = None
        self.chunks = 0
        self.done = False
        self.malformed = None
        self.error = None
        self.provider = None
        self._text: list[str] = []

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Take the head of the answer."""
        self.started, self.status, self.headers = True, status, headers

    def say(self, text: str, now_ns: int) -> None:
        """Take text."""
        if self.first_body_ns is None:
            self.first_body_ns = now_ns
        if text:
            self.body_bytes += len(text)
            self._text.append(text)
            if self.stream:
                self.chunks += 1
                self.first_token_ns = now_ns if self.first_token_ns is None else self.first_token_ns


class SimClient:
    """
    One request. `serve` is the gateway's side of it, a task of the worker's; `finish` tells the record, once.

    `wall` is the client's own clock.
    """

    def __init__(
        self,
        arrival: Arrival,
        model: str,
        intended_ns: int,
        loop: VirtualLoop,
        wall: Callable[[], float],
        done: Callable[[SimClient, RequestRecord], None],
    ) -> None:
        self.arrival = arrival
        self.task: asyncio.Task[None] | None = None
        self._model = model
        self._intended_ns = intended_ns
        self._loop = loop
        self._wall = wall
        self._done = done
        self._received = _Received(stream=arrival.stream)
        self._sent_ns: int | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.is_over = False

    def send(self, serve: Callable[[SimClient], asyncio.Task[None]], deadline_s: float, context: Context) -> None:
        """Send the request; `serve` has it served."""
        self._sent_ns = self._loop.time_ns()
        ending = Ending("deadline", f"the deadline of {deadline_s:g} s passed")
        self._deadline = self._loop.call_later(deadline_s, self.leave, ending, context=context)
        self.task = serve(self)

    def leave(self, ending: Ending) -> None:
        """End the request from outside: the client leaves, or what serves it is gone."""
        self.finish(ending)
        if self.task is not None:
            self.task.cancel()

    def finish(self, ending: Ending) -> None:
        """Tell the record of the request. What comes later is nothing to it any more."""
        if self.is_over:
            return
        self.is_over = True
        if self._deadline is not None:
            self._deadline.cancel()
        trip = Trip(
            request_id=self.arrival.request_id,
            stream=self.arrival.stream,
            intended_ns=self._intended_ns,
            sent_ns=self._sent_ns,
            end_ns=self._loop.time_ns(),
            reused=False,
        )
        self._done(self, record_of(trip, ending, self._received, wall_s=self._wall()))

    async def serve(self, router: Answerer) -> None:
        """Answer the request as the gateway does, by `router`."""
        arrival = self.arrival
        body = _encode(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": arrival.prompt}],
                "max_tokens": arrival.max_tokens,
                "stream": arrival.stream,
            }
        )
        try:
            _, request = parse_request(body, arrival.request_id)
            if arrival.stream:
                async with aclosing(router.stream(request)) as chunks:
                    async for chunk in chunks:
                        self._chunk(chunk)
            else:
                self._whole(await router.complete(request))
        except SeawallError as error:
            self._error(error)
        self.finish(Ending("answered"))

    def _whole(self, reply: Reply) -> None:
        self._received.head(200, {"x-seawall-provider": str(reply.provider)})
        self._received.say(reply.text, self._loop.time_ns())
        self._received.complete = True

    def _chunk(self, chunk: Chunk) -> None:
        received = self._received
        if not received.started:
            received.head(200, {"x-seawall-provider": str(chunk.provider)})
        if chunk.stop_reason is not None:
            received.provider = str(chunk.provider)
            received.complete = received.done = True
        received.say(chunk.text, self._loop.time_ns())

    def _error(self, error: SeawallError) -> None:
        """Take what the gateway says of an error: its own answer, or an event in a stream that has begun."""
        received = self._received
        received.error = msgspec.json.decode(error_json(error))["error"]
        if not received.started:
            received.head(error.status, {name.decode(): value.decode() for name, value in retry_after(error)})
        received.say("", self._loop.time_ns())
        received.complete = True

"""
An emulated provider at the other end of a simulated connection.

It plays the steps of `seawall.emulators.behaviour`, the ones that the emulators play on sockets, and writes the same
record of each call. Answers leave as the bytes that a server would send, head and first chunk in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

from router.transport import Call
from seawall.emulators.behaviour import VENDORS, choose, respond
from seawall.emulators.record import CallLog
from seawall.emulators.steps import Behaviour, Body, End, Hang, Head, Healthy, Sleep, Step
from seawall.emulators.wire import HttpRequest, Reply, steps_of
from seawall.journal.events import CallRecord
from seawall.simulation.loop import VirtualLoop
from seawall.simulation.network import Link, Network

__all__ = ["PROVIDER_SOURCE", "SimulatedProvider", "ping_answer", "request_bytes"]

PROVIDER_SOURCE = "emulator-2"
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


class SimulatedProvider:
    """
    One provider. `behaviours` are in force in order of installation; `write` gets a record of every POST.

    Calls are counted by request, so that the draws of its n-th call are the emulator's own.
    """

    def __init__(
        self, name: str, healthy: Healthy, seed: int, network: Network, write: Callable[[CallRecord], None]
    ) -> None:
        self.name = name
        self.behaviours: dict[str, Behaviour] = {}
        self._fins: dict[int, asyncio.Future[int]] = {}
        self.network = network
        self.write = write
        self._vendor = VENDORS[name]
        self._healthy = healthy
        self._seed = seed
        self._calls: dict[str, int] = {}

    def accept(self, link: Link) -> None:
        """Take a connection. Nothing is known of it before its first request."""

    async def fin_ns(self, number: int) -> int:
        """Wait for the end of the connection of that number, on which a ping has come, and return its moment."""
        return await self._fins[number]

    def handle(self, link: Link, call: Call) -> None:
        """Answer a call that has arrived on `link`."""
        loop = self.network.loop
        arrival_ns = loop.time_ns()
        request = _read(call)
        parsed = self._vendor.parse(request)
        if isinstance(parsed, Reply):
            log = CallLog(self.name, None, "healthy", arrival_ns)
            steps = steps_of(parsed)
        else:
            behaviours = list(self.behaviours.values())
            taken = choose(parsed, behaviours, self._seed) if behaviours else None
            log = CallLog(self.name, parsed, "healthy" if taken is None else taken.fault_id, arrival_ns)
            nth = self._calls.get(parsed.answer_id, 0) + 1
            self._calls[parsed.answer_id] = nth
            steps = respond(parsed, self._healthy, behaviours, self._seed, nth)
        link.server = play = _Play(self, link, steps, log if call.method == "POST" else None)
        play.go_on()

    def handle_ping(self, link: Link, answer: bytes, *, close: bool) -> None:
        """Answer a fault probe, whatever the behaviours, and note when its connection ends."""
        fin = self._fins[link.number] = self.network.loop.create_future()
        link.server = _Witness(fin, self.network.loop)
        link.reply(answer)
        if close:
            link.hang_up()


class _Play:
    """One answer on its way: the server's end of the connection for as long as it lasts."""

    __slots__ = ("_chunked", "_due_s", "_head", "_link", "_log", "_over", "_provider", "_steps")

    def __init__(self, provider: SimulatedProvider, link: Link, steps: Iterator[Step], log: CallLog | None) -> None:
        self._provider = provider
        self._link = link
        self._steps = steps
        self._log = log
        self._due_s = link.loop.time()
        self._head = b""
        self._chunked = False
        self._over = False

    def lost(self) -> None:
        """See network.Server: nobody listens any more, so the rest is not said."""
        self._end()

    def go_on(self) -> None:
        """Play until the next pause."""
        if self._over:
            return
        link, log, loop = self._link, self._log, self._link.loop
        for step in self._steps:
            kind = type(step)
            if kind is Sleep:
                self._due_s += cast("Sleep", step).seconds
                if self._due_s > loop.time():
                    loop.call_at(self._due_s, self.go_on, context=self._provider.network.context)
                    return
                continue
            if kind is Body:
                data = cast("Body", step).data
                self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data)
            elif kind is Head:
                self._begin(cast("Head", step))
            elif kind is End:
                self._send(b"0\r\n\r\n" if self._chunked else b"")
            elif kind is Hang:
                self._send(b"")
                return
            else:
                self._send(b"")
                link.hang_up()
                break
            if self._log is None and log is not None:  # what was sent has broken the connection
                return
            if log is not None:
                log.saw(step, loop.time_ns())
        if link.server is self:
            link.server = None
        self._end()

    def _begin(self, head: Head) -> None:
        self._chunked = head.length is None
        self._head = _head_bytes(head)

    def _send(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._link.reply(data)

    def _end(self) -> None:
        self._over = True
        log, self._log = self._log, None
        if log is not None:
            self._provider.write(log.record(self._link.loop.time_ns()))


@lru_cache(maxsize=256)
def _head_bytes(head: Head) -> bytes:
    lines = [f"HTTP/1.1 {head.status} {_REASONS.get(head.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in head.headers]
    lines.append("transfer-encoding: chunked" if head.length is None else f"content-length: {head.length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ping_answer(reply_bytes: int, *, close: bool) -> bytes:
    """Return the answer to a fault probe's ping, with a body of so many bytes."""
    ends = "connection: close\r\n" if close else ""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n{ends}content-length: {reply_bytes}\r\n\r\n"
    return head.encode() + b"." * reply_bytes


class _Witness:
    """Notes when a connection that had a ping has ended."""

    def __init__(self, fin: asyncio.Future[int], loop: VirtualLoop) -> None:
        self._fin, self._loop = fin, loop

    def lost(self) -> None:
        """See network.Server."""
        if not self._fin.done():
            self._fin.set_result(self._loop.time_ns())


def request_bytes(call: Call) -> bytes:
    """Return a call as HTTP/1.1 writes it."""
    parts = urlsplit(call.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{call.method} {target} HTTP/1.1", f"host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    lines.append(f"content-length: {len(call.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + call.body


def _read(call: Call) -> HttpRequest:
    path, query = _target(call.url)
    return HttpRequest(method=call.method, path=path, query=query, headers=dict(call.headers), body=call.body)


@lru_cache(maxsize=256)
def _target(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))

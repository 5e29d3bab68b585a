"""One emulated provider: its behaviours, its count of calls, and its answers on a connection."""

from __future__ import annotations

import time
from collections.abc import Callable

from seawall.emulators.behaviour import VENDORS, choose, read, respond
from seawall.emulators.connection import Connection
from seawall.emulators.pings import PingLog, PingRecord
from seawall.emulators.record import CallLog
from seawall.emulators.steps import Behaviour, Healthy
from seawall.emulators.wire import BODY_LIMIT, HttpRequest, Reply, steps_of
from seawall.journal.writer import EventWriter

__all__ = ["PING_PATH", "Station", "answer_ping"]

PING_PATH = "/_seawall/ping"
"""Answers on every provider's port, untouched by behaviours and never recorded: what proves a fault of the wire."""

_PING_BYTES = 64
_PING_ID_LENGTH = 64
_REMEMBERED_REQUESTS = 100_000


class Station:
    """
    Serves one provider.

    `behaviours` are in force in order of installation; `pings` are the last ones. `writer` gets one `CallRecord` a
    call: every POST but pings; what cannot be read as a call has no request id. GETs are neither recorded nor subject
    to behaviours. `heard` is told of every request but pings, before it is answered.
    """

    def __init__(
        self,
        provider: str,
        healthy: Healthy,
        seed: int,
        writer: EventWriter | None,
        heard: Callable[[str, HttpRequest], None] | None = None,
    ) -> None:
        self.provider = provider
        self.behaviours: dict[str, Behaviour] = {}
        self.pings = PingLog()
        self._vendor = VENDORS[provider]
        self._healthy = healthy
        self._seed = seed
        self._writer = writer
        self._heard = heard
        self._calls: dict[str, int] = {}

    async def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer one request."""
        if await answer_ping(self.pings, request, connection):
            return
        arrival_ns = time.monotonic_ns()
        if self._heard is not None:
            self._heard(self.provider, request)
        call = self._vendor.error(413) if request.too_large else read(self.provider, request)
        if isinstance(call, Reply):
            log = CallLog(self.provider, None, "healthy", arrival_ns)
            steps = steps_of(call)
        else:
            behaviours = list(self.behaviours.values())
            taken = choose(call, behaviours, self._seed)
            log = CallLog(self.provider, call, "healthy" if taken is None else taken.fault_id, arrival_ns)
            steps = respond(call, self._healthy, behaviours, self._seed, self._count(call.answer_id))
        try:
            await connection.play(steps, lambda step: log.saw(step, time.monotonic_ns()))
        finally:
            if self._writer is not None and request.method == "POST":
                self._writer.write(log.record(time.monotonic_ns()))

    def _count(self, answer_id: str) -> int:
        """Return which call of its request this is, from 1. Requests of long ago are forgotten, the oldest first."""
        nth = self._calls.pop(answer_id, 0) + 1
        self._calls[answer_id] = nth
        if len(self._calls) > _REMEMBERED_REQUESTS:
            del self._calls[next(iter(self._calls))]
        return nth


async def answer_ping(pings: PingLog, request: HttpRequest, connection: Connection) -> bool:
    """Answer a request that is a ping, and keep it in `pings`; return whether it was one."""
    if request.path != PING_PATH:
        return False
    told = request.query.get("id", "")[:_PING_ID_LENGTH]
    ping = PingRecord(id=told or None, arrival_ns=time.monotonic_ns())

    def ended() -> None:
        ping.fin_ns = time.monotonic_ns()

    # A client that has left by now has left before it was answered: its end was seen already.
    if connection.gone:
        ended()
    connection.on_fin.append(ended)
    pings.add(ping)
    await connection.reply(_pong(request))
    return True


def _pong(request: HttpRequest) -> Reply:
    """Return a reply with exactly as many bytes of body as `reply_bytes` asks for."""
    plain = (("content-type", "text/plain"),)
    if request.too_large:
        return Reply(status=413, body=b"a ping's body is at most 1 MiB\n", headers=plain)
    if request.method != "POST":
        return Reply(status=405, body=b"POST a ping\n", headers=plain)
    text = request.query.get("reply_bytes", str(_PING_BYTES))
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1
    if not 0 <= size <= BODY_LIMIT:
        return Reply(status=400, body=b"reply_bytes is a number from 0 to 1048576\n", headers=plain)
    return Reply(status=200, body=b"." * size, headers=(("content-type", "application/octet-stream"),))

"""What Locust's users ask through: one request at a time and user, recorded like the planned ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import gevent

from loadtests.client import Client, Exchange
from loadtests.config import LoadConfig
from loadtests.meter import LagMeter
from loadtests.outcome import Trip, record_of
from loadtests.reception import Reception
from loadtests.shipping import Events
from seawall.answers import marked
from seawall.journal.events import RequestRecord
from seawall.plan import Arrival

__all__ = ["Observe", "Sender"]

Observe = Callable[[RequestRecord, Reception], None]
_PROMPTS = {
    "short": "What does a seawall do?",
    "long": "Compare three ways to keep the sea out, with their costs, and say when each of them fails. " * 6,
}


class Sender:
    """
    Send what the users of one process ask, and write a `request` event for each. Worker `worker` of `workers`.

    A closed loop: a user that waits for its answer asks nothing meanwhile, so a slow system is spared. What is due when
    is the user's own, so a request counts from when it is made.
    """

    def __init__(self, config: LoadConfig, writer: Events, observe: Observe, *, worker: int, workers: int) -> None:
        self._client = Client(config, None, self._sent)
        self._writer = writer
        self._observe = observe
        self._next = worker
        self._step = workers
        self._max_tokens = config.plan.max_tokens
        self._meter = LagMeter(time.monotonic_ns(), time.process_time_ns())
        self._reported_s = time.monotonic()

    def ask(self, *, stream: bool, prompt: Literal["short", "long"]) -> None:
        """Ask once and wait for the end of the answer, however it ends."""
        number, self._next = self._next, self._next + self._step
        request_id = f"{number:06d}"
        arrival = Arrival(
            n=number,
            request_id=request_id,
            at_s=0.0,
            prompt=marked(request_id, _PROMPTS[prompt]),
            stream=stream,
            max_tokens=self._max_tokens,
        )
        exchange = Exchange(arrival, time.monotonic_ns())
        self._writer.begun += 1
        self._client.perform(exchange)
        trip = Trip(
            request_id=request_id,
            stream=stream,
            intended_ns=exchange.intended_ns,
            sent_ns=exchange.sent_ns,
            end_ns=time.monotonic_ns(),
            reused=exchange.reused,
        )
        record = record_of(trip, exchange.ending, exchange.reception, wall_s=time.time())
        self._writer.write(record)
        self._observe(record, exchange.reception)
        if time.monotonic() - self._reported_s >= 1.0:
            self._report_lag()
        if exchange.ending.kind == "stopped":
            # The client has kept the news to itself, for the record's sake; the user is to end all the same.
            raise gevent.GreenletExit

    def close(self) -> None:
        """Write what is left to tell, and close the connections."""
        self._report_lag()
        self._client.close()

    def _sent(self, exchange: Exchange) -> None:
        if exchange.sent_ns is not None:
            self._meter.sent(exchange.intended_ns, exchange.sent_ns)

    def _report_lag(self) -> None:
        self._reported_s = time.monotonic()
        lag = self._meter.report(time.monotonic_ns(), time.process_time_ns())
        if lag is not None:
            self._writer.write(lag)

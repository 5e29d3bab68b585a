"""
Open-loop dispatch: every request leaves at its planned time, whatever became of those before it.

The dispatcher waits for nothing but the clock. It knows gevent, but nothing of Locust.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections.abc import Callable

import gevent
from gevent.pool import Group

from loadtests.client import Client, Exchange
from loadtests.config import LoadConfig
from loadtests.descriptors import require_descriptors
from loadtests.meter import LagMeter
from loadtests.outcome import Trip, record_of
from loadtests.reception import Reception
from loadtests.shipping import Events
from seawall.journal.events import RequestRecord
from seawall.journal.writer import EventWriter
from seawall.plan import Arrival, arrivals, duration_of

__all__ = ["Dispatcher"]

_STOP_S = 0.5


class Dispatcher:
    """
    Execute the share of one worker in a plan and write a `request` event for every request sent.

    `observe` is called with each record and what was received; `broken`, at most once, with an exception that is
    our own failure, such as a full disk, and no finding. Raises ConfigError when the plan cannot be executed here.
    """

    def __init__(
        self,
        config: LoadConfig,
        writer: EventWriter | Events,
        *,
        worker: int = 0,
        workers: int = 1,
        observe: Callable[[RequestRecord, Reception], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        require_descriptors(config.plan, workers)
        self._plan = config.plan
        self._writer = writer
        self._observe = observe
        self._broken = broken
        api_key = os.environ[config.api_key_env] if config.api_key_env else None
        self._client = Client(config, api_key, self._sent)
        self._requests = Group()
        self._stopped = False
        self._meter = LagMeter(time.monotonic_ns(), time.process_time_ns())
        ahead = arrivals(config.plan, worker, workers)
        # The first arrival is made here, so that no start-up work is left for the moment it is due.
        self._arrivals = itertools.chain(list(itertools.islice(ahead, 1)), ahead)
        # A collection of everything that Locust imported takes tens of milliseconds: have it now, and only once.
        gc.collect()
        gc.freeze()

    def run(self, t0_ns: int) -> None:
        """Dispatch everything, then wait until the planned end and for every request, each bounded by its deadline."""
        meter = gevent.spawn(self._report_lag, t0_ns)
        meter.link_exception(self._failed)
        try:
            for arrival in self._arrivals:
                due_ns = t0_ns + round(arrival.at_s * 1e9)
                _sleep_until(due_ns)
                request: gevent.Greenlet[..., object] = gevent.Greenlet(self._perform, arrival, due_ns)
                request.link_exception(self._failed)
                self._requests.start(request)
            _sleep_until(t0_ns + round(duration_of(self._plan) * 1e9))
            self._requests.join()
        finally:
            meter.kill()
            self._write_lag()
            self._client.close()

    def stop(self) -> None:
        """End the requests in flight at once; each gets its record with outcome `dropped`."""
        self._stopped = True
        self._requests.kill(timeout=_STOP_S)

    def _perform(self, arrival: Arrival, due_ns: int) -> None:
        exchange = Exchange(arrival, due_ns)
        if not isinstance(self._writer, EventWriter):
            self._writer.begun += 1
        self._client.perform(exchange)
        if exchange.sent_ns is None and exchange.ending.kind == "stopped":
            return
        trip = Trip(
            request_id=arrival.request_id,
            stream=arrival.stream,
            intended_ns=due_ns,
            sent_ns=exchange.sent_ns,
            end_ns=time.monotonic_ns(),
            reused=exchange.reused,
        )
        record = record_of(trip, exchange.ending, exchange.reception, wall_s=time.time())
        self._writer.write(record)
        self._observe(record, exchange.reception)

    def _failed(self, greenlet: gevent.Greenlet[..., object]) -> None:
        if greenlet.exception is not None and not self._stopped:
            self._stopped = True
            self._broken(greenlet.exception)

    def _sent(self, exchange: Exchange) -> None:
        if exchange.sent_ns is not None:
            self._meter.sent(exchange.intended_ns, exchange.sent_ns)

    def _report_lag(self, t0_ns: int) -> None:
        _sleep_until(t0_ns)
        self._write_lag()
        while True:
            gevent.sleep(1.0)
            self._write_lag()

    def _write_lag(self) -> None:
        lag = self._meter.report(time.monotonic_ns(), time.process_time_ns())
        if lag is not None:
            self._writer.write(lag)


def _sleep_until(due_ns: int) -> None:
    """Sleep to `due_ns`, never less: a timer may fire early. What is overdue lets the others run once."""
    left_ns = due_ns - time.monotonic_ns()
    if left_ns <= 0:
        gevent.sleep(0)
    while left_ns > 0:
        gevent.sleep(left_ns / 1e9)
        left_ns = due_ns - time.monotonic_ns()

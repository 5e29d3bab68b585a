"""
A session on several processes: the master has the run made and writes the journal, the workers send and ship lines.

All of them are on one machine: their times are of one clock. A worker that is lost breaks the load, and what was lost
with it is counted and named in the journal.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import AsyncResult
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.config import LoadConfig
from loadtests.dispatcher import Dispatcher
from loadtests.figures import show
from loadtests.harness import Harness
from loadtests.sender import Sender
from loadtests.session import LEAD_NS, STOP_S, Session
from loadtests.shipping import LocalEvents, Received, ShippedEvents
from loadtests.users import Floor
from seawall.plan import count_of

__all__ = ["Crew", "MasterSession"]

_SHIP_S = 0.2
_WATCH_S = 0.25
_LAST_S = 3.0
_SHARE_S = 30.0


class MasterSession(Session):
    """Deals the load out to the workers that are there when it starts."""

    def __init__(self, environment: Environment, harness: Harness, runner: MasterRunner) -> None:
        super().__init__(environment, harness)
        self._runner = runner
        self._received: dict[str, Received] = {}
        runner.register_message("seawall_lines", self._on_lines)
        runner.register_message("seawall_broken", self._on_broken)

    def begin(self, config: LoadConfig, free: bool) -> None:
        """See Session."""
        self._events = LocalEvents(Path(config.events), "load-master")
        ready = sorted(client.id for client in self._runner.clients.ready)
        if not ready:
            raise OSError("no worker is there; start one with `locust -f loadtests/locustfile.py --worker`")
        total = None if free else count_of(config.plan)
        t0_ns = time.monotonic_ns() + (0 if free else LEAD_NS)
        self._received = {}
        for place, client_id in enumerate(ready):
            share = None if total is None else len(range(place, total, len(ready)))
            self._received[client_id] = Received(Path(config.events), client_id, place + 1, share)
            told = {"config": msgspec.json.encode(config), "free": free, "i": place, "n": len(ready), "t0": t0_ns}
            self._runner.send_message("seawall_load", told, client_id=client_id)
        self.begin_at(t0_ns)
        self._conductor = gevent.spawn(self._watch)
        self._conductor.link_exception(lambda failed: self._broke(failed.exception))

    def is_done(self) -> bool:
        """See Session."""
        return self.is_free or self._is_dispatched

    def finish(self) -> None:
        """See Session. The last lines of those that are there may still be on their way."""
        self._say_lost()
        end_s = time.monotonic() + _LAST_S
        while time.monotonic() < end_s and not all(each.is_complete for each in self._present()):
            gevent.sleep(0.05)
        super().finish()

    def _on_quitting(self, **_: Any) -> None:
        super()._on_quitting()
        # Locust tells only those that are ready again, which a worker that has just stopped is not yet.
        for client_id in self._received:
            self._runner.server.send_to_client(Message("quit", None, client_id))

    def _watch(self) -> None:
        while not all(each.is_complete for each in self._received.values()):
            gevent.sleep(_WATCH_S)
            if self._say_lost():
                return
        if not self.is_free:
            self.done()

    def _present(self) -> list[Received]:
        clients = self._runner.clients
        return [
            received
            for client_id, received in self._received.items()
            if client_id in clients and clients[client_id].state != STATE_MISSING
        ]

    def _say_lost(self) -> bool:
        present = self._present()
        lost = [each for each in self._received.values() if each not in present and not each.is_complete]
        for each in lost:
            each.is_complete = True
            self.note(each.loss())
        if lost:
            self.broke("; ".join(each.loss() for each in lost))
        return bool(lost)

    def _on_lines(self, msg: Any, **_: Any) -> None:
        received = self._received.get(msg.node_id)
        if received is not None:
            try:
                received.take(msg.data)
            except OSError as error:
                self._broke(error)

    def _on_broken(self, msg: Any, **_: Any) -> None:
        self.broke(f"worker {msg.node_id}: {msg.data['why']}")


class Crew:
    """One worker: it sends its share, or what its users ask, and ships what came of it."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._told: AsyncResult[dict[str, Any]] = AsyncResult()
        self._events: ShippedEvents | None = None
        self._sender: Sender | None = None
        self._dispatcher: Dispatcher | None = None
        self._greenlets: list[gevent.Greenlet[..., Any]] = []
        runner.register_message("seawall_load", lambda msg, **_: self._told.set(msg.data))
        environment.stop_timeout = environment.stop_timeout or STOP_S
        environment.events.test_start.add_listener(self._on_test_start)
        environment.events.test_stopping.add_listener(lambda **_: Floor.close())
        environment.events.test_stop.add_listener(self._on_test_stop)
        environment.events.quitting.add_listener(self._on_test_stop)

    def _on_test_start(self, **_: Any) -> None:
        self._spawn(self._begin)

    def _begin(self) -> None:
        told = self._told.wait(_SHARE_S)
        if told is None:
            raise TimeoutError(f"the master told no load within {_SHARE_S:g} s")
        self._told = AsyncResult()
        config = msgspec.json.decode(told["config"], type=LoadConfig)
        self._events = ShippedEvents(lambda data: self._runner.send_message("seawall_lines", data))
        self._spawn(self._ship, self._events)

        def observe(record: Any, reception: Any) -> None:
            show(self._environment, record, reception)

        if told["free"]:
            self._sender = Sender(config, self._events, observe, worker=told["i"], workers=told["n"])
            Floor.open(self._sender)
            return
        Floor.open(None)
        self._dispatcher = Dispatcher(
            config, self._events, worker=told["i"], workers=told["n"], observe=observe, broken=self._broke
        )
        self._dispatcher.run(told["t0"])
        self._events.close()

    def _ship(self, events: ShippedEvents) -> None:
        while True:
            gevent.sleep(_SHIP_S)
            events.flush()

    def _on_test_stop(self, **_: Any) -> None:
        Floor.close()
        if self._dispatcher is not None:
            self._dispatcher.stop()
        for greenlet in self._greenlets:
            if greenlet is not gevent.getcurrent():
                greenlet.kill()
        if self._sender is not None:
            self._sender.close()
        if self._events is not None:
            self._events.close()
        self._greenlets.clear()
        self._events = self._sender = self._dispatcher = None

    def _spawn(self, work: Any, *arguments: Any) -> None:
        greenlet: gevent.Greenlet[..., Any] = gevent.spawn(work, *arguments)
        greenlet.link_exception(lambda failed: self._broke(failed.exception))
        self._greenlets.append(greenlet)

    def _broke(self, error: BaseException | None) -> None:
        self._runner.send_message("seawall_broken", {"why": f"{type(error).__name__}: {error}"})

"""
What this process is in a load: alone, a worker that executes its share, or the master that deals the shares out.

Attached by listeners, not by users: `test_start` fires once on every process however many users there are, and again
only after a stop. An exception in a listener or a greenlet is only logged by Locust, which then runs for ever
(measured), so everything that may fail here ends in `broke`: exit code 3.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests.command import EXIT_BROKEN
from loadtests.config import LoadConfig, LoadStatus, write_json
from loadtests.dispatcher import Dispatcher
from loadtests.figures import show
from loadtests.reception import Reception
from seawall.journal.events import Note, RequestRecord
from seawall.journal.writer import EventWriter
from seawall.plan import count_of, duration_of

__all__ = ["attach"]

_LEAD_NS = 1_000_000_000
"""From the moment the start is fixed to the first arrival."""
_LEAST_LEAD_NS = 200_000_000
_SHARE_WAIT_S = 10.0
_POLL_S = 0.25

_log = logging.getLogger("loadtests")


def attach(environment: Environment, config: LoadConfig) -> None:
    """Make this process execute `config` whenever Locust starts a test."""
    environment.host = config.base_url
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        _Master(environment, config, runner)
    elif isinstance(runner, WorkerRunner):
        _Worker(environment, config, runner)
    else:
        _Alone(environment, config)
    # Left to Python, Ctrl-C would surface in whatever greenlet runs just then, and could look like its failure.
    gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)


class _Role(ABC):
    """What all three share: starting once a test, ending the process in order, and telling what went wrong."""

    def __init__(self, environment: Environment, config: LoadConfig) -> None:
        self.environment = environment
        self.config = config
        self.writer: EventWriter | None = None
        self._starts = 0
        self._is_broken = False
        self._conductor: gevent.Greenlet | None = None
        events = environment.events
        events.test_start.add_listener(self._on_test_start)
        events.test_stop.add_listener(self._on_test_stop)
        events.quitting.add_listener(self._on_quitting)

    @abstractmethod
    def conduct(self) -> None:
        """Do this process's part of one load, to its end."""

    def halt(self) -> None:
        """End what is under way at once."""
        if self._conductor is not None and self._conductor is not gevent.getcurrent():
            self._conductor.kill()

    def end(self) -> None:
        """End the test, and without a web UI the process."""
        runner = self.environment.runner
        if runner is not None:
            # Not from this greenlet: both kill the greenlets they find, and would kill their caller half-way.
            gevent.spawn(runner.quit if self.environment.web_ui is None else runner.stop)

    def broke(self, why: str) -> None:
        """Say that the load was not what was planned: a note in the journal, exit code 3, and the end."""
        if self._is_broken:
            return
        self._is_broken = True
        self.environment.process_exit_code = EXIT_BROKEN
        _log.error("the load broke: %s", why)
        self.note(f"the load broke: {why}", "error")
        self.halt()
        self.end()

    def note(self, text: str, level: Any = "info") -> None:
        """Write a note where a journal is open."""
        if self.writer is not None:
            try:
                self.writer.write(Note(text=text, level=level))
            except OSError as error:
                _log.error("a note could not be written: %s", error)

    def open_journal(self) -> EventWriter:
        """Open an events file of its own for each start: a restart must not add to the former load."""
        if self.writer is not None:
            self.writer.close()
        role = "load" if self._starts == 1 else f"load-{self._starts}"
        self.writer = EventWriter(Path(self.config.events), role)
        return self.writer

    def tell_start(self, t0_ns: int | None = None) -> int:
        """Write the status file, by which the harness learns the start of the load; return it (default: soon)."""
        plan = self.config.plan
        count, duration_s = count_of(plan), duration_of(plan)
        # Fixed after the counting, which takes its time for a long load.
        t0_ns = t0_ns or time.monotonic_ns() + _LEAD_NS
        status = LoadStatus(pid=os.getpid(), t0_ns=t0_ns, arrivals=count, duration_s=duration_s)
        write_json(Path(self.config.status_file), status)
        self.note(
            f"{self.config.label}: {status.arrivals} requests in {status.duration_s:g} s to {self.config.base_url}"
        )
        return t0_ns

    def _on_test_start(self, **_: Any) -> None:
        if self._conductor is None or self._conductor.dead:
            self._starts += 1
            self._is_broken = False
            self._conductor = gevent.spawn(self.conduct)
            self._conductor.link_exception(lambda failed: self.broke(_in_words(failed.exception)))

    def _on_test_stop(self, **_: Any) -> None:
        self.halt()

    def _on_quitting(self, **_: Any) -> None:
        self.halt()
        # Failed requests are findings, not failures of the load; Locust would end with 1.
        self.environment.process_exit_code = self.environment.process_exit_code or 0


class _Alone(_Role):
    """The whole load in this process."""

    _dispatcher: Dispatcher | None = None

    def conduct(self) -> None:
        dispatcher = self.prepare(self.open_journal(), 0, 1)
        dispatcher.run(self.tell_start())
        self.end()

    def prepare(self, writer: EventWriter, worker: int, workers: int) -> Dispatcher:
        """Make everything ready that takes time. Raises ConfigError."""
        self._dispatcher = Dispatcher(
            self.config,
            writer,
            worker=worker,
            workers=workers,
            observe=self._observe,
            broken=lambda error: self.broke(_in_words(error)),
        )
        return self._dispatcher

    def halt(self) -> None:
        super().halt()
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def _observe(self, record: RequestRecord, reception: Reception) -> None:
        show(self.environment, record, reception)


class _Worker(_Alone):
    """One share of the load, dealt by the master."""

    def __init__(self, environment: Environment, config: LoadConfig, runner: WorkerRunner) -> None:
        super().__init__(environment, config)
        self._runner = runner
        self._share: AsyncResult[dict[str, int]] = AsyncResult()
        runner.register_message("arrivals_plan", self._on_share)

    def conduct(self) -> None:
        writer = self.open_journal()
        share = self._share.wait(_SHARE_WAIT_S)
        if share is None:
            raise TimeoutError(f"the master sent no share of the load within {_SHARE_WAIT_S:g} s")
        self._share = AsyncResult()
        dispatcher = self.prepare(writer, share["i"], share["n"])
        late_ns = time.monotonic_ns() + _LEAST_LEAD_NS - share["t0"]
        if late_ns > 0:
            raise TimeoutError(f"the share of worker {share['i']} was ready {late_ns / 1e6:.0f} ms too late to start")
        dispatcher.run(share["t0"])
        self._runner.send_message("arrivals_done", {})

    def end(self) -> None:
        """Leave the end to the master, which ends its workers."""

    def broke(self, why: str) -> None:
        super().broke(why)
        self._runner.send_message("arrivals_broken", {"why": why})

    def _on_share(self, msg: Any, **_: Any) -> None:
        self._share.set(msg.data)


class _Master(_Role):
    """Deals the shares and waits for all of them: a worker that is lost has taken its share with it."""

    def __init__(self, environment: Environment, config: LoadConfig, runner: MasterRunner) -> None:
        super().__init__(environment, config)
        self._runner = runner
        self._open: set[str] = set()
        runner.register_message("arrivals_done", self._on_done)
        runner.register_message("arrivals_broken", self._on_broken)

    def _on_test_start(self, **_: Any) -> None:
        # Sent from the listener itself, so that every share arrives before Locust's own message to begin.
        ready = sorted(client.id for client in self._runner.clients.ready)
        self._t0_ns = time.monotonic_ns() + _LEAD_NS
        for place, client_id in enumerate(ready):
            share = {"i": place, "n": len(ready), "t0": self._t0_ns}
            self._runner.send_message("arrivals_plan", share, client_id=client_id)
        self._open = set(ready)
        super()._on_test_start()

    def conduct(self) -> None:
        self.open_journal()
        self.tell_start(self._t0_ns)
        while self._open:
            gevent.sleep(_POLL_S)
            if self._has_lost():
                return
        self.end()

    def _on_test_stop(self, **_: Any) -> None:
        # Locust itself stops the test when the last worker is lost, before the conductor has seen it.
        self._has_lost()
        super()._on_test_stop()

    def _has_lost(self) -> bool:
        clients = self._runner.clients
        lost = sorted(key for key in self._open if key not in clients or clients[key].state == STATE_MISSING)
        if lost:
            self._open.clear()
            self.broke(f"lost {len(lost)} of the workers, and their share of the load: {', '.join(lost)}")
        return bool(lost)

    def _on_done(self, msg: Any, **_: Any) -> None:
        self._open.discard(msg.node_id)

    def _on_broken(self, msg: Any, **_: Any) -> None:
        self._open.clear()
        self.broke(f"worker {msg.node_id}: {msg.data['why']}")


def _in_words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"

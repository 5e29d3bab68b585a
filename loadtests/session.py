"""
A session of `locust -f loadtests/locustfile.py`: each start is a run with a journal and a report of its own.

    start ─▶ harness: parts up ─▶ load: the users', or a scenario's plan ─▶ stop, or the plan's end ─▶ undo, report

Attached by listeners, like `roles`. On a master and its workers the workers only send: see `crew`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment

from loadtests.command import EXIT_BROKEN
from loadtests.config import ConfigError, LoadConfig
from loadtests.dispatcher import Dispatcher
from loadtests.figures import show
from loadtests.harness import Harness, HarnessError
from loadtests.reception import Reception
from loadtests.sender import Sender
from loadtests.shipping import LocalEvents
from loadtests.users import Floor
from seawall.journal.events import Note, RequestRecord
from seawall.plan import LoadPlan

__all__ = ["BY_HAND", "Session", "load_config"]

BY_HAND = "by-hand"
"""The choice in the start form that means: the load is the users', and faults come by hand."""
LEAD_NS = 1_000_000_000
STOP_S = 5.0
"""How long a user that is asked to stop may take to finish, unless --stop-timeout says otherwise."""
_READY_S = 120.0
_REPORT_S = 90.0
_POLL_S = 0.1
_log = logging.getLogger("seawall")


class Session:
    """Runs one after the other in this process, alone. `harness` is closed with it."""

    def __init__(self, environment: Environment, harness: Harness) -> None:
        self.environment = environment
        self.harness = harness
        self.is_free = True
        self._events: LocalEvents | None = None
        self._sender: Sender | None = None
        self._dispatcher: Dispatcher | None = None
        self._conductor: gevent.Greenlet[..., Any] | None = None
        self._is_open = False
        self._is_loading = False
        self._why: str | None = None
        events = environment.events
        events.test_start.add_listener(self._on_test_start)
        # A user that Locust kills while it thinks may wake up once more: it is to find nobody to ask then.
        events.test_stopping.add_listener(lambda **_: Floor.close())
        events.test_stop.add_listener(self._on_test_stop)
        events.quitting.add_listener(self._on_quitting)
        environment.host = "the gateway that is started with the test"
        # Who is asked to stop finishes its question first: an answer under way is no finding.
        environment.stop_timeout = environment.stop_timeout or STOP_S
        # Left to Python, Ctrl-C would surface in whatever greenlet runs just then, and could look like its failure.
        gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)

    def begin(self, config: LoadConfig, free: bool) -> None:
        """Start the load that is told."""
        self._events = LocalEvents(Path(config.events))
        if free:
            self._sender = Sender(config, self._events, self.observe, worker=0, workers=1)
            self.begin_at(time.monotonic_ns())
            Floor.open(self._sender)
            return
        Floor.open(None)
        self._dispatcher = Dispatcher(config, self._events, observe=self.observe, broken=self._broke)
        self._conductor = gevent.spawn(self._conduct, self._dispatcher)
        self._conductor.link_exception(lambda failed: self._broke(failed.exception))

    def begin_at(self, t0_ns: int) -> int:
        """Tell the harness when the load starts; return it."""
        self.harness.post("/v1/load/begin", {"t0_ns": t0_ns})
        return t0_ns

    def finish(self) -> None:
        """Stop sending and close the journal's part of the load. Idempotent."""
        Floor.close()
        if self._dispatcher is not None:
            self._dispatcher.stop()
        if self._conductor is not None and self._conductor is not gevent.getcurrent():
            self._conductor.kill()
        if self._sender is not None:
            self._sender.close()
        if self._events is not None:
            self._events.close()
        self._sender = self._dispatcher = self._conductor = self._events = None

    def is_done(self) -> bool:
        """Whether the planned load came to its end; that of users does whenever they are stopped."""
        return self.is_free or self._dispatcher is None or self._is_dispatched

    def done(self) -> None:
        """The plan is at its end: stop the test, and without a web UI the process."""
        self._is_dispatched = True
        # Not from this greenlet: it would be killed half-way by what it calls.
        gevent.spawn(self._stop_test)

    def broke(self, why: str) -> None:
        """Say that the load was not what was planned; the run ends with the exit code that says so."""
        if self._why is None:
            self._why = why
            _log.error("the load broke: %s", why)
            self.note(f"the load broke: {why}")
            self.done()

    def note(self, text: str) -> None:
        """Write an error into the journal, where it is open."""
        if self._events is not None:
            try:
                self._events.write(Note(text=text, level="error"))
            except OSError as error:
                _log.error("a note could not be written: %s", error)

    def observe(self, record: RequestRecord, reception: Reception) -> None:
        """Show a request in Locust's own statistics."""
        show(self.environment, record, reception)

    _is_dispatched = False

    def _broke(self, error: BaseException | None) -> None:
        self.broke(f"{type(error).__name__}: {error}")

    def _conduct(self, dispatcher: Dispatcher) -> None:
        dispatcher.run(self.begin_at(time.monotonic_ns() + LEAD_NS))
        self.done()

    def _on_test_start(self, **_: Any) -> None:
        try:
            self._start()
        except (HarnessError, ConfigError, OSError) as error:
            _log.error("the run could not start: %s", error)
            self.environment.process_exit_code = EXIT_BROKEN
            gevent.spawn(self._give_up)
        except BaseException:  # the web UI's stop button kills the greenlet of a start
            self._abort()
            raise

    def _start(self) -> None:
        self._is_dispatched, self._why = False, None
        self._wait_for("ended", _REPORT_S) if self._is_open else None
        options = self.environment.parsed_options
        scenario = getattr(options, "scenario", None) or BY_HAND
        _log.info("starting gateway, emulators and Toxiproxy for %s", scenario)
        self.harness.post("/v1/runs", {"scenario": scenario})
        self._is_open = True
        state = self._wait_for("ready", _READY_S)
        if state["phase"] != "ready":
            raise HarnessError(state.get("detail") or f"the run is {state['phase']}")
        told = self.harness.get("/v1/load")
        self.is_free = bool(told.pop("is_free"))
        self.environment.host = told["base_url"]
        self._is_loading = True
        self.begin(load_config(told), self.is_free)

    def _give_up(self) -> None:
        self._abort()
        self._stop_test()

    def _stop_test(self) -> None:
        runner = self.environment.runner
        if runner is None:
            return
        # First of all stopped, workers too: who only quits leaves questions under way behind.
        runner.stop()
        if self.environment.web_ui is None:
            runner.quit()

    def _on_test_stop(self, **_: Any) -> None:
        if not self._is_loading:
            return
        self._is_loading = False
        done, why = self.is_done(), self._why
        self.finish()
        try:
            if done or why is not None:
                self.harness.post("/v1/load/end", {"code": 0 if why is None else EXIT_BROKEN})
            else:
                self._abort()
        except HarnessError as error:
            _log.error("the end of the load could not be told: %s", error)

    def _abort(self) -> None:
        try:
            self.harness.post("/v1/abort", {})
        except HarnessError as error:
            _log.error("the run could not be aborted: %s", error)

    def _on_quitting(self, **_: Any) -> None:
        code = 0
        if self._is_open:
            try:
                if self._is_loading and self.environment.runner is not None:
                    self.environment.runner.stop()
                self._on_test_stop()
                state = self._wait_for("ended", _REPORT_S)
                code = state["exit_code"] or 0
                _log.info("%s: %s", state["verdict"] or "no verdict", state["why"] or state["detail"])
                _log.info("report: %s", Path(state["folder"]) / "index.html")
            except (HarnessError, KeyError) as error:
                _log.error("the run did not end: %s", error)
                code = EXIT_BROKEN
        self.harness.close()
        # Failed requests are findings, not failures of the load; Locust would end with 1.
        self.environment.process_exit_code = self.environment.process_exit_code or code

    def _wait_for(self, phase: str, limit_s: float) -> dict[str, Any]:
        """Wait until the run is at `phase`, or over; return its state. Raises HarnessError when it takes too long."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            try:
                state: dict[str, Any] = self.harness.get("/v1/state")
            except HarnessError as error:
                if error.status != 409:  # it has not begun yet
                    raise
            else:
                if state["phase"] in (phase, "ended"):
                    return state
            gevent.sleep(_POLL_S)
        raise HarnessError(f"the run was not {phase} within {limit_s:g} s")


def load_config(told: dict[str, Any]) -> LoadConfig:
    """Return the load that the harness told."""
    plan = msgspec.convert(told["plan"], LoadPlan)
    events = str(told["events"])
    return LoadConfig(
        plan=plan,
        base_url=told["base_url"],
        events=events,
        label=told["label"],
        status_file=str(Path(events) / "load-status.json"),
    )

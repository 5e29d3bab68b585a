"""
The entry for `locust -f`, with the web UI or without, alone or distributed.

With SEAWALL_LOAD it executes the load that this names, as the harness's own load generator. Without, it starts the
harness as its child: gateway, emulators and Toxiproxy for each run, load from users or from a scenario that is chosen
in the start form (`--scenario`), and a page at /chaos to break things by hand.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.chaos import attach_pages
from loadtests.command import EXIT_BROKEN
from loadtests.config import LOAD_VARIABLE, ConfigError, read_config
from loadtests.crew import Crew, MasterSession
from loadtests.harness import Harness, HarnessError
from loadtests.roles import attach
from loadtests.scenarios import on_the_wire
from loadtests.session import BY_HAND, Session

__all__ = ["add_arguments", "start_seawall"]

_PLANNED = os.environ.get(LOAD_VARIABLE)

if _PLANNED is None:
    from loadtests.users import JsonUser, MixedUser, StreamUser  # noqa: F401 - Locust finds them here
else:

    class Idle(User):
        """The one user that Locust demands. It does nothing: a user that sent requests would close the loop."""

        @task
        def idle(self) -> None:
            """Sleep until stopped."""
            gevent.sleep(3600)


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    """Let a scenario be chosen, on the command line and in the start form."""
    if _PLANNED is None:
        parser.add_argument(
            "--scenario",
            choices=[BY_HAND, *on_the_wire()],
            default=BY_HAND,
            env_var="SEAWALL_SCENARIO",
            help="Whose load and faults: a scenario's (users then do nothing), or by-hand: the users' load, no faults",
        )


@events.init.add_listener
def start_seawall(environment: Environment, **_: Any) -> None:
    """Attach a load to Locust's events; end the process when there is none or it is unusable."""
    try:
        if _PLANNED is not None:
            attach(environment, read_config(Path(_PLANNED)))
        else:
            _start_session(environment)
    except (ConfigError, HarnessError) as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - what is wrong, not where
        sys.exit(EXIT_BROKEN)


def _start_session(environment: Environment) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        Crew(environment, runner)
        return
    harness = Harness(os.environ.get("SEAWALL_OUT"))
    if isinstance(runner, MasterRunner):
        MasterSession(environment, harness, runner)
    else:
        Session(environment, harness)
    if environment.web_ui is not None:
        attach_pages(environment, harness)

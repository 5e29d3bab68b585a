"""
The entry for `locust -f`: executes the load that SEAWALL_LOAD names, with the web UI or without.

The load comes from the plan, not from users; Locust's own user count changes nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.env import Environment

from loadtests.command import EXIT_BROKEN
from loadtests.config import LOAD_VARIABLE, ConfigError, read_config
from loadtests.roles import attach

__all__ = ["Idle"]


class Idle(User):
    """The one user that Locust demands. It does nothing: a user that sent requests would close the loop."""

    @task
    def idle(self) -> None:
        """Sleep until stopped."""
        gevent.sleep(3600)


@events.init.add_listener
def start_seawall(environment: Environment, **_: Any) -> None:
    """Attach the configured load to Locust's events; end the process when there is none or it is unusable."""
    path = os.environ.get(LOAD_VARIABLE)
    problem = f"{LOAD_VARIABLE} must name the load configuration, a JSON file" if not path else None
    if path:
        try:
            attach(environment, read_config(Path(path)))
        except ConfigError as error:
            problem = str(error)
    if problem:
        logging.getLogger(__name__).error(problem)
        sys.exit(EXIT_BROKEN)

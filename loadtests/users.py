"""
Locust's users: each asks, waits for the whole answer, thinks a moment, and asks again.

Where a scenario was chosen in the start form, its plan sends the load, and they do nothing: a user that sent requests
would close the loop.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import gevent
from gevent.event import Event
from locust import User, between, task

from loadtests.sender import Sender

__all__ = ["Floor", "JsonUser", "MixedUser", "StreamUser"]


class Floor:
    """Where the users of this process find whom to ask. `sender` is None while a plan sends the load."""

    ready = Event()
    sender: Sender | None = None

    @classmethod
    def open(cls, sender: Sender | None) -> None:
        """Let them in."""
        cls.sender = sender
        cls.ready.set()

    @classmethod
    def close(cls) -> None:
        """Let none in until the next load."""
        cls.ready.clear()
        cls.sender = None


class _Asker(User):
    abstract = True
    wait_time = between(0.1, 0.5)

    @task
    def ask(self) -> None:
        """Ask once, when there is somebody to ask."""
        if not Floor.ready.wait(1.0):
            return
        sender = Floor.sender
        if sender is None:
            gevent.sleep(1.0)
        else:
            self.put(sender)

    def put(self, sender: Sender) -> None:
        """Put one question."""
        raise NotImplementedError


class JsonUser(_Asker):
    """Asks short questions and takes the answer in one piece."""

    def put(self, sender: Sender) -> None:
        """Ask for JSON."""
        sender.ask(stream=False, prompt="short")


class StreamUser(_Asker):
    """Asks short questions and takes the answer token by token."""

    def put(self, sender: Sender) -> None:
        """Ask for server-sent events."""
        sender.ask(stream=True, prompt="short")


class MixedUser(_Asker):
    """Asks short and long questions, every other one as a stream."""

    weight = 1
    _turns: ClassVar[itertools.cycle[int]] = itertools.cycle(range(4))

    def put(self, sender: Sender) -> None:
        """Ask for one or the other."""
        turn = next(self._turns)
        sender.ask(stream=turn % 2 == 0, prompt="short" if turn < 2 else "long")

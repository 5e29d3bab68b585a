"""
The shape that every fault has: a frozen options struct, `prepare`, `inject`, `undo`.

`prepare` returns an `Undo`: plain data that says how to take the fault back. The harness writes it to the run's undo
file and fsyncs it *before* it calls `inject`, so that even a run killed half-way through an injection can be undone by
another process. `undo` is found by the record's `kind`, is idempotent, valid when `inject` never happened, and bounded
by a deadline.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

__all__ = ["Fault", "FaultError", "Undo"]


class FaultError(Exception):
    """A fault could not be injected, proven or undone; the message names the part, the value and the remedy."""


class Undo(msgspec.Struct, frozen=True, kw_only=True):
    """How to take one fault back."""

    kind: str
    arguments: dict[str, Any]


class Fault(Protocol):
    """One injectable fault, bound to the address of its target. Calls block; run them in a thread."""

    @property
    def id(self) -> str:
        """The fault's name in the scenario."""
        ...

    @property
    def target(self) -> str:
        """The provider or part that it harms."""
        ...

    def describe(self) -> str:
        """Return the fault in a few words, such as `toxic timeout (timeout 0 ms, downstream)`."""
        ...

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing."""
        ...

    def inject(self) -> None:
        """Put it in force. Raises FaultError when the part refuses or does not answer within its deadline."""
        ...

"""
How each kind of undo record is carried out, found by its `kind`.

A kind is the name of the module in `faults/` that calls `register` for it: a new fault is one new file, and a record
that a killed run left behind finds its code without anything having been imported before.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import NamedTuple, Protocol

from faults.base import FaultError, Undo

__all__ = ["DEADLINE_S", "register", "undo", "verify"]

DEADLINE_S = 3.0
"""How long each call to the faulty part may take, in seconds, where the caller sets nothing else."""

_KIND = re.compile(r"^[a-z][a-z0-9_]{0,31}$")


class Undoer(Protocol):
    """
    Takes the fault of a record back. Idempotent, valid when the fault was never injected. Raises FaultError.

    Returns what it had to do besides, in a few words, or None.
    """

    def __call__(self, record: Undo, *, deadline_s: float) -> str | None: ...


class Verifier(Protocol):
    """Reads back whether nothing of the fault is left. Raises FaultError when that cannot be told."""

    def __call__(self, record: Undo, *, deadline_s: float) -> bool: ...


class _Handler(NamedTuple):
    undo: Undoer
    verify: Verifier


_handlers: dict[str, _Handler] = {}


def register(kind: str, *, undo: Undoer, verify: Verifier) -> None:
    """Say how records of `kind` are undone and verified; called once by the module `faults.<kind>` itself."""
    if not _KIND.match(kind):
        raise FaultError(f"{kind!r} is no kind of undo; lower-case letters, digits and underscores")
    _handlers[kind] = _Handler(undo, verify)


def undo(record: Undo, *, deadline_s: float = DEADLINE_S) -> str | None:
    """
    Take one fault back. Returns what had to be done besides, in a few words, where it was not the usual.

    Raises FaultError when the part refuses or does not answer in time, or for a bad record.
    """
    handler = _find(record.kind)
    try:
        return handler.undo(record, deadline_s=deadline_s)
    except (KeyError, TypeError) as error:
        raise FaultError(f"undo record of kind {record.kind} is incomplete: {error!r}") from error


def verify(record: Undo, *, deadline_s: float = DEADLINE_S) -> bool:
    """
    Return whether nothing of the fault is left. A part that refuses connections is gone, and its faults with it.

    Raises FaultError when the part cannot be asked.
    """
    handler = _find(record.kind)
    try:
        return handler.verify(record, deadline_s=deadline_s)
    except (KeyError, TypeError) as error:
        raise FaultError(f"undo record of kind {record.kind} is incomplete: {error!r}") from error


def _find(kind: str) -> _Handler:
    if kind not in _handlers and _KIND.match(kind) and importlib.util.find_spec(f"faults.{kind}") is not None:
        importlib.import_module(f"faults.{kind}")
    if kind not in _handlers:
        raise FaultError(
            f"nobody knows how to undo a fault of kind {kind!r}; was the record written by a newer Seawall?"
        )
    return _handlers[kind]

"""
Faults that are injected, proven and taken back.

The kinds are `faults.toxic`, `faults.down`, `faults.respond`, `faults.process` and `faults.budget`, one file each.
`faults.undo` keeps the undo file, `faults.registry` carries out its records, `faults.probe` gathers the evidence, and
`faults.overlap` says what can be told of a fault among others. Nothing heavy is imported here.
"""

from __future__ import annotations

from faults.base import Fault, FaultError, Undo
from faults.undo import UndoFile

__all__ = ["Fault", "FaultError", "Undo", "UndoFile"]

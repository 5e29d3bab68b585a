"""What a comparison is made of: one cell a system and scenario, what each came to, and what each system costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

__all__ = [
    "STATES",
    "Cell",
    "Comparison",
    "Cost",
    "Outcome",
    "State",
    "SystemInfo",
    "cell_of",
    "cells_of",
    "worse_than",
]

State = Literal[
    "pass", "partial", "safe", "invalid", "fail", "crashed", "did not start", "not configured", "unsupported"
]
STATES: tuple[State, ...] = (
    *("fail", "crashed", "did not start", "not configured", "invalid", "unsupported", "safe", "partial", "pass"),
)  # fmt: skip
"""Worst first. `invalid`, `not configured` and `unsupported` say nothing against a system."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one scenario with one system."""

    system: str
    scenario: str
    sha256: str
    """Of the scenario's text."""
    seed: int
    repeat: int
    """From 1."""
    state: State
    why: str
    figures: dict[str, float | None] = {}
    report: str = ""
    """Where its own report is, relative to the comparison's folder; empty when there is none."""
    left_behind: int = 0
    """Processes that outlived it and were ended by the harness."""
    start_s: float | None = None
    """From the start of its process until it was ready."""
    version: str = ""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one system costs in health, as one measurement found it. None: not measurable."""

    system: str
    repeat: int
    requests_a_second: float | None = None
    """With eight clients that wait for their answers."""
    latency_ms_p50: float | None = None
    """Of JSON answers, with one client, as the next three."""
    latency_ms_p99: float | None = None
    first_token_ms_p50: float | None = None
    first_token_ms_p99: float | None = None
    cpu_ms_a_request: float | None = None
    """Of all its processes, over the eight clients' load."""
    peak_mib: float | None = None
    start_s: float | None = None
    problem: str = ""
    """Why there are no figures."""


class SystemInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One system as it was run."""

    label: str
    version: str
    settings: dict[str, str]
    files: dict[str, str]
    """Its configuration in full, by file name, or the header that carries it; addresses are those of an example."""
    problem: str = ""
    """Why it could not be compared, when it could not."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison as it is kept in `compare.json`."""

    v: int = 1
    began: str
    """UTC, to the second."""
    command: str
    host: dict[str, str]
    systems: tuple[SystemInfo, ...]
    scenarios: dict[str, str]
    """Title by name, in order."""
    repeats: int
    outcomes: tuple[Outcome, ...]
    costs: tuple[Cost, ...]
    is_whole: bool = True
    """Whether every cell was run."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """All repeats of one scenario with one system."""

    system: str
    scenario: str
    state: State
    """The worst of them; `invalid` ones count only when there is no other."""
    figure: str
    words: str
    reports: tuple[str, ...]


def cells_of(comparison: Comparison) -> dict[tuple[str, str], Cell]:
    """Return the cells by scenario and system."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in comparison.outcomes:
        found.setdefault((outcome.scenario, outcome.system), []).append(outcome)
    return {place: cell_of(outcomes) for place, outcomes in found.items()}


def cell_of(outcomes: Sequence[Outcome]) -> Cell:
    """Return what the repeats of one scenario with one system come to."""
    told = [outcome for outcome in outcomes if outcome.state != "invalid"] or list(outcomes)
    worst = min(told, key=lambda outcome: STATES.index(outcome.state))
    return Cell(
        system=worst.system,
        scenario=worst.scenario,
        state=worst.state,
        figure=_share(told),
        words=_words(worst, told),
        reports=tuple(outcome.report for outcome in outcomes if outcome.report),
    )


def worse_than(old: Comparison, new: Comparison) -> list[str]:
    """Return a sentence for each cell that is worse now than it was, or is no longer there."""
    before, after = cells_of(old), cells_of(new)
    systems = {info.label for info in new.systems}
    found: list[str] = []
    for (scenario, system), cell in before.items():
        now = after.get((scenario, system))
        if system not in systems:
            continue
        if now is None:
            found.append(f"{system}, {scenario}: was {cell.state}, and is no longer run")
        elif STATES.index(now.state) < STATES.index(cell.state):
            found.append(f"{system}, {scenario}: was {cell.state} ({cell.figure}), is {now.state} ({now.figure})")
    return found


def _share(outcomes: Sequence[Outcome]) -> str:
    """Return the share of whole answers, with its spread where repeats differ."""
    shares = [share for o in outcomes if (share := o.figures.get("served_rate")) is not None]
    if not shares:
        return "n/a"
    low, high = min(shares) * 100, max(shares) * 100
    return f"{low:.0f} %" if high - low < 0.5 else f"{low:.0f} to {high:.0f} %"


def _words(worst: Outcome, outcomes: Sequence[Outcome]) -> str:
    if worst.state not in ("pass", "partial", "safe", "fail"):
        return worst.why
    parts: list[str] = []
    for kind, word in _BAD_ENDS.items():
        count = round(_most(outcomes, f"requests_{kind}") or 0)
        if count:
            parts.append(f"{count} {word}")
    slowest = _most(outcomes, "latency_ms_max")
    if slowest is not None:
        parts.append(f"slowest answer {slowest / 1000:.1f} s")
    gave_up = _most(outcomes, "give_up_ms_max")
    if gave_up is not None:
        parts.append(f"gave up after {gave_up / 1000:.1f} s at most")
    dead = [key for key in worst.figures if key.startswith("calls_to_dead:")]
    if dead:
        counts = [_most(outcomes, key) for key in dead]
        known = [count for count in counts if count is not None]
        parts.append(f"{sum(known):.0f} calls to who was down" if known else "calls to who was down n/a")
    return ", ".join(parts)


_BAD_ENDS = {
    "refused": "refused",
    "error": "errors",
    "disguised": "with status 200 and neither a whole answer nor a proper error",
    "cut": "cut",
    "hung": "hung",
}


def _most(outcomes: Sequence[Outcome], figure: str) -> float | None:
    return max((value for o in outcomes if (value := o.figures.get(figure)) is not None), default=None)

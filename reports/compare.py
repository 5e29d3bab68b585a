"""
Two runs, or two suites, side by side: what changed, what got worse, and what is more than the budget allows. Pure.

Runs are paired by scenario, arena and seed; where only one run of a scenario and arena is on each side, whatever their
seeds. A worse verdict, a check that no longer holds and a run that is no longer there are regressions without a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from reports.budget import Allowance
from reports.figures import figure_text
from reports.svg import number
from seawall.verdicts.model import Check, RunVerdict, Verdict

__all__ = ["Change", "CheckChange", "Comparison", "Pair", "Side", "compare", "comparison_of"]

_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
_SHOWN = (
    "success_rate",
    "served_rate",
    "refusals",
    "latency_ms_p50",
    "latency_ms_p95",
    "latency_ms_p99",
    "first_token_ms_p50",
    "first_token_ms_p99",
    "amplification",
    "spend_usd",
)
_OF_FAULTS = ("time_to_detect_s", "time_to_fail_over_s", "time_to_recover_s", "calls_before_opening")
_MORE_IS_BETTER = ("success_rate", "served_rate")
_LESS_IS_BETTER = ("latency_", "first_token_", "refusal", "amplification", "spend_usd", "time_to_", "calls_before_")

Direction = Literal["better", "worse", "same", "unknown"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as much of it as a comparison needs."""

    run: str
    scenario: str
    arena: str
    seed: int
    verdict: RunVerdict
    link: str = ""
    """Where its own report is, relative to the page; may be empty."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure before and after."""

    figure: str
    before: str
    after: str
    change: str
    direction: Direction
    allowed: str
    """What the budget says of it; may be empty."""
    broken: bool


class CheckChange(msgspec.Struct, frozen=True, kw_only=True):
    """One check whose verdict is not what it was."""

    name: str
    before: str
    """Its verdict, or `not judged`."""
    after: str
    reason: str
    worse: bool


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario in one arena on both sides; a side may be missing."""

    scenario: str
    arena: str
    before: Side | None
    after: Side | None
    changes: tuple[Change, ...]
    checks: tuple[CheckChange, ...]
    regressions: tuple[str, ...]
    """In words, the worst first; empty when nothing got worse than it may."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that changed."""

    before: str
    after: str
    pairs: tuple[Pair, ...]

    @property
    def regressions(self) -> int:
        """How many things are worse than they may be."""
        return sum(len(pair.regressions) for pair in self.pairs)


def comparison_of(
    names: tuple[str, str], before: Sequence[Side], after: Sequence[Side], budget: Sequence[Allowance] = ()
) -> Comparison:
    """Return the comparison of the runs `before` with those `after`; `names` are what the two are called."""
    pairs = [compare(*sides, budget) for sides in _paired(before, after)]
    pairs.sort(key=lambda pair: (-len(pair.regressions), pair.scenario, pair.arena))
    return Comparison(before=names[0], after=names[1], pairs=tuple(pairs))


def compare(before: Side | None, after: Side | None, budget: Sequence[Allowance] = ()) -> Pair:
    """Return what changed between two runs, of which one may be missing."""
    known = after or before
    if known is None:
        raise ValueError("a comparison needs at least one run")
    changes: tuple[Change, ...] = ()
    checks: tuple[CheckChange, ...] = ()
    regressions: list[str] = []
    if after is None:
        regressions.append("It is no longer run.")
    elif before is not None:
        old, new = before.verdict, after.verdict
        if _RANK[new.verdict] < _RANK[old.verdict]:
            regressions.append(f"The verdict was {old.verdict} and is {new.verdict}: {new.why}")
        if old.undone and new.undone is False:
            regressions.append("Every fault was verified undone, and now not every one is.")
        checks = _checks(old.checks, new.checks)
        regressions += [f"{each.name}: was {each.before}, is {each.after}." for each in checks if each.worse]
        changes = _changes(old, new, budget)
        regressions += [
            f"{each.figure} went from {each.before} to {each.after} ({each.change}); allowed is {each.allowed}."
            for each in changes
            if each.broken
        ]
    return Pair(
        scenario=known.scenario,
        arena=known.arena,
        before=before,
        after=after,
        changes=changes,
        checks=checks,
        regressions=tuple(regressions),
    )


def _paired(before: Sequence[Side], after: Sequence[Side]) -> list[tuple[Side | None, Side | None]]:
    pairs: list[tuple[Side | None, Side | None]] = []
    left = list(after)
    alone = [(s.scenario, s.arena) for s in before], [(s.scenario, s.arena) for s in after]
    for old in before:
        place = (old.scenario, old.arena)
        is_only = alone[0].count(place) == alone[1].count(place) == 1
        new = next((s for s in left if (s.scenario, s.arena) == place and (is_only or s.seed == old.seed)), None)
        if new is not None:
            left.remove(new)
        pairs.append((old, new))
    if len(before) == len(after) == 1 and left:
        return [(before[0], after[0])]  # two runs that were named: whatever they are of
    return [*pairs, *((None, new) for new in left)]


def _checks(before: Sequence[Check], after: Sequence[Check]) -> tuple[CheckChange, ...]:
    old, new = _by_name(before), _by_name(after)
    changes: list[CheckChange] = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was is not None and now is not None and was.verdict is now.verdict:
            continue
        if was is None and now is not None and now.verdict is Verdict.PASS:
            continue
        is_worse = now is not None and was is not None and _RANK[now.verdict] < _RANK[was.verdict]
        told = now or was
        changes.append(
            CheckChange(
                name=name.partition(": ")[2],
                before=str(was.verdict) if was else "not judged",
                after=str(now.verdict) if now else "not judged",
                reason=told.reason if told else "",
                worse=is_worse,
            )
        )
    return tuple(changes)


def _by_name(checks: Sequence[Check]) -> dict[str, Check]:
    """Return the checks by group and name; of several of one name each has its number."""
    found: dict[str, Check] = {}
    for check in checks:
        name, n = f"{check.group}: {check.name}", 2
        while name in found:
            name, n = f"{check.group}: {check.name} ({n})", n + 1
        found[name] = check
    return found


def _changes(old: RunVerdict, new: RunVerdict, budget: Sequence[Allowance]) -> tuple[Change, ...]:
    names = [name for name in _SHOWN if name in old.figures or name in new.figures]
    others = sorted({*old.figures, *new.figures}.difference(names))
    names += [name for name in others if name.partition(":")[0] in _OF_FAULTS]
    names += [name for name in others if name not in names and any(each.covers(name) for each in budget)]
    return tuple(
        _change(name, old.figures.get(name), new.figures.get(name), [each for each in budget if each.covers(name)])
        for name in names
        if not (old.figures.get(name) is None and new.figures.get(name) is None)
    )


def _change(name: str, before: float | None, after: float | None, budget: Sequence[Allowance]) -> Change:
    allowed = ", ".join(each.text for each in budget)
    if before is None or after is None:
        # What can no longer be measured is no improvement.
        return Change(
            figure=name,
            before=figure_text(name, before),
            after=figure_text(name, after),
            change="–",
            direction="unknown",
            allowed=allowed,
            broken=bool(budget) and after is None,
        )
    return Change(
        figure=name,
        before=figure_text(name, before),
        after=figure_text(name, after),
        change=_difference(name, before, after),
        direction=_direction(name, before, after),
        allowed=allowed,
        broken=any(each.broken(before, after) for each in budget),
    )


def _difference(name: str, before: float, after: float) -> str:
    by = after - before
    if abs(by) <= 1e-9 * max(abs(before), abs(after)):
        return "no change"
    sign = "+" if by > 0 else "−"
    kind = name.partition(":")[0]
    if kind.endswith(("_rate", "_share")):
        return f"{sign}{number(abs(by) * 100, 2)} points"
    text = f"{sign}{number(abs(by), 3)} s" if kind.endswith("_s") else f"{sign}{figure_text(name, abs(by))}"
    return text if not before else f"{text} ({sign}{number(abs(by / before) * 100)} %)"


def _direction(name: str, before: float, after: float) -> Direction:
    if abs(after - before) <= 1e-9 * max(abs(before), abs(after)):
        return "same"
    if name.startswith(_MORE_IS_BETTER):
        return "better" if after > before else "worse"
    if name.startswith(_LESS_IS_BETTER):
        return "better" if after < before else "worse"
    return "unknown"

"""
Who was to answer and who did: a matrix of the first choice of each request and its outcome. Pure.

The first choice is whom the plan would have asked first, had nothing been wrong: the provider of the first attempt, or
one before it that was left out. Both are the router's own reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from seawall.journal.view import Journal
from seawall.verdicts.case import served_by

__all__ = ["Cell", "FailoverMatrix", "failover_of"]

_AT_ONCE = "at once"
_FAILED = "after a failed attempt"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one first choice that came to one outcome."""

    requests: int
    stayed: bool
    """Whether the first choice itself answered."""
    ways: tuple[tuple[str, int], ...]
    """How they left the first choice, the most frequent first: `at once`, a failed attempt, or why it was left out."""


class FailoverMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """One row a first choice, one column an outcome: a provider that answered, else `refused` or `failed`."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    """By row and column; where there was nothing there is no cell."""


def failover_of(journal: Journal, names: Sequence[str]) -> FailoverMatrix | None:
    """
    Return the matrix of a run; None when the system does not report attempts, or there was no request.

    `names` are rows and columns in their order; what is not among them is left out.
    """
    if not (journal.observes("attempt") or journal.attempts) or not journal.requests:
        return None
    left = _first_choices(journal, {name: rank for rank, name in enumerate(names)})
    ways: dict[tuple[str, str], Counter[str]] = {}
    for request in journal.requests:
        outcome = {"refused": "refused"}.get(request.outcome, "failed")
        if request.outcome == "whole":
            outcome = served_by(request) or "unknown"
        first, way = left.get(request.request_id, (outcome, _AT_ONCE))
        if first in names:
            ways.setdefault((first, outcome), Counter())[way] += 1
    rows = tuple(name for name in names if any(first == name for first, _ in ways))
    columns = tuple(name for name in names if any(outcome == name for _, outcome in ways))
    cells = {
        place: Cell(
            requests=found.total(),
            stayed=place[0] == place[1],
            ways=tuple(sorted(found.items(), key=lambda item: (-item[1], item[0]))),
        )
        for place, found in ways.items()
    }
    providers = tuple(name for name in rows if name not in {"unknown", "refused", "failed"})
    return FailoverMatrix(rows=providers, columns=columns, cells=cells)


def _first_choices(journal: Journal, ranks: dict[str, int]) -> dict[str, tuple[str, str]]:
    """Return the first choice, and how it was left, of the requests that it did not answer at once."""
    found: dict[str, tuple[str, str]] = {}
    kept: dict[tuple[str, str], tuple[str, str]] = {}  # a million requests share a few pairs
    last = len(ranks)

    def keep(provider: str, way: str) -> tuple[str, str]:
        return kept.setdefault((provider, way), (provider, way))

    for stamped in journal.skips:
        skip = stamped.event
        before = found.get(skip.request_id)
        if before is None or ranks.get(skip.provider, last) < ranks.get(before[0], last):
            found[skip.request_id] = keep(skip.provider, f"left out: {skip.reason.replace('_', ' ')}")
    for attempt in journal.attempts:
        if attempt.n != 1:
            continue
        before = found.get(attempt.request_id)
        is_first = before is None or attempt.reason == "preferred"
        if not is_first and before is not None:
            is_first = ranks.get(attempt.provider, last) < ranks.get(before[0], last)
        if not is_first:
            continue
        if attempt.outcome == "ok":
            found.pop(attempt.request_id, None)
        else:
            found[attempt.request_id] = keep(attempt.provider, _FAILED)
    return found

"""
The requests worth a look: those that went wrong, and the slowest. Pure.

At most `STORIES_MAX`, whatever the run's size: the ways to go wrong share most of them evenly, the slowest the rest.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from markupsafe import Markup

from reports.episodes import FaultView
from reports.svg import Canvas, Scale, seconds_text
from reports.timeline import latency_s
from seawall.journal.events import Attempt, RequestRecord, Skip
from seawall.journal.view import Journal

__all__ = ["STORIES_MAX", "Story", "Try", "stories_of"]

STORIES_MAX = 50
_SLOWEST_MAX = 15
_WRONG_MAX = STORIES_MAX - _SLOWEST_MAX
_TRIES_MAX = 12
_WIDTH = 240
_ROW = 26
_BAR = 12
_E = TypeVar("_E", Attempt, Skip)
_WORST_FIRST = ("process_died", "hung", "disguised", "cut", "error", "dropped", "refused")


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, as the router reported it; times in milliseconds after the request was due."""

    provider: str
    model: str
    reason: str
    outcome: str
    """`ok`, `cancelled`, or the code of the error."""
    start_ms: float
    duration_ms: float


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the client saw it, with all that was tried for it."""

    request_id: str
    at_s: float
    outcome: str
    duration: str
    provider: str
    detail: str
    """Status, code and problem in one line."""
    faults: tuple[str, ...]
    """Ids of the faults in force while it was under way."""
    tries: tuple[Try, ...]
    skipped: str
    waterfall: Markup | None


def stories_of(journal: Journal, faults: Sequence[FaultView]) -> tuple[tuple[Story, ...], int]:
    """Return at most `STORIES_MAX` requests, worst first, and how many went wrong in all."""
    wrong: dict[str, array[int]] = {}
    slowest: list[tuple[int, int]] = []
    for place, request in enumerate(journal.requests):
        if request.outcome != "whole":
            wrong.setdefault(request.outcome, array("q")).append(place)
        else:
            heapq.heappush(slowest, (request.end_ns - request.intended_ns, -place))
            if len(slowest) > _SLOWEST_MAX:
                heapq.heappop(slowest)
    kinds = [wrong[outcome] for outcome in _WORST_FIRST if outcome in wrong]
    chosen = [journal.requests[place] for place in _shared(kinds)]
    chosen.sort(key=lambda r: (_WORST_FIRST.index(r.outcome), r.intended_ns, r.request_id))
    chosen += [journal.requests[-place] for _, place in sorted(slowest, reverse=True)]
    names = {request.request_id for request in chosen}
    tries = _by_request(journal.attempts, names)
    skips = _by_request((stamped.event for stamped in journal.skips), names)
    stories = tuple(
        _story(journal, place, request, tries.get(request.request_id, []), skips.get(request.request_id, []), faults)
        for place, request in enumerate(chosen)
    )
    return stories, sum(len(kind) for kind in kinds)


def _shared(kinds: Sequence[Sequence[int]]) -> list[int]:
    """Return at most `_WRONG_MAX`: what small kinds leave of their share goes to larger ones, spread over the run."""
    chosen: list[int] = []
    for n, kind in enumerate(sorted(kinds, key=len)):
        share = (_WRONG_MAX - len(chosen)) // (len(kinds) - n)
        chosen += kind if len(kind) <= share else [kind[place * len(kind) // share] for place in range(share)]
    return chosen


def _by_request(events: Iterable[_E], names: set[str]) -> dict[str, list[_E]]:
    found: dict[str, list[_E]] = {}
    for event in events:
        if event.request_id in names:
            found.setdefault(event.request_id, []).append(event)
    return found


def _story(
    journal: Journal,
    place: int,
    request: RequestRecord,
    attempts: list[Attempt],
    skips: list[Skip],
    faults: Sequence[FaultView],
) -> Story:
    start_s, end_s = journal.seconds(request.intended_ns), journal.seconds(request.end_ns)
    in_force = tuple(f.id for f in faults if any(e.covers(start_s, end_s) for e in f.episodes))
    attempts = sorted(attempts, key=lambda a: (a.start_ns, a.n))[:_TRIES_MAX]
    tries = tuple(
        Try(
            provider=attempt.provider,
            model=attempt.model,
            reason=attempt.reason,
            outcome=(attempt.error or attempt.outcome) if attempt.outcome == "failed" else attempt.outcome,
            start_ms=max(attempt.start_ns - request.intended_ns, 0) / 1e6,
            duration_ms=max(attempt.end_ns - attempt.start_ns, 0) / 1e6,
        )
        for attempt in attempts
    )
    problem = request.problem or ""
    parts = [part for part in (str(request.status or ""), request.code or "") if part not in problem]
    return Story(
        request_id=request.request_id,
        at_s=start_s,
        outcome=request.outcome,
        duration=seconds_text(latency_s(request)),
        provider=request.provider or "",
        detail=" · ".join([*parts, problem] if problem else parts) if request.outcome != "whole" else "",
        faults=in_force,
        tries=tries,
        skipped=", ".join(f"{skip.provider} ({skip.reason})" for skip in skips),
        waterfall=_waterfall(place, request, tries) if tries else None,
    )


def _waterfall(place: int, request: RequestRecord, tries: Sequence[Try]) -> Markup:
    """Draw one bar a try on the scale of the request: from when it was due to when it, or its last try, ended."""
    total = max(latency_s(request) * 1000, *(t.start_ms + t.duration_ms for t in tries), 0.001)
    x = Scale(0, total, 0, _WIDTH)
    what = "; ".join(f"{t.provider} from {t.start_ms:.0f} ms for {t.duration_ms:.0f} ms: {t.outcome}" for t in tries)
    canvas = Canvas(f"w{place}", _ROW * len(tries), f"Attempts of request {request.request_id}", what, width=_WIDTH)
    canvas.line(x(latency_s(request) * 1000) - 0.5, 0, x(latency_s(request) * 1000) - 0.5, canvas.height, "shade-edge")
    for row, each in enumerate(tries):
        left, right = x(each.start_ms), x(each.start_ms + each.duration_ms)
        css = each.outcome if each.outcome in {"ok", "cancelled"} else "failed"
        canvas.rect(left, row * _ROW + (_ROW - _BAR) / 2, max(right - left, 2), _BAR, f"t-{css}")
    return canvas.render()

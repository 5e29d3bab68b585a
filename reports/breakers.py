"""
Breakers as strips of states. Pure.

Transitions are the router's own reports, by worker and provider. A breaker that never changed was closed all along.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from seawall.journal.view import Journal

__all__ = ["BreakerStrip", "Piece", "strips_of"]


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of one state, in seconds after the start of the load."""

    start_s: float
    end_s: float
    state: str
    cause: str = ""
    """Why it came into this state; empty for the first."""


class BreakerStrip(msgspec.Struct, frozen=True, kw_only=True):
    """One breaker over the whole run."""

    label: str
    """The provider, with the worker when there are several."""
    pieces: tuple[Piece, ...]
    slow: tuple[Piece, ...] = ()
    """When its response times were too slow before anything had failed (the predictive breaker), as `slow`."""


def strips_of(
    journal: Journal, providers: Sequence[str], start_s: float, end_s: float
) -> tuple[BreakerStrip, ...] | None:
    """Return one strip a provider and worker, in chain order; None when the system does not report breakers."""
    if not journal.breakers and not journal.latencies and not journal.observes("breaker"):
        return None
    slow = _slow(journal, end_s)
    changes: dict[tuple[str, str], list[tuple[float, str, str, str]]] = {}
    for stamped in journal.breakers:
        change = stamped.event
        moment = (journal.seconds(stamped.mono_ns), change.from_state, change.to, change.cause)
        changes.setdefault((change.provider, change.worker), []).append(moment)
    workers = sorted({worker for _, worker in {**changes, **slow}} | {attempt.worker for attempt in journal.attempts})
    strips: list[BreakerStrip] = []
    for provider in providers:
        mine = [worker for worker in workers if (provider, worker) in changes or (provider, worker) in slow]
        for worker in mine or [""]:
            label = f"{provider} · {worker}" if len(workers) > 1 and worker else provider
            pieces = _pieces(changes.get((provider, worker), []), start_s, end_s)
            strips.append(BreakerStrip(label=label, pieces=pieces, slow=tuple(slow.get((provider, worker), ()))))
    return tuple(strips)


def _slow(journal: Journal, end_s: float) -> dict[tuple[str, str], list[Piece]]:
    """Return the stretches in which each breaker's provider was slow, by provider and worker."""
    found: dict[tuple[str, str], list[Piece]] = {}
    since: dict[tuple[str, str], tuple[float, str]] = {}
    for stamped in journal.latencies:
        change, at_s = stamped.event, journal.seconds(stamped.mono_ns)
        key = (change.provider, change.worker)
        if change.to == "slow":
            since.setdefault(key, (at_s, f"{change.average_ms:.0f} ms on average, limit {change.limit_ms:.0f} ms"))
        elif key in since:
            start_s, cause = since.pop(key)
            found.setdefault(key, []).append(Piece(start_s=start_s, end_s=at_s, state="slow", cause=cause))
    for key, (start_s, cause) in since.items():
        found.setdefault(key, []).append(Piece(start_s=start_s, end_s=max(end_s, start_s), state="slow", cause=cause))
    return found


def _pieces(changes: Sequence[tuple[float, str, str, str]], start_s: float, end_s: float) -> tuple[Piece, ...]:
    state, since, cause = (changes[0][1] if changes else "closed"), start_s, ""
    pieces: list[Piece] = []
    for at_s, _, to, why in changes:
        moment = min(max(at_s, since), end_s)
        if moment > since or pieces:
            pieces.append(Piece(start_s=since, end_s=moment, state=state, cause=cause))
        state, since, cause = to, moment, why
    pieces.append(Piece(start_s=since, end_s=end_s, state=state, cause=cause))
    return tuple(pieces)

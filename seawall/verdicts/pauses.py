"""Invariants on `Retry-After`: the provider is left alone for the time, and no client sits through it. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.joins import Joined
from seawall.verdicts.model import Check, Evidence

__all__ = ["retry_after_is_not_waited_for", "retry_after_is_obeyed"]

_ASKING = (429, 503)
_COOLDOWN_NS = 50_000_000
"""The cooldown runs from the answer's head, which the router saw this much before its attempt ended, at most."""
_HASTE = 0.9
_SHORTEST_NS = 300_000_000
"""An attempt that goes on for this long, and for that share of the pause it was asked for, has waited for it."""


def retry_after_is_obeyed(case: Case) -> Check:
    """
    After a provider asked for a pause, the worker that was told starts no call to it within the pause.

    No pause is longer than the setting RETRY_AFTER_MAX.
    """
    name = "retry-after is obeyed by not calling"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    asked: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for pair, pause_ns in _asked(case):
        # An answer that never got through to the router asked for nothing.
        if pair.attempt is not None and pair.attempt.status == pair.call.status:
            asked[pair.attempt.worker, pair.call.provider].append((pair.end_ns, pair.end_ns + pause_ns))
    quiet = {key: _Pauses(pauses) for key, pauses in asked.items()}

    def early() -> Iterator[Evidence]:
        for pair in case.joined if quiet else ():
            key = (pair.attempt.worker if pair.attempt is not None else "", pair.call.provider)
            left_ns = quiet[key].left_ns(pair.start_ns) if key in quiet else 0
            if left_ns > _COOLDOWN_NS:
                text = f"{key[0]} called {key[1]} {left_ns / 1e9:.3f} s before the pause it had asked for was over"
                yield case.evidence(text, pair.start_ns, pair.call.request_id)

    return invariant(name, early(), examined=sum(map(len, asked.values())), of="requests for a pause")


def retry_after_is_not_waited_for(case: Case) -> Check:
    """A provider that asks for a pause is left at once: no attempt lasts through it with the client on the line."""
    name = "no client sits through a retry-after"
    for kind in ("call", "attempt"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)

    def waited() -> Iterator[Evidence]:
        for pair, pause_ns in _asked(case):
            longer_ns = pair.end_ns - pair.call.end_ns
            if pair.attempt is not None and longer_ns >= max(pause_ns * _HASTE, _SHORTEST_NS):
                text = (
                    f"the attempt at {pair.call.provider} went on for {longer_ns / 1e9:.3f} s after it had asked for "
                )
                text += f"a pause of {pause_ns / 1e9:g} s"
                yield case.evidence(text, pair.start_ns, pair.call.request_id)

    return invariant(name, waited(), examined=sum(1 for _ in _asked(case)), of="requests for a pause")


def _asked(case: Case) -> Iterator[tuple[Joined, int]]:
    """Yield the calls whose provider asked for a pause, and for how long it may hold."""
    longest_s = float(case.setting("RETRY_AFTER_MAX", "inf"))
    pauses = {
        fault.id: round(min(fault.respond.retry_after, longest_s) * 1e9)
        for fault in case.scenario.faults
        if fault.respond is not None and fault.respond.retry_after is not None
    }
    for pair in case.joined.of(lambda call: call.behaviour in pauses) if pauses else ():
        if pair.call.status in _ASKING:
            yield pair, pauses[pair.call.behaviour]


class _Pauses:
    """The pauses that one provider asked one worker for."""

    def __init__(self, pauses: list[tuple[int, int]]) -> None:
        self._starts = array("q")
        self._latest_ends = array("q")
        for start_ns, end_ns in sorted(pauses):
            self._starts.append(start_ns)
            self._latest_ends.append(max(end_ns, self._latest_ends[-1] if self._latest_ends else end_ns))

    def left_ns(self, moment_ns: int) -> int:
        """Return how long after a moment the pauses that had been asked for by then last; 0 where there is none."""
        asked = bisect_right(self._starts, moment_ns - 1)
        return max(self._latest_ends[asked - 1] - moment_ns, 0) if asked else 0

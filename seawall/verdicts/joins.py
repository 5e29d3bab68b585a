"""Which attempt of the router made which call that a provider saw. Pure."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from seawall.journal.events import Attempt, CallRecord
from seawall.journal.view import Journal

__all__ = ["Joined", "join"]


class Joined(msgspec.Struct, frozen=True):
    """A call as the provider saw it, and the attempt that made it; None when no attempt accounts for it."""

    call: CallRecord
    attempt: Attempt | None

    @property
    def start_ns(self) -> int:
        """When it started: the attempt's start, and the arrival where there is no attempt."""
        return self.call.arrival_ns if self.attempt is None else self.attempt.start_ns

    @property
    def end_ns(self) -> int:
        """When it ended for the caller: a provider may notice much later that its caller has left."""
        return self.call.end_ns if self.attempt is None else self.attempt.end_ns


def join(journal: Journal) -> tuple[Joined, ...]:
    """
    Pair calls and attempts of the same request and provider, each used once; return one pair a call, by arrival.

    A call belongs to the last attempt that had started when it arrived: an attempt that died on the way, or a call
    that was made twice, must not shift the pairs after it.
    """
    waiting: defaultdict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        waiting[attempt.request_id, attempt.provider].append(attempt)
    pairs: list[Joined] = []
    for call in journal.calls:
        candidates = waiting.get((call.request_id, call.provider), []) if call.request_id is not None else []
        made_by = next((a for a in reversed(candidates) if a.start_ns <= call.arrival_ns), None)
        if made_by is not None:
            candidates.remove(made_by)
        pairs.append(Joined(call, made_by))
    return tuple(pairs)

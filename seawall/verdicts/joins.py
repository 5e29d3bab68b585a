"""Which attempt of the router made which call that a provider saw. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator

import msgspec

from seawall.journal.events import Attempt, CallRecord
from seawall.journal.packed import Packed
from seawall.journal.view import Journal

__all__ = ["Joined", "Joins", "join"]

_NOBODY = -1
_ERRORS_FROM = 400


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


class Joins:
    """Every call with the attempt that made it, in order of arrival."""

    def __init__(self, calls: Packed[CallRecord], attempts: Packed[Attempt], made_by: array[int], named: int) -> None:
        self._calls, self._attempts, self._made_by = calls, attempts, made_by
        self.named = named
        """How many calls told their request."""

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Joined]:
        for call, place in zip(self._calls, self._made_by, strict=True):
            yield Joined(call, None if place == _NOBODY else self._attempts[place])

    def of(self, wanted: Callable[[CallRecord], bool]) -> Iterator[Joined]:
        """Yield those whose call is `wanted`: where these are few it is quicker than to go through all."""
        for call, place in zip(self._calls, self._made_by, strict=True):
            if wanted(call):
                yield Joined(call, None if place == _NOBODY else self._attempts[place])

    def unmade(self) -> Iterator[Joined]:
        """Yield the calls that no attempt accounts for."""
        for n, place in enumerate(self._made_by):
            if place == _NOBODY:
                yield Joined(self._calls[n], None)

    def within(self, first_ns: int, last_ns: int) -> Iterator[Joined]:
        """Yield those that arrived at `first_ns` or later and had started before `last_ns`."""
        arrivals, starts = self._calls.moments, self._attempts.moments
        for n in range(bisect_left(arrivals, first_ns), len(arrivals)):
            place = self._made_by[n]
            if (arrivals[n] if place == _NOBODY else starts[place]) < last_ns:
                yield Joined(self._calls[n], None if place == _NOBODY else self._attempts[place])

    def answered(self) -> bytearray:
        """Return for each attempt whether its call was completed, and not with an error status, in their order."""
        flags = bytearray(len(self._attempts))
        for call, place in zip(self._calls, self._made_by, strict=True):
            if place != _NOBODY and call.completed and (call.status is None or call.status < _ERRORS_FROM):
                flags[place] = True
        return flags


def join(journal: Journal) -> Joins:
    """
    Pair calls and attempts of the same request and provider, each used once.

    A call belongs to the last attempt that had started when it arrived: an attempt that died on the way, or a call
    that was made twice, must not shift the pairs after it.
    """
    made_by = array("q")
    waiting: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    attempts = enumerate(journal.attempts)
    upcoming = next(attempts, None)
    named = 0
    for call in journal.calls:
        while upcoming is not None and upcoming[1].start_ns <= call.arrival_ns:
            waiting[upcoming[1].request_id, upcoming[1].provider].append(upcoming[0])
            upcoming = next(attempts, None)
        named += call.request_id is not None
        key = (call.request_id or "", call.provider)
        places = waiting.get(key) if call.request_id is not None else None
        made_by.append(places.pop() if places else _NOBODY)
        if places == []:
            del waiting[key]  # most requests have one attempt: this keeps few of them in memory
    return Joins(journal.calls, journal.attempts, made_by, named)

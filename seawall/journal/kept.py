"""Events of one kind kept as they are: for the journal of a simulation, which is small and judged at once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter
from re import Pattern
from typing import Any, TypeVar, overload

import msgspec

from seawall.journal.packed import Packed

__all__ = ["Kept"]

E = TypeVar("E", bound=msgspec.Struct)
_encode = msgspec.msgpack.Encoder().encode


class Kept(Packed[E]):
    """As `Packed`, but for speed and memory; what is read is the event itself: leave it as it is."""

    def __init__(self, moment: Callable[[E], int], events: list[E] | None = None) -> None:
        # Nothing of Packed's own: nothing is encoded here.
        self._moment = moment
        self._events: list[E] = [] if events is None else events

    def append(self, event: E) -> None:
        """See Packed."""
        self._events.append(event)

    def sort(self, tie: Callable[[E], Any]) -> None:
        """See Packed."""
        moment, events = self._moment, self._events
        events.sort(key=moment)
        moments = list(map(moment, events))
        if any(one == other for one, other in pairwise(moments)):
            events.sort(key=lambda event: (moment(event), tie(event)))

    @property
    def moments(self) -> Sequence[int]:
        """See Packed."""
        return list(map(self._moment, self._events))

    def within(self, spans: Iterable[tuple[int, int]]) -> Packed[E]:
        """See Packed."""
        moment = self._moment
        return self._some([e for start_ns, end_ns in spans for e in self._events if start_ns <= moment(e) < end_ns])

    def having(self, name: str, *values: object) -> Packed[E]:
        """See Packed."""
        value_of = attrgetter(name)
        return self._some([event for event in self._events if value_of(event) in values])

    def counts(self, name: str) -> dict[Any, int]:
        """See Packed."""
        return Counter(map(attrgetter(name), self._events))

    def containing(self, pattern: Pattern[bytes], marks: Sequence[bytes] = ()) -> Iterator[E]:
        """See Packed."""
        # Most often there is none: one look at all of them together tells.
        encoded = _encode(self._events)
        lowered = encoded.lower() if marks else b""
        if (not marks or any(mark in lowered for mark in marks)) and pattern.search(encoded) is not None:
            yield from (event for event in self._events if pattern.search(_encode(event)))

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, place: int) -> E: ...
    @overload
    def __getitem__(self, place: slice) -> Packed[E]: ...
    def __getitem__(self, place: int | slice) -> E | Packed[E]:
        return self._some(self._events[place]) if isinstance(place, slice) else self._events[place]

    def __iter__(self) -> Iterator[E]:
        return iter(self._events)

    def _some(self, events: list[E]) -> Packed[E]:
        return Kept(self._moment, events)

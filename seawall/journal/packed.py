"""
A sequence of events that are kept encoded, for journals of millions of them.

As Python objects an event takes half a kilobyte, and more with its strings. Here it takes about a hundred bytes, and 24
for its place; it is decoded anew, in half a microsecond, each time it is looked at. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain
from operator import attrgetter
from re import Pattern
from typing import Any, TypeVar, cast, overload

import msgspec

__all__ = ["Packed"]

E = TypeVar("E", bound=msgspec.Struct)


class Packed(Sequence[E]):
    """
    Events of one kind, to be filled by `append`, put in order by `sort`, and then only read.

    Their order is that of `moment`, a time in nanoseconds, and of `tie` among those of the same moment. A slice, and
    what `within` returns, are views that share the events. What is read is a copy: changing it changes nothing here.
    """

    def __init__(self, kind: type[E], moment: Callable[[E], int]) -> None:
        self._decoder = msgspec.msgpack.Decoder(cast("type[E]", _row(kind)))
        # Most events hold no other struct: their values are there at once.
        self._values = _plain if _holds_structs(kind) else msgspec.structs.astuple
        self._moment = moment
        self._encoded = bytearray()
        self._starts = array("q")
        self._ends = array("q")
        self._moments = array("q")
        self._indices: dict[str, dict[Any, array[int]]] = {}

    def append(self, event: E) -> None:
        """
        Add an event; not while somebody iterates.

        Raises OverflowError or UnicodeEncodeError for numbers and texts that no event of ours holds, and adds nothing.
        """
        encoded = _ENCODE(self._values(event))
        self._indices.clear()
        self._moments.append(self._moment(event))
        self._starts.append(len(self._encoded))
        self._encoded += encoded
        self._ends.append(len(self._encoded))

    def sort(self, tie: Callable[[E], Any]) -> None:
        """Put the events in order."""
        moments = self._moments
        # Stable, and most events come in order.
        order = sorted(range(len(moments)), key=moments.__getitem__)
        first = 0
        while first < len(order):
            last = first + 1
            while last < len(order) and moments[order[last]] == moments[order[first]]:
                last += 1
            if last - first > 1:
                order[first:last] = sorted(order[first:last], key=lambda n: tie(self[n]))
            first = last
        self._starts, self._ends, self._moments = self._columns(order)
        self._indices.clear()

    @property
    def moments(self) -> Sequence[int]:
        """The moment of each event."""
        return self._moments

    def within(self, spans: Iterable[tuple[int, int]]) -> Packed[E]:
        """Return the events whose moment lies in one of `spans`, each from its start until before its end."""
        view = copy(self)
        view._starts, view._ends, view._moments, view._indices = array("q"), array("q"), array("q"), {}
        for start_ns, end_ns in spans:
            part = slice(bisect_left(self._moments, start_ns), bisect_left(self._moments, end_ns))
            view._starts += self._starts[part]
            view._ends += self._ends[part]
            view._moments += self._moments[part]
        return view

    def having(self, name: str, *values: object) -> Packed[E]:
        """Return the events whose field `name` has one of `values`; fields of few values are meant."""
        places = self._places(name)
        found = [places[value] for value in values if value in places]
        return self._at(found[0] if len(found) == 1 else sorted(chain.from_iterable(found)))

    def counts(self, name: str) -> dict[Any, int]:
        """Return how many events there are of each value of the field `name`; fields of few values are meant."""
        return {value: len(places) for value, places in self._places(name).items()}

    def _places(self, name: str) -> dict[Any, array[int]]:
        if name not in self._indices:
            value_of = attrgetter(name)
            places: defaultdict[Any, array[int]] = defaultdict(lambda: array("I"))
            for place, event in enumerate(self):
                places[value_of(event)].append(place)
            self._indices[name] = dict(places)
        return self._indices[name]

    def containing(self, pattern: Pattern[bytes], marks: Sequence[bytes] = ()) -> Iterator[E]:
        """
        Yield the events in whose texts `pattern` is found: fast, as only these are decoded.

        One of `marks`, where there are any, is in lower case a part of whatever the pattern finds: to look for them is
        ten times as fast as to look for the pattern. By chance it may be found in numbers too: look again at what is
        yielded.
        """
        marked = self._marked(marks) if marks else None
        if marked is not None and not marked:
            return
        for place, (start, end) in enumerate(zip(self._starts, self._ends, strict=True)):
            may_hold = marked is None or start // _BLOCK in marked or end // _BLOCK in marked
            if may_hold and pattern.search(self._encoded, start, end):
                yield self[place]

    def _marked(self, marks: Sequence[bytes]) -> set[int]:
        """Return the numbers of the blocks in which a mark begins or ends; an event longer than one is in them all."""
        longest = max(map(len, marks))
        marked: set[int] = set()
        for start in range(0, len(self._encoded), _BLOCK):
            block = bytes(self._encoded[start : start + _BLOCK + longest]).lower()
            if any(mark in block for mark in marks):
                marked.update((start // _BLOCK, start // _BLOCK + 1))
        if marked:
            # What is longer than a block may have its mark in the middle: its first block stands for it.
            for start, end in zip(self._starts, self._ends, strict=True):
                if end - start > _BLOCK and marked & set(range(start // _BLOCK, end // _BLOCK + 1)):
                    marked.add(start // _BLOCK)
        return marked

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> E: ...
    @overload
    def __getitem__(self, place: slice) -> Packed[E]: ...
    def __getitem__(self, place: int | slice) -> E | Packed[E]:
        if isinstance(place, slice):
            return self._at(range(*place.indices(len(self))))
        return self._decoder.decode(self._encoded[self._starts[place] : self._ends[place]])

    def __iter__(self) -> Iterator[E]:
        with memoryview(self._encoded) as encoded:
            for start, end in zip(self._starts, self._ends, strict=True):
                yield self._decoder.decode(encoded[start:end])

    def _at(self, places: Sequence[int]) -> Packed[E]:
        view = copy(self)
        view._starts, view._ends, view._moments = self._columns(places)
        view._indices = {}
        return view

    def _columns(self, places: Sequence[int]) -> tuple[array[int], array[int], array[int]]:
        columns = (self._starts, self._ends, self._moments)
        starts, ends, moments = (array("q", map(column.__getitem__, places)) for column in columns)
        return starts, ends, moments


_BLOCK = 1 << 16
_ENCODE = msgspec.msgpack.Encoder().encode


def _holds_structs(kind: Any) -> bool:
    types = (field.type for field in msgspec.structs.fields(kind))
    return any(isinstance(each, type) and issubclass(each, msgspec.Struct) for each in types)


def _plain(event: msgspec.Struct) -> list[Any]:
    """Return the values of a struct, and of those within it, without their names."""
    return [_plain(value) if isinstance(value, msgspec.Struct) else value for value in msgspec.structs.astuple(event)]


def _row(kind: Any) -> type[msgspec.Struct]:
    """Return a subtype of a struct type (maybe with its parameters) that is encoded as its values alone."""
    fields = msgspec.structs.fields(kind)
    inner = [(f.name, _row(f.type)) for f in fields if isinstance(f.type, type) and issubclass(f.type, msgspec.Struct)]
    origin = getattr(kind, "__origin__", kind)

    def equals(one: msgspec.Struct, other: object) -> bool:
        return isinstance(other, origin) and _plain(one) == _plain(cast("msgspec.Struct", other))

    return msgspec.defstruct(
        origin.__name__,
        inner,
        bases=(origin,),
        namespace={"__eq__": equals, "__hash__": None},
        array_like=True,
        tag=False,
        gc=False,
        kw_only=True,
        frozen=origin.__struct_config__.frozen,
    )

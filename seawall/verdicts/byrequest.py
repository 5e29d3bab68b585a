"""What is known of each request by its id, in arrays: as objects of a million it would be half a gigabyte. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from seawall.journal.events import Attempt, RequestRecord

__all__ = ["Asked", "AskedOf", "Counts", "Requests"]

Asked = tuple[tuple[int, str, str], ...]
"""Number, provider and outcome of each attempt of one request."""
_NOBODY: Asked = ()
_D = TypeVar("_D")


class Requests:
    """Where each request stands in the journal, by its id, and when it ended; of several of one id the last."""

    def __init__(self, requests: Iterable[RequestRecord]) -> None:
        self.place: dict[str, int] = {}
        self.ends_ns = array("q")
        self.streams = bytearray()
        for n, request in enumerate(requests):
            self.place[request.request_id] = n
            self.ends_ns.append(request.end_ns)
            self.streams.append(request.stream)


class AskedOf(Mapping[str, Asked]):
    """The attempts of each request, in their order. Of a million most are equal: each way to be asked is kept once."""

    def __init__(self, requests: Requests, attempts: Iterable[Attempt]) -> None:
        self._place = requests.place
        self._ways: list[Asked] = [_NOBODY]
        self._codes = array("I", bytes(4 * len(requests.ends_ns)))
        self._others: dict[str, Asked] = {}
        self._count = 0
        codes = {_NOBODY: 0}
        for attempt in attempts:
            place = self._place.get(attempt.request_id)
            before = self._others.get(attempt.request_id, _NOBODY) if place is None else self._ways[self._codes[place]]
            made = (*before, (attempt.n, attempt.provider, attempt.outcome))
            made = tuple(sorted(made)) if before else made
            self._count += not before
            if place is None:
                self._others[attempt.request_id] = made
                continue
            code = codes.setdefault(made, len(codes))
            if code == len(self._ways):
                self._ways.append(made)
            self._codes[place] = code

    def __getitem__(self, request_id: str) -> Asked:
        place = self._place.get(request_id)
        made = self._others.get(request_id, _NOBODY) if place is None else self._ways[self._codes[place]]
        if not made:
            raise KeyError(request_id)
        return made

    def get(self, request_id: str, default: _D = None) -> Asked | _D:  # type: ignore[assignment]
        """Return how a request was asked, else `default`."""
        place = self._place.get(request_id)
        made = self._others.get(request_id, _NOBODY) if place is None else self._ways[self._codes[place]]
        return made or default

    def __contains__(self, request_id: object) -> bool:
        return isinstance(request_id, str) and self.get(request_id) is not None

    def __iter__(self) -> Iterator[str]:
        yield from (request_id for request_id, place in self._place.items() if self._codes[place])
        yield from self._others

    def __len__(self) -> int:
        return self._count


class Counts:
    """Counts something by request."""

    def __init__(self, requests: Requests) -> None:
        self._place = requests.place
        self._counts = array("I", bytes(4 * len(requests.ends_ns)))
        self._others: Counter[str] = Counter()

    def add(self, request_id: str) -> int:
        """Count one more; return how many that makes."""
        place = self._place.get(request_id)
        if place is None:
            self._others[request_id] += 1
            return self._others[request_id]
        self._counts[place] += 1
        return self._counts[place]

    def of(self, request_id: str) -> int:
        """Return how many there were of a request."""
        place = self._place.get(request_id)
        return self._others[request_id] if place is None else self._counts[place]

"""The splitters of streams: however the bytes are cut into portions, the same events come out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.errors import InvalidAnswer
from router.sse import EVENT_BYTES_MAX, LineSplitter, SseSplitter

Event = tuple[bytes | None, bytes]

streams = st.lists(
    st.sampled_from(
        [
            b"data: one",
            b"data:two",
            b"data:  three",
            b"data",
            b"data:",
            b'data: {"a": "b: c"}',
            "data: d\u00e9j\u00e0 \U0001f30a".encode(),
            b"event: ping",
            b"event:",
            b": a comment",
            b":",
            b"id: 7",
            b"retry: 100",
            b"unknown",
            b"",
            b"",
        ]
    ),
    max_size=20,
)
ends = st.sampled_from([b"\n", b"\r\n"])
cuts = st.lists(st.integers(0, 400), max_size=12)


def portions(data: bytes, where: list[int]) -> list[bytes]:
    """Return `data` cut at these places, empty portions included."""
    places = [0, *sorted(min(place, len(data)) for place in where), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def split(parts: list[bytes]) -> list[Event]:
    """Return the events of a stream that comes in these parts."""
    splitter = SseSplitter()
    return [event for part in parts for event in splitter.feed(part)]


def by_the_book(lines: list[bytes]) -> list[Event]:
    """Return the events of complete lines, straight from the specification."""
    events: list[Event] = []
    name: bytes | None = None
    data: list[bytes] = []
    for line in lines:
        if line == b"":
            if data:
                events.append((name, b"\n".join(data)))
            name, data = None, []
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value[:1] == b" " else value
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
    return events


@given(lines=streams, end=ends, where=cuts)
@example(lines=[b"data: one", b""], end=b"\r\n", where=[10])
def test_events_do_not_depend_on_the_portions(lines: list[bytes], end: bytes, where: list[int]) -> None:
    """Cut anywhere, between CR and LF too, the stream has the events that the specification says."""
    data = b"".join(line + end for line in lines)
    assert split(portions(data, where)) == by_the_book(lines)
    assert split([bytes([byte]) for byte in data]) == by_the_book(lines)


@given(data=st.binary(max_size=300), where=cuts)
def test_arbitrary_bytes_never_surprise(data: bytes, where: list[int]) -> None:
    """Any bytes at all give the same events in any portions, and no other error."""
    assert split(portions(data, where)) == split([data])


@given(data=st.binary(max_size=300), where=cuts)
def test_lines_are_the_bytes_between_the_ends(data: bytes, where: list[int]) -> None:
    """Lines and rest, put together again, are the stream; an end of CR LF is one end."""
    splitter = LineSplitter()
    lines = [line for part in portions(data, where) for line in splitter.feed(part)]
    *expected, rest = data.split(b"\n")
    assert lines == [line[:-1] if line.endswith(b"\r") else line for line in expected]
    assert splitter.rest() == rest


def test_event_without_its_empty_line_is_not_told() -> None:
    """What a cut stream left unfinished is no event."""
    assert split([b"data: one\n\ndata: two\n"]) == [(None, b"one")]


def test_name_belongs_to_its_own_event_only() -> None:
    """An event's name does not stick to the next one, nor does that of an event without data."""
    assert split([b"event: a\ndata: 1\n\ndata: 2\n\nevent: b\n\ndata: 3\n\n"]) == [
        (b"a", b"1"),
        (None, b"2"),
        (None, b"3"),
    ]


def _long_line(size: int) -> bytes:
    return b"data: " + b"x" * (size - len(b"data: ")) + b"\n\n"


def _long_comment(size: int) -> bytes:
    return b":" * size + b"\n"


def _many_lines(size: int) -> bytes:
    return b"data: 0123456789\n" * (size // 10) + b"\n"


@pytest.mark.parametrize("make", [_long_line, _long_comment, _many_lines])
@pytest.mark.parametrize("portion", [64 * 1024, 16 * EVENT_BYTES_MAX])
def test_event_over_the_limit_is_refused(make: Callable[[int], bytes], portion: int) -> None:
    """A line or an event over the limit is InvalidAnswer, whether it comes at once or little by little."""
    data = make(EVENT_BYTES_MAX + 100)
    with pytest.raises(InvalidAnswer, match="longer than"):
        split([data[start : start + portion] for start in range(0, len(data), portion)])


@pytest.mark.parametrize("make", [_long_line, _long_comment])
@pytest.mark.parametrize("portion", [64 * 1024, 16 * EVENT_BYTES_MAX])
def test_event_at_the_limit_is_taken(make: Callable[[int], bytes], portion: int) -> None:
    """Exactly the limit is still allowed."""
    data = make(EVENT_BYTES_MAX)
    split([data[start : start + portion] for start in range(0, len(data), portion)])


@hypothesis_settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=30))
def test_limit_counts_an_event_and_not_the_stream(sizes: list[int]) -> None:
    """Any number of small events passes: the size starts anew with each."""
    splitter = SseSplitter()
    splitter._size = EVENT_BYTES_MAX - 50
    assert splitter.feed(b"data: x\n\n") == [(None, b"x")]
    for size in sizes:
        assert splitter.feed(b"data: " + b"x" * size + b"\n\n") == [(None, b"x" * size)]
        assert splitter._size == 0

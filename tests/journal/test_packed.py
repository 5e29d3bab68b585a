"""Packed events: what was put in comes out, in order, at a fraction of the memory."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import healthy, request

from seawall.journal.events import RequestRecord, Spend
from seawall.journal.packed import Packed
from seawall.journal.view import Timed


def packed(records: list[RequestRecord]) -> Packed[RequestRecord]:
    found: Packed[RequestRecord] = Packed(RequestRecord, lambda record: record.intended_ns)
    for record in records:
        found.append(record)
    found.sort(lambda record: (record.request_id, record.end_ns))
    return found


moments = st.lists(st.integers(0, 20), max_size=30)


@given(moments)
def test_events_come_out_as_they_went_in_ordered_by_moment_and_tie(times: list[int]) -> None:
    """Sorting is that of a list by (moment, tie); length, indexing, iterating and the moments agree."""
    records = [request(f"{n * 7 % 31:06d}", at) for n, at in enumerate(times)]
    found = packed(records)
    expected = sorted(records, key=lambda r: (r.intended_ns, r.request_id, r.end_ns))
    assert list(found) == expected
    assert [found[n] for n in range(len(found))] == expected
    assert list(found.moments) == [record.intended_ns for record in expected]
    assert list(found[1:-1]) == expected[1:-1]
    assert list(found[::-1]) == expected[::-1]


@given(moments, st.lists(st.tuples(st.integers(0, 21), st.integers(0, 21)), max_size=3))
def test_within_yields_what_lies_in_the_spans(times: list[int], spans: list[tuple[int, int]]) -> None:
    """Each span from its start until before its end; a view shares the events and can be cut again."""
    found = packed([request(f"{n:06d}", at) for n, at in enumerate(times)])
    inside = found.within(spans)
    assert [r.intended_ns for r in inside] == [m for start, end in spans for m in found.moments if start <= m < end]
    assert len(found) == len(times)


def test_what_comes_out_is_of_its_kind_and_a_copy() -> None:
    """It is an instance of the struct with the same values; changing it changes nothing in the store."""
    record = request("000001", 5, retry_after_s=1.5, providers_in_text=["gemini", "claude"], problem="ü")
    found = packed([record])
    assert isinstance(found[0], RequestRecord)
    assert (found[0] == record, record == found[0], found[0] == request("000002", 5)) == (True, True, False)
    found[0].outcome = "cut"
    assert found[0].outcome == "whole"


def test_a_struct_within_a_struct_is_packed_too() -> None:
    """An event with its place in the journal comes back as both."""
    spend = healthy(seconds=1).of(Spend)[0]
    found: Packed[Timed[Spend]] = Packed(Timed[Spend], lambda timed: timed.mono_ns)
    found.append(Timed(mono_ns=7, wall=1.5, source="a-1", seq=3, event=spend))
    assert found[0].event == spend
    assert (found[0].mono_ns, found[0].wall, found[0].source, found[0].seq) == (7, 1.5, "a-1", 3)


def test_containing_finds_texts() -> None:
    """The events in whose texts the pattern occurs, in order."""
    found = packed([request(f"{n:06d}", n, problem="a key" if n % 2 else None) for n in range(6)])
    assert [record.intended_ns for record in found.containing(re.compile(rb"a k"))] == [1, 3, 5]


def test_marks_hide_nothing_that_the_pattern_finds() -> None:
    """With marks the same is found, in events longer than what is looked at in one go too, and across its borders."""
    problems = ["x" * 70_000 + "A Key", None, "y" * 65_400 + "a kEY" + "z" * 200_000, "a key"] + [None] * 300
    found = packed([request(f"{n:06d}", n, problem=problem) for n, problem in enumerate(problems)])
    pattern = re.compile(rb"(?i:a key)")
    assert [record.intended_ns for record in found.containing(pattern, (b"key",))] == [0, 2, 3]
    assert list(found.containing(pattern, (b"other",))) == []


def test_having_finds_values() -> None:
    """The events whose field has one of the values, in order, and how many there are of each value."""
    found = packed([request(f"{n:06d}", n, problem="ab"[n % 2] if n < 4 else None) for n in range(6)])
    assert [record.intended_ns for record in found.having("problem", "b", None)] == [1, 3, 4, 5]
    assert found.counts("problem") == {"a": 2, "b": 2, None: 2}
    assert len(found.having("problem", "c")) == 0


@pytest.mark.parametrize("changes", [{"end_ns": 2**70}, {"intended_ns": 2**63}, {"problem": "\ud800"}])
def test_what_cannot_be_kept_is_refused_and_leaves_nothing_behind(changes: dict[str, Any]) -> None:
    """Numbers and texts of nobody's journal raise, and what is there stays whole."""
    found = packed([request("000001", 5)])
    with pytest.raises((OverflowError, UnicodeEncodeError)):
        found.append(msgspec.structs.replace(request("000002", 6), **changes))
    found.append(request("000003", 7))
    assert [record.request_id for record in found] == ["000001", "000003"]
    assert list(found.moments) == [5, 7]

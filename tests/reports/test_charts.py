"""The charts: round ticks, labels that never overlap, and a bounded number of marks."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.charts import breakers, calls, draw_all, faults, latency, rate, served
from reports.episodes import Episode, FaultView
from reports.svg import LEFT, RIGHT, WIDTH, Scale, clean, log_ticks, number, seconds_text, text_width, ticks
from reports.timeline import BUCKETS_MAX, Timeline

LINE = Timeline(start_s=0, end_s=60, step_s=1, buckets=(), providers=(), calls_seen_by=None)


@given(st.floats(-1e4, 1e6), st.floats(1e-3, 1e6), st.integers(1, 20))
def test_ticks_are_few_and_within_the_limits(low: float, span: float, most: int) -> None:
    """There are at most one more ticks than asked for, all between the limits, evenly apart."""
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


@given(st.floats(1e-4, 10), st.floats(1.5, 1e5))
def test_ticks_of_a_logarithmic_scale_are_within_the_limits(low: float, factor: float) -> None:
    """Powers of ten, with 2 and 5 between few of them, never outside the limits."""
    found = log_ticks(low, low * factor)
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in found)
    assert len(found) <= 10


@given(st.floats(-1e9, 1e9))
def test_a_scale_never_leaves_its_range(value: float) -> None:
    """Whatever is drawn stays within the plot."""
    assert LEFT <= Scale(0, 60, LEFT, WIDTH - RIGHT)(value) <= WIDTH - RIGHT


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 ms"), (0.0042, "4.2 ms"), (0.38, "380 ms"), (0.9999, "1 s"), (1.2, "1.2 s"), (95, "95 s")],
)
def test_durations_read_like_a_person_says_them(value: float, text: str) -> None:
    """Milliseconds below a second, seconds above, no needless digits."""
    assert seconds_text(value) == text


def test_numbers_have_no_needless_zeros() -> None:
    """Trailing zeros go, the sign of a zero too, the zeros of a hundred stay."""
    assert [number(1.50, 2), number(-0.01, 1), number(100, 1), number(100, 0)] == ["1.5", "0", "100", "100"]


@given(st.text())
def test_cleaned_text_holds_no_character_that_xml_forbids(text: str) -> None:
    """Nothing that a journal says can break the XML of a chart or of the JUnit file."""
    kept = clean(text)
    assert len(kept) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", kept)


names = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
spans = st.tuples(names, st.floats(0, 58), st.floats(0.1, 60))


@given(st.lists(spans, max_size=14, unique_by=lambda span: span[0]))
def test_labels_of_faults_never_overlap(found: list[tuple[str, float, float]]) -> None:
    """Faults that overlap in time, or whose names are long, go to lanes of their own; no label leaves the plot."""
    views = [
        FaultView(
            id=name, target="gemini", description="", episodes=(Episode(active_s=at, healed_s=min(at + span, 60)),)
        )
        for name, at, span in found
    ]
    lanes = faults.lanes_of(views, LINE)
    assert sorted(fault.id for lane in lanes for fault, _ in lane.faults) == sorted(name for name, _, _ in found)
    for lane in lanes:
        taken = sorted(lane.taken)
        assert all(before[1] <= after[0] for before, after in pairwise(taken))
        for fault, label_x in lane.faults:
            assert label_x >= LEFT
            assert label_x + text_width(f"{fault.id} → gemini") <= WIDTH - RIGHT + 0.1


def test_names_of_percentiles_never_overlap(make_view: Any) -> None:
    """The names at the right end of the lines stand at least a line's height apart, and within the drawing."""
    chart = latency.draw(make_view(requests=40, duration_s=2.0, spells=[]))
    places = sorted(float(y) for y in re.findall(r'<text class="label" x="\d+" y="([-\d.]+)">p\d', str(chart.svg)))
    assert len(places) == 3
    assert all(below - above >= 13.9 for above, below in pairwise(places))
    assert all(0 <= place <= 270 for place in places)


def test_many_answers_become_a_heat_map(make_view: Any) -> None:
    """Over 2,500 answers the dots give way to cells, and the drawing does not grow with the load."""
    view = make_view(requests=5000, spells=[])
    chart = latency.draw(view)
    assert len(view.timeline.buckets) <= BUCKETS_MAX + 1
    assert 'class="heat heat4"' in str(chart.svg)
    assert 'class="dots' not in str(chart.svg)
    assert len(str(chart.svg)) < 60_000


def test_failures_and_refusals_have_marks_of_their_own(make_view: Any) -> None:
    """A cut answer is a cross, a refusal a ring, and the legend says so."""
    dark = [
        {"id": f"dark_{p}", "at_s": 20.0, "duration_s": 12.0, "target": p}
        for p in ("gemini", "claude", "openai", "local")
    ]
    chart = latency.draw(make_view(cut=5, spells=dark))
    assert {"m-failed", "m-refused"} <= {key.css for key in chart.keys}
    assert str(chart.svg).count('class="m-failed"') == 1
    assert str(chart.svg).count('class="m-refused"') == 1


def test_breakers_are_told_by_letters_too(make_view: Any) -> None:
    """Open, closed and half-open differ by fill, letter and title; a probe of milliseconds is still visible."""
    svg = str(breakers.draw(make_view()).svg)
    assert {"C", "O"} <= set(re.findall(r'<text class="letter l-\w+ at"[^>]*>(\w)<', svg))
    probes = re.findall(r'<rect class="b-half_open"[^>]*width="([\d.]+)"', svg)
    assert probes
    assert all(float(width) >= 4 for width in probes)


def test_what_is_not_observed_is_said_not_drawn(make_view: Any) -> None:
    """A system that reports neither breakers nor calls gets no empty chart of them, which would read as zero."""
    view = make_view(requests=0, spells=[], observes=["request"])
    for chart in (breakers.draw(view), calls.draw(view)):
        assert chart.svg is None
        assert "Not observed" in chart.remark
    assert served.draw(view).svg is None
    assert rate.draw(view).svg is None


def test_every_chart_has_its_figures_as_text(make_view: Any) -> None:
    """Each drawing comes with a table, every row of it as long as its head."""
    for chart in draw_all(make_view(cut=3)):
        assert chart.svg is not None
        assert chart.table is not None
        assert chart.table.rows
        assert {len(row) for row in chart.table.rows} == {len(chart.table.head)}

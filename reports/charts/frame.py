"""
What all charts share: the time axis, the shading of the faults, and the shape of a finished chart.

A chart is one file with one function, `draw(view) -> Chart`. It draws on a canvas of the common width whose plot area
begins at `LEFT`, so that the charts stack into one picture above one time axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from reports.episodes import FaultView
from reports.svg import LEFT, PLOT_WIDTH, RIGHT, WIDTH, Canvas, Scale, number, ticks
from reports.timeline import Timeline

__all__ = [
    "AXIS",
    "Chart",
    "Key",
    "Table",
    "axis_below",
    "canvas_over_time",
    "css_of",
    "rows_of",
    "time_scale",
    "y_axis",
]

AXIS = 22
"""Height of the tick labels below a plot."""

_KNOWN = ("gemini", "claude", "openai", "local", "refused", "failed", "unknown")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a legend: a swatch (`box`, `line` or `mark`) with its CSS class, and its meaning."""

    shape: str
    css: str
    label: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The chart's figures as text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A finished chart. `svg` is None when there is nothing to draw, and then `remark` says why."""

    name: str
    heading: str
    remark: str = ""
    """One sentence on how to read it."""
    svg: Markup | None
    keys: tuple[Key, ...] = ()
    table: Table | None = None


def css_of(who: str, names: Sequence[str]) -> str:
    """Return the class that colours a provider (or `refused`, `failed`); strangers take turns with three spare ones."""
    if who in _KNOWN:
        return f"c-{who}"
    strangers = [name for name in names if name not in _KNOWN]
    return f"c-other{strangers.index(who) % 3 if who in strangers else 0}"


def time_scale(line: Timeline) -> Scale:
    """Return the map from seconds to x."""
    return Scale(line.start_s, line.end_s, LEFT, WIDTH - RIGHT)


def canvas_over_time(
    name: str, plot_height: int, title: str, description: str, line: Timeline, faults: Sequence[FaultView]
) -> Canvas:
    """Return a canvas with the faults' shading, the axis of time below the plot, and a hidden line for the pointer."""
    canvas = Canvas(name, plot_height + AXIS, title, description, plot=plot_height)
    x = time_scale(line)
    canvas.rect(LEFT, 0, PLOT_WIDTH, plot_height, "plot")
    spans = [
        (episode.active_s, line.end_s if episode.healed_s is None else episode.healed_s)
        for fault in faults
        for episode in fault.episodes
        if episode.active_s is not None
    ]
    for start_s, end_s in _united(spans):
        canvas.rect(x(start_s), 0, max(x(end_s) - x(start_s), 1), plot_height, "shade")
    for moment in dict.fromkeys(x(moment) for span in spans for moment in span):
        canvas.line(moment, 0, moment, plot_height, "shade-edge", above=True)
    axis_below(canvas, plot_height, line)
    canvas.line(LEFT, 0, LEFT, plot_height, "cursor", fixed=True)
    return canvas


def _united(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the stretches that the spans cover: one tone wherever any fault is in force, however many there are."""
    united: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if united and start_s <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end_s))
        else:
            united.append((start_s, end_s))
    return united


def axis_below(canvas: Canvas, plot_height: int, line: Timeline) -> None:
    """Add the base line, the ticks and their labels; the unit stands at the end."""
    x = time_scale(line)
    canvas.line(LEFT, plot_height, WIDTH - RIGHT, plot_height, "base", fixed=True)
    for moment in ticks(line.start_s, line.end_s, 16):
        place = x(moment)
        canvas.line(place, plot_height, place, plot_height + 4, "base notch", fixed=True)
        canvas.text(place, plot_height + 17, number(moment, 2), "tick time", anchor="middle")
    canvas.text(WIDTH - RIGHT + 22, plot_height + 17, "seconds", "tick unit")


def y_axis(canvas: Canvas, y: Scale, marks: Sequence[tuple[float, str]]) -> None:
    """Add grid lines with their labels at the left."""
    for value, label in marks:
        place = y(value)
        canvas.line(LEFT, place, WIDTH - RIGHT, place, "grid")
        canvas.text(LEFT - 8, place + 4, label, "tick", anchor="end")


def rows_of(line: Timeline, *columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return one row a bucket: its start in seconds, then one cell of each column."""
    starts = [number(bucket.start_s, 2) for bucket in line.buckets]
    return tuple(zip(starts, *columns, strict=True))

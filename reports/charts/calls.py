"""Chart: calls that reached each provider, as small multiples on one scale."""

from __future__ import annotations

from reports.charts.frame import Chart, Table, canvas_over_time, css_of, rows_of, time_scale
from reports.model import RunView
from reports.svg import LEFT, RIGHT, WIDTH, Canvas, number

__all__ = ["draw"]

_ROW = 44
_ROWS_MAX = 10
_SOURCES = {"call": "as the providers saw them", "attempt": "as the router reported them"}


def draw(view: RunView) -> Chart:
    """Draw one row of bars a provider, all on the scale of the busiest."""
    line = view.timeline
    heading = "Calls to each provider"
    if line.calls_seen_by is None:
        return Chart(name="calls", heading=heading, remark="Not observed: nobody reports calls here.", svg=None)
    names = list(line.providers)
    totals = {name: sum(bucket.calls.get(name, 0) for bucket in line.buckets) for name in names}
    most = max((bucket.calls.get(name, 0) for bucket in line.buckets for name in names), default=0)
    if not most:
        return Chart(name="calls", heading=heading, remark="No provider was called.", svg=None)
    shown = names[:_ROWS_MAX]
    description = "Calls in the whole run: " + ", ".join(f"{name} {totals[name]}" for name in names) + "."
    canvas = canvas_over_time("calls", _ROW * len(shown), heading, description, line, view.faults)
    for row, name in enumerate(shown):
        _row(canvas, view, name, row * _ROW, most)
        canvas.text(WIDTH - RIGHT + 8, row * _ROW + _ROW / 2 + 8, f"{totals[name]} calls", "label")
    source = _SOURCES[line.calls_seen_by]
    return Chart(
        name="calls",
        heading=heading,
        remark=f"In each step, {source}; the highest bar is {number(most / line.step_s)} calls a second.",
        svg=canvas.render(),
        table=Table(
            head=("from (s)", *names),
            rows=rows_of(line, *([str(bucket.calls.get(name, 0)) for bucket in line.buckets] for name in names)),
        ),
    )


def _row(canvas: Canvas, view: RunView, name: str, top: int, most: int) -> None:
    line = view.timeline
    x = time_scale(line)
    bottom = top + _ROW
    canvas.line(LEFT, bottom, WIDTH - RIGHT, bottom, "grid")
    canvas.text(LEFT - 8, top + _ROW / 2 + 8, name, "tick name", anchor="end")
    parts: list[str] = []
    for bucket in line.buckets:
        count = bucket.calls.get(name, 0)
        if count:
            left, right = x(bucket.start_s), x(bucket.start_s + line.step_s)
            width = number(max(right - left - 0.6, 0.4))
            height = number(max((_ROW - 8) * count / most, 1))
            parts.append(f"M{number(left)} {bottom}v-{height}h{width}v{height}z")
    canvas.path("".join(parts), f"bar {css_of(name, view.names)}")

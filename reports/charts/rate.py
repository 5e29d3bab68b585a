"""Chart: requests a second that were due, sent, and answered whole."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.frame import Chart, Key, Table, canvas_over_time, rows_of, time_scale, y_axis
from reports.model import RunView
from reports.svg import Canvas, Scale, number, ticks
from reports.timeline import Timeline

__all__ = ["draw"]

_HEIGHT = 150


def draw(view: RunView) -> Chart:
    """Draw the rates as steps: due (the plan), sent (the generator), answered whole (the client)."""
    line = view.timeline
    heading = "Requests a second"
    if not view.requests_total:
        return Chart(name="rate", heading=heading, remark="No request was made.", svg=None)
    due = [bucket.intended / line.step_s for bucket in line.buckets]
    sent = [bucket.sent / line.step_s for bucket in line.buckets]
    whole = [bucket.whole / line.step_s for bucket in line.buckets]
    top = max(*due, *sent, *whole) * 1.08
    y = Scale(0, top, _HEIGHT, 4)
    description = (
        f"Up to {number(max(due))} requests a second were due, up to {number(max(sent))} sent "
        f"and up to {number(max(whole))} answered whole, in steps of {number(line.step_s, 2)} s."
    )
    canvas = canvas_over_time("rate", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, f"{number(value)}/s") for value in ticks(0, top, 4)])
    _area(canvas, line, whole, y)
    _steps(canvas, line, sent, y, "rate-sent")
    _steps(canvas, line, due, y, "rate-due")
    return Chart(
        name="rate",
        heading=heading,
        remark=f"In steps of {number(line.step_s, 2)} s; an answer counts when it has ended.",
        svg=canvas.render(),
        keys=(
            Key(shape="line", css="rate-due", label="due"),
            Key(shape="line", css="rate-sent", label="sent"),
            Key(shape="box", css="rate-whole", label="answered whole"),
        ),
        table=Table(
            head=("from (s)", "due /s", "sent /s", "whole /s"),
            rows=rows_of(line, *([number(value, 2) for value in values] for values in (due, sent, whole))),
        ),
    )


def _corners(line: Timeline, values: Sequence[float], y: Scale) -> list[tuple[float, float]]:
    x = time_scale(line)
    points: list[tuple[float, float]] = []
    for bucket, value in zip(line.buckets, values, strict=True):
        points += [(x(bucket.start_s), y(value)), (x(bucket.start_s + line.step_s), y(value))]
    return points


def _steps(canvas: Canvas, line: Timeline, values: Sequence[float], y: Scale, css: str) -> None:
    canvas.polyline(_corners(line, values, y), css)


def _area(canvas: Canvas, line: Timeline, values: Sequence[float], y: Scale) -> None:
    points = _corners(line, values, y)
    canvas.polyline([(points[0][0], y(0)), *points, (points[-1][0], y(0))], "rate-whole")

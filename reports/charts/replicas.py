"""Chart: pods that are ready, replicas that the autoscaler wants, and pods that were killed."""

from __future__ import annotations

from reports.charts.frame import Chart, Key, Table, canvas_over_time, rows_of, time_scale, y_axis
from reports.model import RunView
from reports.svg import Scale, number, ticks

__all__ = ["draw"]

_HEIGHT = 120
_KILLS_MAX = 200


def draw(view: RunView) -> Chart | None:
    """Draw the ready pods as an area, the wanted ones as a line, a cross a kill; None where there are no pods."""
    found, line = view.replicas, view.timeline
    if found is None:
        return None
    heading = "Replicas"
    wanted = [value for value in found.desired if value is not None]
    top = max(*found.ready, *wanted, 1) * 1.2
    x, y = time_scale(line), Scale(0, top, _HEIGHT, 4)
    description = f"Between {min(found.ready)} and {max(found.ready)} pods were ready; {len(found.kills)} were killed."
    canvas = canvas_over_time("replicas", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, number(value)) for value in ticks(0, top, 4) if value == int(value)])
    area: list[tuple[float, float]] = []
    wish: list[tuple[float, float]] = []
    for bucket, ready, desired in zip(line.buckets, found.ready, found.desired, strict=True):
        left, right = x(bucket.start_s), x(bucket.start_s + line.step_s)
        area += [(left, y(ready)), (right, y(ready))]
        if desired is not None:
            wish += [(left, y(desired)), (right, y(desired))]
    canvas.polyline([(area[0][0], y(0)), *area, (area[-1][0], y(0))], "rate-whole")
    canvas.polyline(wish, "rate-due")
    marks = "".join(
        f"M{number(x(kill.at_s))} {number(_HEIGHT - 10)}m-3.5-3.5l7 7m0-7l-7 7" for kill in found.kills[:_KILLS_MAX]
    )
    canvas.path(marks, "m-failed")
    return Chart(
        name="replicas",
        heading=heading,
        remark="At the end of each step.",
        svg=canvas.render(),
        keys=(
            Key(shape="box", css="rate-whole", label="ready"),
            Key(shape="line", css="rate-due", label="wanted by the autoscaler"),
            Key(shape="cross", css="m-failed", label="killed, told to end without grace, or ended with an error"),
        ),
        table=Table(
            head=("from (s)", "ready", "wanted", "killed"),
            rows=rows_of(
                line,
                [str(value) for value in found.ready],
                ["–" if value is None else str(value) for value in found.desired],
                [
                    ", ".join(
                        f"{kill.pod} ({'no grace' if kill.code is None else kill.code})"
                        for kill in found.kills
                        if bucket.start_s <= kill.at_s < bucket.start_s + line.step_s
                    )
                    for bucket in line.buckets
                ],
            ),
        ),
    )

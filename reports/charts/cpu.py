"""Chart: the CPU that the pods used, as the autoscaler saw it, against what it aims at."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.frame import Chart, Key, Table, canvas_over_time, rows_of, time_scale, y_axis
from reports.model import RunView
from reports.svg import RIGHT, WIDTH, Canvas, Scale, number, ticks

__all__ = ["draw"]

_HEIGHT = 110


def draw(view: RunView) -> Chart | None:
    """Draw the CPU in per cent of what the pods request and the target; None where nobody told the CPU."""
    found, line = view.replicas, view.timeline
    if found is None or not any(value is not None for value in (*found.utilization, *found.cpu_milli)):
        return None
    heading = "CPU of the pods"
    seen = [value for value in found.utilization if value is not None]
    # Without an autoscaler only the metrics server has told something: cores of all pods together.
    is_share = bool(seen)
    used: Sequence[float | None] = found.utilization
    unit = "%"
    if not is_share:
        used, unit = [None if value is None else value / 1000 for value in found.cpu_milli], " CPU"
    aims = found.target if is_share else (None,) * len(found.target)
    most = max(value for value in used if value is not None)
    top = max(most, *(value for value in aims if value is not None), 0.01) * 1.1
    y, x = Scale(0, top, _HEIGHT, 4), time_scale(line)
    against = f", against a target of {aims[-1]} %" if aims[-1] is not None else ""
    description = f"At most {number(most, 2)}{unit} was used{against}."
    canvas = canvas_over_time("cpu", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, f"{number(value, 2)}{unit}") for value in ticks(0, top, 3)])
    lefts = [x(bucket.start_s) for bucket in line.buckets]
    rights = [x(bucket.start_s + line.step_s) for bucket in line.buckets]
    _steps(canvas, y, lefts, rights, used, "cpu")
    _steps(canvas, y, lefts, rights, aims, "spend-limit")
    if aims[-1] is not None:
        canvas.text(WIDTH - RIGHT + 8, y(aims[-1]) + 4, f"{aims[-1]} %", "label")
    keys = (Key(shape="line", css="cpu", label="used" if not is_share else "used, of what the pods request"),)
    return Chart(
        name="cpu",
        heading=heading,
        remark="At the end of each step: the share as the autoscaler saw it, cores as the metrics server answered.",
        svg=canvas.render(),
        keys=(*keys, Key(shape="line", css="spend-limit", label="target")) if is_share else keys,
        table=Table(
            head=("from (s)", "used (% of the request)", "target (%)", "CPU (cores)"),
            rows=rows_of(
                line,
                ["–" if value is None else str(value) for value in found.utilization],
                ["–" if value is None else str(value) for value in found.target],
                ["–" if value is None else number(value / 1000, 3) for value in found.cpu_milli],
            ),
        ),
    )


def _steps(
    canvas: Canvas, y: Scale, lefts: Sequence[float], rights: Sequence[float], values: Sequence[float | None], css: str
) -> None:
    """Draw a line with steps, from where there is something to draw."""
    places = [
        place
        for left, right, value in zip(lefts, rights, values, strict=True)
        if value is not None
        for place in ((left, y(value)), (right, y(value)))
    ]
    if places:
        canvas.polyline(places, css)

"""Chart: who answered, as shares of the requests that were due in each step."""

from __future__ import annotations

from reports.charts.frame import Chart, Key, Table, canvas_over_time, css_of, rows_of, time_scale, y_axis
from reports.model import RunView
from reports.svg import Canvas, Scale, number

__all__ = ["draw"]

_HEIGHT = 160


def draw(view: RunView) -> Chart:
    """Draw one stacked bar a step: providers in chain order from below, then refused, then failed."""
    line = view.timeline
    heading = "Who answered"
    if not view.requests_total:
        return Chart(name="served", heading=heading, remark="No request was made.", svg=None)
    totals = {name: sum(bucket.served.get(name, 0) for bucket in line.buckets) for name in view.names}
    names = [name for name in view.names if totals[name]]
    description = "Of all requests: " + ", ".join(
        f"{name} {number(100 * totals[name] / view.requests_total)} %" for name in names
    )
    canvas = canvas_over_time("served", _HEIGHT, heading, description + ".", line, view.faults)
    y = Scale(0, 1, _HEIGHT, 0)
    _bars(canvas, view, names)
    y_axis(canvas, y, [(0, "0 %"), (0.5, "50 %"), (1, "100 %")])
    return Chart(
        name="served",
        heading=heading,
        remark="Share of the requests that were due in each step.",
        svg=canvas.render(),
        keys=tuple(Key(shape="box", css=css_of(name, view.names), label=f"{name} ({totals[name]})") for name in names),
        table=Table(
            head=("from (s)", "due", *names),
            rows=rows_of(
                line,
                [str(bucket.intended) for bucket in line.buckets],
                *([str(bucket.served.get(name, 0)) for bucket in line.buckets] for name in names),
            ),
        ),
    )


def _bars(canvas: Canvas, view: RunView, names: list[str]) -> None:
    """Draw neighbouring bars of one provider as one path: a report holds thousands of them."""
    line = view.timeline
    x = time_scale(line)
    paths: dict[str, list[str]] = {name: [] for name in names}
    for bucket in line.buckets:
        if not bucket.intended:
            continue
        left, right = x(bucket.start_s), x(bucket.start_s + line.step_s)
        width = number(max(right - left - 0.6, 0.4))
        below = 0
        for name in names:
            count = bucket.served.get(name, 0)
            if not count:
                continue
            top = _HEIGHT * (1 - (below + count) / bucket.intended)
            bottom = _HEIGHT * (1 - below / bucket.intended)
            paths[name].append(f"M{number(left)} {number(top)}h{width}V{number(bottom)}h-{width}z")
            below += count
    for name, parts in paths.items():
        canvas.path("".join(parts), f"bar {css_of(name, view.names)}")

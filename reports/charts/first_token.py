"""Chart: the time to the first token of streams, from the moment a request was due."""

from __future__ import annotations

from reports.charts.frame import Chart, Table, canvas_over_time, rows_of, y_axis
from reports.charts.percentiles import columns_of, milliseconds, percentile_lines
from reports.model import RunView
from reports.svg import Scale, log_ticks, number, seconds_text

__all__ = ["draw"]

_HEIGHT = 150


def draw(view: RunView) -> Chart | None:
    """Draw three percentiles of whole streams; None where nothing was streamed."""
    line = view.timeline
    found = [value for bucket in line.buckets for value in bucket.first_tokens_s]
    if not found:
        return None
    heading = "Time to first token"
    low = max(min(found), 0.0001)
    y = Scale(low / 1.25, max(*found, low * 2) * 1.25, _HEIGHT, 0, log=True)
    columns = columns_of([bucket.first_tokens_s for bucket in line.buckets])
    description = f"{len(found)} whole streams; the slowest first token took {seconds_text(max(found))}."
    canvas = canvas_over_time("first-token", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, seconds_text(value)) for value in log_ticks(y.low, y.high)])
    percentile_lines(canvas, line, columns, y, _HEIGHT)
    return Chart(
        name="first-token",
        heading=heading,
        remark=f"Of whole streams, percentiles of each {number(line.step_s, 2)} s. Logarithmic scale.",
        svg=canvas.render(),
        table=Table(
            head=("from (s)", "streams", "p50 (ms)", "p95 (ms)", "p99 (ms)"),
            rows=rows_of(
                line,
                [str(len(bucket.first_tokens_s)) for bucket in line.buckets],
                *([milliseconds(value) for value in column] for column in columns),
            ),
        ),
    )

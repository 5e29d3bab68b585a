"""Three percentiles over time, as lines told apart by their strokes: what the charts of durations share."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.frame import time_scale
from reports.svg import RIGHT, WIDTH, Canvas, Scale
from reports.timeline import Timeline, percentile

__all__ = ["SHARES", "columns_of", "milliseconds", "percentile_lines"]

SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def columns_of(buckets: Sequence[Sequence[float]]) -> list[list[float | None]]:
    """Return one list a percentile, with its value in each step; `buckets` are sorted durations."""
    return [[percentile(values, share) for values in buckets] for share, _ in SHARES]


def milliseconds(value_s: float | None) -> str:
    """Return a duration for a table in milliseconds; a dash where there is none."""
    return "–" if value_s is None else f"{value_s * 1000:.0f}"


def percentile_lines(
    canvas: Canvas, line: Timeline, columns: Sequence[Sequence[float | None]], y: Scale, height: int
) -> None:
    """Add the lines, each broken where a step has no answer, and their names at the right without overlap."""
    x = time_scale(line)
    labels: list[tuple[float, str]] = []
    for (_, name), column in zip(SHARES, columns, strict=True):
        run: list[tuple[float, float]] = []
        last = 0.0
        for bucket, value in zip(line.buckets, column, strict=True):
            if value is None:
                canvas.polyline(run, f"line {name}")
                run = []
                continue
            last = y(value)
            run.append((x(bucket.start_s + line.step_s / 2), last))
        canvas.polyline(run, f"line {name}")
        if any(value is not None for value in column):
            labels.append((last, name))
    floor = float(height + 2)
    for place, name in sorted(labels, reverse=True):
        floor = min(place, floor - 14)
        canvas.line(WIDTH - RIGHT + 8, floor, WIDTH - RIGHT + 30, floor, f"line {name}", fixed=True)
        canvas.text(WIDTH - RIGHT + 36, floor + 4, name, "label")

"""The charts of a run, one small file each, stacked above one time axis."""

from __future__ import annotations

from reports.charts import breakers, calls, faults, latency, rate, served
from reports.charts.frame import Chart, Key, Table
from reports.model import RunView

__all__ = ["Chart", "Key", "Table", "draw_all"]

_CHARTS = (faults, rate, latency, served, breakers, calls)
"""In the order of the page."""


def draw_all(view: RunView) -> tuple[Chart, ...]:
    """Draw every chart of a run. Pure."""
    return tuple(chart.draw(view) for chart in _CHARTS)

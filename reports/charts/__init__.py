"""The charts of a run, one small file each, stacked above one time axis."""

from __future__ import annotations

from reports.charts import breakers, calls, cpu, faults, first_token, latency, rate, replicas, served, spend
from reports.charts.frame import Chart, Key, Table
from reports.model import RunView

__all__ = ["Chart", "Key", "Table", "draw_all"]

_CHARTS = (faults, rate, latency, first_token, served, breakers, calls, spend, replicas, cpu)
"""In the order of the page; one that has nothing to do with the run draws nothing."""


def draw_all(view: RunView) -> tuple[Chart, ...]:
    """Draw every chart of a run. Pure."""
    drawn = (chart.draw(view) for chart in _CHARTS)
    return tuple(chart for chart in drawn if chart is not None)

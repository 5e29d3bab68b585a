"""Chart: what was spent or reserved of the day's budget, against its limit."""

from __future__ import annotations

from reports.charts.frame import Chart, Key, Table, canvas_over_time, rows_of, time_scale, y_axis
from reports.model import RunView
from reports.svg import RIGHT, WIDTH, Scale, number, ticks

__all__ = ["draw"]

_HEIGHT = 110


def draw(view: RunView) -> Chart | None:
    """Draw the spending as an area and the limit as a line; None where the budget played no part."""
    spending, line = view.spending, view.timeline
    if spending is None:
        return None
    heading = "Spent and reserved, against the limit"
    top = max(*spending.spent_usd, *spending.limit_usd, 1e-6) * 1.1
    y = Scale(0, top, _HEIGHT, 4)
    description = f"At most {_usd(max(spending.spent_usd))} of {_usd(max(spending.limit_usd))}."
    canvas = canvas_over_time("spend", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, _usd(value)) for value in ticks(0, top, 3)])
    x = time_scale(line)
    corners: dict[str, list[tuple[float, float]]] = {"spend": [], "spend-limit": []}
    for bucket, spent, limit in zip(line.buckets, spending.spent_usd, spending.limit_usd, strict=True):
        left, right = x(bucket.start_s), x(bucket.start_s + line.step_s)
        corners["spend"] += [(left, y(spent)), (right, y(spent))]
        corners["spend-limit"] += [(left, y(limit)), (right, y(limit))]
    area = corners["spend"]
    canvas.polyline([(area[0][0], y(0)), *area, (area[-1][0], y(0))], "spend")
    canvas.polyline(corners["spend-limit"], "spend-limit")
    end_usd = spending.limit_usd[-1]
    canvas.text(WIDTH - RIGHT + 8, y(end_usd) + 4, _usd(end_usd), "label")
    each = f" The {spending.stores} workers have a limit each; both are added up." if spending.stores > 1 else ""
    return Chart(
        name="spend",
        heading=heading,
        remark=f"The most in each step, as the budget's store said it, beside the least limit of that step.{each}",
        svg=canvas.render(),
        keys=(
            Key(shape="box", css="spend", label="spent and reserved"),
            Key(shape="line", css="spend-limit", label="limit"),
        ),
        table=Table(
            head=("from (s)", "spent and reserved (USD)", "limit (USD)"),
            rows=rows_of(
                line,
                [number(value, 6) for value in spending.spent_usd],
                [number(value, 6) for value in spending.limit_usd],
            ),
        ),
    )


def _usd(value: float) -> str:
    return f"${number(value, 6 if value < 0.01 else 2)}"

"""Chart: how long each request took, from the moment it was due, on a logarithmic scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.charts.frame import Chart, Key, Table, canvas_over_time, css_of, rows_of, time_scale, y_axis
from reports.charts.percentiles import columns_of, milliseconds, percentile_lines
from reports.model import Mark, RunView
from reports.svg import Canvas, Scale, log_ticks, number, seconds_text

__all__ = ["draw"]

_HEIGHT = 260
_DOTS_MAX = 2500
"""Above this many answers the dots become a heat map."""
_CROSSES_MAX = 1500


def draw(view: RunView) -> Chart:
    """Draw a dot an answer (or a heat map of many), a cross a failure, a ring a refusal, and three percentiles."""
    line = view.timeline
    heading = "Latency, from the moment a request was due"
    marks = view.marks
    if not marks:
        return Chart(name="latency", heading=heading, remark="No request was made.", svg=None)
    low = max(min(mark.latency_s for mark in marks), 0.0001)
    high = max(*(mark.latency_s for mark in marks), low * 2)
    y = Scale(low / 1.25, high * 1.25, _HEIGHT, 0, log=True)
    columns = columns_of([bucket.latencies_s for bucket in line.buckets])
    whole = [mark for mark in marks if mark.kind == "whole"]
    missed = [mark for mark in marks if mark.kind != "whole"]
    description = (
        f"{len(whole)} answers and {len(missed)} requests without a whole answer; the slowest answer took "
        f"{seconds_text(max((mark.latency_s for mark in whole), default=0.0))}."
    )
    canvas = canvas_over_time("latency", _HEIGHT, heading, description, line, view.faults)
    y_axis(canvas, y, [(value, seconds_text(value)) for value in log_ticks(y.low, y.high)])
    heat = len(whole) > _DOTS_MAX
    if heat:
        _heat(canvas, view, whole, y)
    else:
        _dots(canvas, view, whole, y)
    _missed(canvas, view, missed, y)
    percentile_lines(canvas, line, columns, y, _HEIGHT)
    return Chart(
        name="latency",
        heading=heading,
        remark=_remark(view, heat=heat),
        svg=canvas.render(),
        keys=_keys(view, missed, heat=heat),
        table=Table(
            head=("from (s)", "answers", "p50 (ms)", "p95 (ms)", "p99 (ms)", "not answered whole"),
            rows=rows_of(
                line,
                [str(len(bucket.latencies_s)) for bucket in line.buckets],
                *([milliseconds(value) for value in column] for column in columns),
                [str(bucket.intended - len(bucket.latencies_s)) for bucket in line.buckets],
            ),
        ),
    )


def _remark(view: RunView, *, heat: bool) -> str:
    what = "Darker means more answers" if heat else "One dot an answer"
    few = max((len(bucket.latencies_s) for bucket in view.timeline.buckets), default=0) < 100
    more = " (of fewer than 100 answers a step, so p99 is the slowest)" if few else ""
    return f"{what}; lines are percentiles of each {number(view.timeline.step_s, 2)} s{more}. Logarithmic scale."


def _keys(view: RunView, missed: Sequence[Mark], *, heat: bool) -> tuple[Key, ...]:
    keys: list[Key] = []
    if heat:
        keys += [
            Key(shape="box", css="heat heat1", label="few answers"),
            Key(shape="box", css="heat heat4", label="many"),
        ]
    else:
        who = Counter(mark.who for mark in view.marks if mark.kind == "whole")
        keys += [Key(shape="dot", css=css_of(name, view.names), label=name) for name in view.names if who.get(name)]
    kinds = {mark.kind for mark in missed}
    if "failed" in kinds:
        keys.append(Key(shape="cross", css="m-failed", label="lost, cut or wrong"))
    if "refused" in kinds:
        keys.append(Key(shape="ring", css="m-refused", label="refused"))
    return tuple(keys)


def _dots(canvas: Canvas, view: RunView, marks: Sequence[Mark], y: Scale) -> None:
    x = time_scale(view.timeline)
    for name in view.names:
        points = [(x(mark.at_s), y(mark.latency_s)) for mark in marks if mark.who == name]
        canvas.dots(points, f"dots {css_of(name, view.names)}")


def _heat(canvas: Canvas, view: RunView, marks: Sequence[Mark], y: Scale) -> None:
    """Fill cells of one bucket by a twentieth of the height, in five strengths by the root of their count."""
    line = view.timeline
    x = time_scale(line)
    cell = _HEIGHT / 26
    count: Counter[tuple[int, int]] = Counter()
    for mark in marks:
        column = min(int((mark.at_s - line.start_s) / line.step_s), len(line.buckets) - 1)
        count[column, min(int(y(mark.latency_s) / cell), 25)] += 1
    most = max(count.values())
    width = x(line.start_s + line.step_s) - x(line.start_s)
    levels: dict[int, list[str]] = {}
    for (column, row), n in sorted(count.items()):
        level = min(int((n / most) ** 0.5 * 5), 4)
        place = f"M{number(x(line.buckets[column].start_s))} {number(row * cell)}"
        levels.setdefault(level, []).append(f"{place}h{number(width)}v{number(cell)}h-{number(width)}z")
    for level, cells in sorted(levels.items()):
        canvas.path("".join(cells), f"heat heat{level}")


def _missed(canvas: Canvas, view: RunView, marks: Sequence[Mark], y: Scale) -> None:
    x = time_scale(view.timeline)
    for kind, shape in (("refused", "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0"), ("failed", "m-3.5-3.5l7 7m0-7l-7 7")):
        points = dict.fromkeys((x(mark.at_s), y(mark.latency_s)) for mark in marks if mark.kind == kind)
        kept = list(points)[:: max(len(points) // _CROSSES_MAX, 1)]
        canvas.path("".join(f"M{number(px)} {number(py)}{shape}" for px, py in kept), f"m-{kind}")

"""Chart: when each fault was planned, injected, in force and healed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import escape

from reports.charts.frame import Chart, Key, Table, canvas_over_time, time_scale
from reports.episodes import Episode, FaultView
from reports.model import RunView
from reports.svg import LEFT, RIGHT, WIDTH, Canvas, Scale, clean, number, text_width
from reports.timeline import Timeline

__all__ = ["Lane", "draw", "lanes_of"]

_LANE = 40
_LANES_MAX = 14
_GAP = 10.0


class Lane(msgspec.Struct, kw_only=True):
    """One row of the chart: the faults in it, each with the x where its label begins, never overlap."""

    faults: list[tuple[FaultView, float]] = []
    taken: list[tuple[float, float]] = []


def draw(view: RunView) -> Chart:
    """Draw one bar an episode, its label above it; faults that overlap stand in lanes."""
    heading = "Faults"
    if not view.faults:
        return Chart(name="faults", heading=heading, remark="No fault was injected in this run.", svg=None)
    line = view.timeline
    lanes = lanes_of(view.faults, line)
    shown = lanes[:_LANES_MAX]
    hidden = sum(len(lane.faults) for lane in lanes[_LANES_MAX:])
    description = "; ".join(_sentence(fault) for fault in view.faults[:20]) + "."
    canvas = canvas_over_time("faults", _LANE * len(shown) + 4, heading, description, line, view.faults)
    for row, lane in enumerate(shown):
        for fault, label_x in lane.faults:
            _fault(canvas, view, fault, label_x, row * _LANE)
    return Chart(
        name="faults",
        heading=heading,
        remark=f"{hidden} more faults are in the table." if hidden else "Times as measured, not as planned.",
        svg=canvas.render(),
        keys=(
            Key(shape="box", css="f-planned", label="planned"),
            Key(shape="box", css="f-injecting", label="injecting"),
            Key(shape="box", css="f-active", label="in force"),
            Key(shape="box", css="f-healing", label="healing"),
            Key(shape="tick", css="f-healed", label="healed"),
        ),
        table=Table(
            head=("fault", "target", "planned (s)", "injecting (s)", "active (s)", "healing (s)", "healed (s)", "met"),
            rows=tuple(_row(fault, episode) for fault in view.faults for episode in fault.episodes),
        ),
    )


def lanes_of(faults: Sequence[FaultView], line: Timeline) -> list[Lane]:
    """Put each fault into the first lane where neither its bars nor its label touch another's."""
    x = time_scale(line)
    lanes: list[Lane] = []
    for fault in faults:
        left = min((x(episode.start_s) for episode in fault.episodes), default=float(LEFT))
        right = max((x(_end(episode, line)) for episode in fault.episodes), default=left)
        width = text_width(_label(fault))
        label_x = max(min(left, WIDTH - RIGHT - width), float(LEFT))
        span = (min(left, label_x) - _GAP, max(right, label_x + width) + _GAP)
        lane = next((lane for lane in lanes if all(span[1] <= a or span[0] >= b for a, b in lane.taken)), None)
        if lane is None:
            lane = Lane()
            lanes.append(lane)
        lane.faults.append((fault, label_x))
        lane.taken.append(span)
    return lanes


def _label(fault: FaultView) -> str:
    times = f" ×{len(fault.episodes)}" if len(fault.episodes) > 1 else ""
    return f"{fault.id} → {fault.target}{times}"


def _end(episode: Episode, line: Timeline) -> float:
    planned = episode.planned_end_s
    measured = line.end_s if episode.healed_s is None else episode.healed_s
    return measured if planned is None else max(planned, measured)


def _fault(canvas: Canvas, view: RunView, fault: FaultView, label_x: float, top: int) -> None:
    x = time_scale(view.timeline)
    canvas.text(label_x, top + 14, _label(fault), "label strong", moves=True)
    start_s = min((episode.start_s for episode in fault.episodes), default=0.0)
    end_s = max((_end(episode, view.timeline) for episode in fault.episodes), default=start_s)
    data = f'data-fault="{escape(clean(fault.id))}" data-from="{number(start_s, 3)}" data-to="{number(end_s, 3)}"'
    canvas.begin_link("requests", f"Fault {fault.id} at {fault.target}: show only its requests", data)
    for episode in fault.episodes:
        _episode(canvas, view.timeline, fault, episode, x, top + 20)
    canvas.end_link()


def _episode(canvas: Canvas, line: Timeline, fault: FaultView, episode: Episode, x: Scale, top: int) -> None:
    if episode.planned_start_s is not None and episode.planned_end_s is not None:
        left, right = x(episode.planned_start_s), x(episode.planned_end_s)
        canvas.rect(left, top + 13, max(right - left, 2), 3, "f-planned")
    until = line.end_s
    stages = [
        ("f-injecting", episode.injecting_s, episode.active_s if episode.active_s is not None else episode.healing_s),
        ("f-active", episode.active_s, episode.healing_s),
        ("f-healing", episode.healing_s, episode.healed_s),
    ]
    for css, start, end in stages:
        if start is None:
            continue
        stop = next((moment for moment in (end, episode.healed_s) if moment is not None), until)
        left, right = x(start), x(stop)
        what = f"{fault.id}: {css[2:]} {number(start, 2)}–{number(stop, 2)} s"
        canvas.rect(left, top, max(right - left, 2), 12, css, title=what)
    if episode.healed_s is not None:
        place = x(episode.healed_s)
        canvas.line(place, top - 3, place, top + 15, "f-healed")


def _sentence(fault: FaultView) -> str:
    first = fault.episodes[0] if fault.episodes else None
    if first is None or first.active_s is None:
        return f"{fault.id} at {fault.target} never became active"
    end = "was not healed" if first.healed_s is None else f"healed at {number(first.healed_s)} s"
    return f"{fault.id} at {fault.target} was in force from {number(first.active_s)} s and {end}"


def _row(fault: FaultView, episode: Episode) -> tuple[str, ...]:
    moments = (episode.injecting_s, episode.active_s, episode.healing_s, episode.healed_s)
    planned = "–" if episode.planned_start_s is None else number(episode.planned_start_s, 2)
    met = "yes" if episode.met else "no"
    cells = ("–" if moment is None else number(moment, 2) for moment in moments)
    return (fault.id, fault.target, planned, *cells, met)

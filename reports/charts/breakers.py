"""Chart: the state of every breaker, and when its provider was called slow."""

from __future__ import annotations

from reports.breakers import BreakerStrip
from reports.charts.frame import Chart, Key, Table, canvas_over_time, time_scale
from reports.model import RunView
from reports.svg import LEFT, Canvas, number

__all__ = ["draw"]

_ROW = 26
_ROWS_MAX = 12
_LETTERS = {"closed": "C", "open": "O", "half_open": "H"}
_LANE = 5
"""Height of the lane that tells of slowness, at the foot of a strip: a provider may be slow and its breaker closed."""


def draw(view: RunView) -> Chart:
    """Draw one strip a breaker; state is told by fill, pattern and letter."""
    heading = "Circuit breakers"
    if view.strips is None:
        return Chart(
            name="breakers", heading=heading, remark="Not observed: this system does not report breakers.", svg=None
        )
    if not view.strips:
        return Chart(name="breakers", heading=heading, remark="No provider was used.", svg=None)
    shown = view.strips[:_ROWS_MAX]
    height = _ROW * len(shown)
    changes = sum(len(strip.pieces) - 1 for strip in view.strips)
    description = f"{changes} transitions of {len(view.strips)} breakers."
    canvas = canvas_over_time("breakers", height, heading, description, view.timeline, view.faults)
    for row, strip in enumerate(shown):
        _strip(canvas, view, strip, row * _ROW)
    is_slow = any(strip.slow for strip in view.strips)
    slow_words = ", S slow: others are asked first" if is_slow else ""
    slow_keys = (Key(shape="box", css="b-slow", label="slow"),) if is_slow else ()
    more = f" {len(view.strips) - len(shown)} more are in the table." if len(shown) < len(view.strips) else ""
    return Chart(
        name="breakers",
        heading=heading,
        remark=f"C closed, O open, H half-open (a single probe){slow_words}.{more}",
        svg=canvas.render(),
        keys=(
            Key(shape="box", css="b-closed", label="closed"),
            Key(shape="box", css="b-open", label="open"),
            Key(shape="box", css="b-half_open", label="half-open"),
            *slow_keys,
        ),
        table=Table(
            head=("breaker", "from (s)", "to (s)", "state", "cause"),
            rows=tuple(
                (strip.label, number(piece.start_s, 3), number(piece.end_s, 3), piece.state, piece.cause)
                for strip in view.strips
                for piece in sorted((*strip.pieces, *strip.slow), key=lambda piece: piece.start_s)
            ),
        ),
    )


def _strip(canvas: Canvas, view: RunView, strip: BreakerStrip, top: int) -> None:
    x = time_scale(view.timeline)
    canvas.text(LEFT - 8, top + _ROW / 2 + 4, strip.label, "tick name", anchor="end")
    # A probe takes milliseconds: it is drawn last, and with a least width, or nobody would see that it was there.
    for piece in sorted(strip.pieces, key=lambda piece: piece.state == "half_open"):
        left, right = x(piece.start_s), x(piece.end_s)
        title = f"{piece.state} {number(piece.start_s, 2)}–{number(piece.end_s, 2)} s {piece.cause}".strip()
        if piece.state == "half_open" and right - left < 4:
            left, right = (left + right) / 2 - 2, (left + right) / 2 + 2
        canvas.rect(left, top + 4, right - left, _ROW - 8, f"b-{piece.state}", title=title)
        letter = _LETTERS.get(piece.state, "?")
        if right - left >= 12:
            canvas.text(
                (left + right) / 2, top + _ROW / 2 + 4, letter, f"letter l-{piece.state}", anchor="middle", moves=True
            )
    for piece in strip.slow:
        left, right = x(piece.start_s), x(piece.end_s)
        title = f"slow {number(piece.start_s, 2)}–{number(piece.end_s, 2)} s {piece.cause}"
        canvas.rect(left, top + _ROW - 4 - _LANE, max(right - left, 4), _LANE, "b-slow", title=title)
        if right - left >= 12:
            canvas.text(left + 4, top + _ROW / 2 + 3, "S", "letter l-slow", moves=True)

"""
Scales, ticks and a small canvas for charts.

Pure. Every chart shares one width and one plot area, so that a moment has the same x in all of them. Colours are CSS
classes, never attributes: the page's style sheet knows about light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

__all__ = [
    "LEFT",
    "PLOT_WIDTH",
    "RIGHT",
    "WIDTH",
    "Canvas",
    "Scale",
    "clean",
    "counted",
    "log_ticks",
    "number",
    "seconds_text",
    "shortened",
    "text_width",
    "ticks",
]

WIDTH = 1000
LEFT = 64
RIGHT = 84
PLOT_WIDTH = WIDTH - LEFT - RIGHT

_ALLOWED = {0x9, 0xA}
_WORDS_MAX = 1500
"""Characters of one text in a drawing."""


def clean(text: str) -> str:
    """
    Return `text` with a mark for each character that could harm.

    These are what XML cannot hold (controls, lone surrogates, U+FFFE and U+FFFF), and what turns the direction of
    writing, so that a line would read otherwise than it is.
    """
    if text.isprintable():
        return text
    return "".join("�" if _forbidden(ord(char)) else char for char in text)


def _forbidden(code: int) -> bool:
    if code < 0x20:
        return code not in _ALLOWED
    if 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return True
    return 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code in {0xFFFE, 0xFFFF}


def shortened(text: str, most: int) -> str:
    """Return the beginning of `text`, cleaned; one that is longer than `most` characters says how long it was."""
    if len(text) <= most:
        return clean(text)
    return f"{clean(text[:most])}… ({len(text)} characters in all)"


def number(value: float, digits: int = 1) -> str:
    """Return `value` with at most `digits` decimals and no trailing zeros."""
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def counted(count: int, noun: str) -> str:
    """Return the count with its noun, in the plural where it belongs: `1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds_text(value_s: float) -> str:
    """Return a duration for people: `380 ms`, `1.2 s`, `95 s`."""
    if value_s < 0.0995:
        return f"{number(value_s * 1000, 1)} ms"
    if value_s < 0.9995:
        return f"{value_s * 1000:.0f} ms"
    return f"{number(value_s, 2 if value_s < 9.995 else 1)} s"


def text_width(text: str, size: float = 12) -> float:
    """Estimate the width of `text` in a proportional font of `size`, on the wide side."""
    wide = sum(1 for char in text if char in "mwMW@%—→" or ord(char) > 0x2E80)
    return (len(text) * 0.58 + wide * 0.35) * size


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Return at most about `most` round values from `low` to `high` (1, 2 or 5 times a power of ten apart)."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten within the limits, with 2 and 5 between them when there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


class Scale:
    """A straight or logarithmic map from [low, high] to [start, end]; values outside are held at the ends."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False) -> None:
        self.low, self.high, self.log = low, high, log
        self._start, self._end = start, end
        self._base = math.log(low) if log else low
        span = (math.log(high) if log else high) - self._base
        self._factor = (end - start) / span if span else 0.0

    def __call__(self, value: float) -> float:
        """Return the place of `value`, rounded to a tenth."""
        value = min(max(value, self.low), self.high)
        return round(self._start + ((math.log(value) if self.log else value) - self._base) * self._factor, 1)


class Canvas:
    """
    Collect the marks of one chart and write them as one SVG element.

    With a `plot` (height of the area above the axis of time) the marks are drawn inside a nested SVG as wide as the
    plot: whoever sets its `viewBox` zooms all of them. What is `fixed`, and all text, lies outside of it.
    """

    def __init__(
        self, name: str, height: int, title: str, description: str, *, width: int = WIDTH, plot: int | None = None
    ) -> None:
        self._name, self._title, self._description = name, title, description
        self._parts: list[str] = []
        self._above: list[str] = []
        self._fixed: list[str] = []
        self._plot = plot
        self.height, self.width = height, width
        self.role = "img"
        """`group` for a chart in which something can be chosen."""

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, *, title: str = "", rx: float = 0
    ) -> None:
        """Add a rectangle; `title` is what a pointer that rests on it shows."""
        corner = f' rx="{number(rx)}"' if rx else ""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" height="{number(max(height, 0))}"'
        inside = f"><title>{_escape(title)}</title></rect>" if title else "/>"
        self._parts.append(f'<rect class="{css}" {place}{corner}{inside}')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, css: str, *, above: bool = False, fixed: bool = False
    ) -> None:
        """Add a straight line; one `above` lies over all marks, whatever is added later."""
        place = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
        layer = self._fixed if fixed else self._above if above else self._parts
        layer.append(f'<line class="{css}" {place}/>')

    def path(self, data: str, css: str) -> None:
        """Add a path, unless it is empty."""
        if data:
            self._parts.append(f'<path class="{css}" d="{data}"/>')

    def polyline(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Add a line through `points`."""
        if points:
            self.path("M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), css)

    def text(self, x: float, y: float, text: str, css: str, *, anchor: str = "start", moves: bool = False) -> None:
        """
        Add a line of text that begins, is centred (`middle`) or ends (`end`) at `x`.

        One that `moves` stands at a moment, and goes with it when the charts are zoomed.
        """
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        css = f"{css} at" if moves else css
        self._fixed.append(f'<text class="{css}" x="{number(x)}" y="{number(y)}"{where}>{_escape(text)}</text>')

    def begin_link(self, target: str, label: str, data: str) -> None:
        """Begin a link around what is added until `end_link`; `data` are attributes, already escaped."""
        self.role = "group"
        self._parts.append(f'<a class="band" href="#{target}" aria-label="{_escape(label)}" {data}>')

    def end_link(self) -> None:
        """End the link."""
        self._parts.append("</a>")

    def dots(self, points: Iterable[tuple[float, float]], css: str) -> None:
        """Add one round dot a point, all in one path: the stroke's round cap draws them."""
        self.path("".join(f"M{number(x)} {number(y)}h0" for x, y in dict.fromkeys(points)), css)

    def render(self) -> Markup:
        """Return the SVG element with its accessible name and description."""
        head = (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="{self.role}" '
            f'aria-labelledby="{self._name}-t {self._name}-d">'
            f'<title id="{self._name}-t">{_escape(self._title)}</title>'
            f'<desc id="{self._name}-d">{_escape(self._description)}</desc>'
        )
        marks = "".join(self._parts + self._above)
        if self._plot is not None:
            # A little higher than the plot, so that no line along its edge is halved.
            box = f"{LEFT} -2 {PLOT_WIDTH} {self._plot + 3}"
            place = f'x="{LEFT}" y="-2" width="{PLOT_WIDTH}" height="{self._plot + 3}"'
            marks = f'<svg class="zoom" {place} viewBox="{box}" preserveAspectRatio="none">{marks}</svg>'
        return Markup(head + marks + "".join(self._fixed) + "</svg>")  # noqa: S704 - every text above went through _escape


def _escape(text: str) -> str:
    return str(escape(shortened(text, _WORDS_MAX)))

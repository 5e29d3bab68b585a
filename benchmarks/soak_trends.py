"""
Whether what processes hold grows: robust slopes of the lives of each kind of process, with a bound and a tolerance.

A life is one process from its start to its end. What a restart changes is no trend, so slopes are taken within lives
only, and the first third of a life, in which pools and caches fill, is left out. A life counts that lasts three
fifths of the run, or two minutes: what lives for a shorter time between two kills still fills them.

The slope is Theil and Sen's: the median of the slopes between all pairs of points of one life, the pairs of all lives
together. Its lower bound is Sen's (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am.
Stat. Assoc. 63, 1968), with the variance of Kendall's S added up over groups that are never compared with each other
(R. M. Hirsch, J. R. Slack, R. A. Smith, "Techniques of trend analysis for monthly water quality data", Water Resour.
Res. 18, 1982).

The bound holds for independent points. Neighbours in time are not quite, so of a long life medians of up to 60
stretches of time are compared instead of single points.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, groupby

import msgspec

__all__ = ["MEASURES", "Life", "Measure", "Point", "Slope", "Trend", "robust_slope", "settled", "trend_of"]

Point = tuple[float, float]
"""Seconds since the first sample of all, and the value."""
Life = list[Point]

SKIP = 1 / 3
"""The share of a life that is not looked at."""
_STRETCHES = 60
_POINTS_MIN = 12
_LASTING_SHARE, _LASTING_S = 0.6, 120.0
_Z = 1.645  # one-sided, 95 %


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and by how much its level may grow in the time looked at: a share of it, and at least that."""

    name: str
    unit: str
    share: float
    least: float


MEASURES = (
    Measure(name="memory", unit="MB", share=0.06, least=5.0),
    Measure(name="descriptors", unit="", share=0.1, least=15.0),
    Measure(name="threads", unit="", share=0.1, least=3.0),
    Measure(name="connections", unit="", share=0.1, least=15.0),
    Measure(name="tasks", unit="", share=0.1, least=15.0),
)
"""
On a busy machine more requests are under way at once, so pools go on filling for a while: by a dozen connections. In
the time that a short run looks at, a leak of one a request or one a fault is many times as much.
"""


class Slope(msgspec.Struct, frozen=True, kw_only=True):
    """A robust slope and its lower bound (95 %, one-sided), per second."""

    value: float
    lower: float


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How something of one kind of process went. Slopes are per minute, in the measure's own unit."""

    process: str
    measure: str
    unit: str
    lives: list[Life]
    """Every life, whole."""
    judged: int
    """How many of them lasted long enough to say something."""
    seconds: float
    """How long the longest of these was looked at."""
    level: float
    slope: float
    lower: float
    allowed: float
    """By how much it may grow in `seconds`."""

    @property
    def growth(self) -> float:
        """What the slope makes of the time looked at."""
        return self.slope * self.seconds / 60

    @property
    def visible(self) -> float:
        """The least growth a minute that this run would call one."""
        return self.allowed / self.seconds * 60

    @property
    def is_level(self) -> bool:
        """Whether it grows no more than it may, or no growth can be told from chance."""
        return self.growth <= self.allowed or self.lower <= 0

    @property
    def sentence(self) -> str:
        """The trend in words."""
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{self.process}, {self.measure}: {'level' if self.is_level else 'GROWING'}, about {self.level:.1f}{unit}, "
            f"{self.slope:+.3f}{unit} a minute (at least {self.lower:+.3f}; {self.visible:.3f} would be too much), "
            f"seen for {self.seconds:.0f} s in {self.judged} of {len(self.lives)} lives"
        )


def robust_slope(lives: Sequence[Sequence[Point]]) -> Slope:
    """Return the slope of the lives together: up to 29 % of points may lie anywhere. 0 without two points of a life."""
    slopes: list[float] = []
    variance = 0.0
    for life in lives:
        slopes += [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(life, 2) if x2 != x1]
        variance += _variance([value for _, value in life])
    if not slopes:
        return Slope(value=0.0, lower=0.0)
    slopes.sort()
    rank = math.floor((len(slopes) - _Z * math.sqrt(variance)) / 2)
    return Slope(value=statistics.median(slopes), lower=slopes[min(max(rank, 0), len(slopes) - 1)])


def settled(life: Sequence[Point]) -> Life:
    """Return the points of a life after it has settled, medians of stretches of time where there are many."""
    if not life:
        return []
    first_s, last_s = life[0][0], life[-1][0]
    begin_s = first_s + SKIP * (last_s - first_s)
    late = [point for point in life if point[0] >= begin_s]
    if len(late) <= _STRETCHES:
        return late
    wide_s = (last_s - begin_s) / _STRETCHES
    stretches = groupby(late, key=lambda point: min(_STRETCHES - 1, int((point[0] - begin_s) / wide_s)))
    return [_median_point(list(points)) for _, points in stretches]


def trend_of(process: str, measure: Measure, lives: Sequence[Life], whole_s: float) -> Trend | None:
    """
    Return the trend of a measure over the lives of one kind of process in a run that was measured for `whole_s`.

    None when no life lasted long enough.
    """
    late = [settled(life) for life in lives if _length_s(life) >= min(whole_s * _LASTING_SHARE, _LASTING_S)]
    judged = [life for life in late if len(life) >= _POINTS_MIN]
    if not judged:
        return None
    slope = robust_slope(judged)
    level = statistics.median(value for life in judged for _, value in life)
    return Trend(
        process=process,
        measure=measure.name,
        unit=measure.unit,
        lives=[list(life) for life in lives],
        judged=len(judged),
        seconds=max(map(_length_s, judged)),
        level=level,
        slope=slope.value * 60,
        lower=slope.lower * 60,
        allowed=max(measure.least, measure.share * level),
    )


def _variance(values: Sequence[float]) -> float:
    """Return the variance of Kendall's S for points without a trend, values that are the same taken into account."""
    groups = (len(values), *(-count for count in Counter(values).values() if count > 1))
    return sum(math.copysign(1, n) * abs(n) * (abs(n) - 1) * (2 * abs(n) + 5) for n in groups) / 18


def _median_point(points: Sequence[Point]) -> Point:
    return statistics.median(at for at, _ in points), statistics.median(value for _, value in points)


def _length_s(life: Sequence[Point]) -> float:
    return life[-1][0] - life[0][0] if life else 0.0

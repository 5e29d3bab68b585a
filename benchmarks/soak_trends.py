"""What processes hold, measured while they run, and whether it grows: robust slopes with a tolerance each."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import msgspec
import psutil

__all__ = ["TOLERANCES", "Sample", "Trend", "sampled", "theil_sen", "trends_of"]

TOLERANCES: dict[str, tuple[float, float]] = {
    "memory_mb": (0.05, 8.0),
    "descriptors": (0.05, 6.0),
    "threads": (0.02, 3.0),
    "connections": (0.05, 6.0),
}
"""By what is measured: the share of its level by which it may grow in the time looked at, and what it may at least."""
_MODULES = {"seawall.gateway": "gateway", "seawall.emulators": "emulators"}
_PROGRAMS = ("redis-server", "toxiproxy-server")
_POINTS_MIN = 15
_POINTS_MAX = 400


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment. `at_s` is on the monotonic clock."""

    at_s: float
    process: str
    pid: int
    values: dict[str, float]


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How something of one process went. The slope is per minute, in the measure's own unit."""

    process: str
    pid: int
    measure: str
    level: float
    slope: float
    growth: float
    """What the slope makes of the time looked at."""
    allowed: float
    points: list[tuple[float, float]]
    """Seconds since the first sample of all, and the value."""

    @property
    def is_level(self) -> bool:
        """Whether it grows no more than it may."""
        return self.growth <= self.allowed

    @property
    def sentence(self) -> str:
        """The trend in words."""
        state = "level" if self.is_level else "GROWING"
        return (
            f"{self.process} (pid {self.pid}) {self.measure}: {state}, about {self.level:.1f}, "
            f"{self.slope:+.3f} a minute, {self.growth:+.2f} in all of at most {self.allowed:.2f}"
        )


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope between any two points: up to 29 % of them may lie anywhere. 0 for less than two."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 != x1]
    return statistics.median(slopes) if slopes else 0.0


def trends_of(samples: Sequence[Sample], skip: float = 1 / 3) -> list[Trend]:
    """
    Return the trend of everything that was measured of every process that lived long enough.

    `skip` is the share of its life in which a process fills its pools and caches.
    """
    found: list[Trend] = []
    began_s = min((sample.at_s for sample in samples), default=0.0)
    whole_s = max((sample.at_s for sample in samples), default=0.0) - began_s
    for pid in dict.fromkeys(sample.pid for sample in samples):
        own = [sample for sample in samples if sample.pid == pid]
        first_s, last_s = own[0].at_s, own[-1].at_s
        late = [sample for sample in own if sample.at_s >= first_s + skip * (last_s - first_s)]
        # What lived shortly beside the others, between two kills, says nothing of weeks.
        if len(late) < _POINTS_MIN or last_s - first_s < whole_s / 3:
            continue
        for measure, (share, least) in TOLERANCES.items():
            found.append(_trend(late, measure, share, least, began_s))
    return found


async def sampled(folder: Path, samples: list[Sample], period_s: float) -> None:
    """Measure, until cancelled, the processes that write into `folder`, or work for it, every `period_s` seconds."""
    while True:
        samples += await asyncio.to_thread(_measured, str(folder))
        await asyncio.sleep(period_s)


def _trend(samples: Sequence[Sample], measure: str, share: float, least: float, began_s: float) -> Trend:
    points = [(sample.at_s - began_s, sample.values[measure]) for sample in samples]
    thinned = points[:: max(1, len(points) // _POINTS_MAX)]
    level = statistics.median(value for _, value in points)
    slope = theil_sen(thinned)
    lasted_s = points[-1][0] - points[0][0]
    return Trend(
        process=samples[0].process,
        pid=samples[0].pid,
        measure=measure,
        level=level,
        slope=slope * 60,
        growth=slope * lasted_s,
        allowed=max(least, share * level),
        points=thinned,
    )


def _measured(folder: str) -> list[Sample]:
    found: list[Sample] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            name = _name_of(process.cmdline())
            if name is not None:
                found.append(_sample(process, name))
    own = psutil.Process()
    found.append(_sample(own, "harness"))
    return found


def _sample(process: psutil.Process, name: str) -> Sample:
    return Sample(
        at_s=time.monotonic(),
        process=name,
        pid=process.pid,
        values={
            "memory_mb": process.memory_info().rss / 1e6,
            "descriptors": float(process.num_fds()),
            "threads": float(process.num_threads()),
            "connections": float(len(process.net_connections("tcp"))),
        },
    )


def _name_of(words: Sequence[str]) -> str | None:
    """Return what a process is by its command line; None for supervisors and what else is there."""
    for word, module in pairwise(words):
        if word == "-m" and module in _MODULES and "supervise" not in " ".join(words[:3]):
            return _MODULES[module]
    program = Path(words[0]).name if words else ""
    return next((name.partition("-")[0] for name in _PROGRAMS if program.startswith(name)), None)

"""
What does going through the gateway cost? One worker on one core, upstream and load generator on another.

All in one run, in turns: `direct` (no gateway), `floor` (raw ASGI and pyreqwest, bytes passed through: `floor.py`),
`seawall` (the gateway as users start it, full routing on), `textbook` (FastAPI, pydantic and httpx: `textbook.py`).
A window in which other processes used more than a tenth of a core is measured again, up to twice, and a figure for
which there is no quiet window is printed with `~` and judges nothing.
`python -m benchmarks.gateway_speed [--seconds 3] [--repeats 3] [--part json,stream,first,memory,start]`
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.contestants import Field, gateway_core, seawall, started
from benchmarks.generator import Figures
from benchmarks.machine import on_cores, resident_mb
from benchmarks.upstream import EVENTS

__all__ = ["main"]

CLIENTS = (1, 32, 256)
PARTS = ("json", "stream", "first", "memory", "start")
QUIET = 0.10
"""The share of one core that others may use in a window that is judged."""
MEMORY_REQUESTS = 100_000
_IMPORT = "import httpx, time; t = time.process_time(); import router; print(time.process_time() - t)"


class _Cell:
    """The windows of one contestant in one situation."""

    def __init__(self) -> None:
        self.windows: list[Figures] = []

    @property
    def is_quiet(self) -> bool:
        """Whether at least one window was undisturbed."""
        return any(window.foreign <= QUIET for window in self.windows)

    def median(self, figure: Callable[[Figures], float]) -> float:
        """Return the median of a figure over the quiet windows, or over all where none is quiet."""
        return statistics.median(self._values(figure))

    def shown(self, figure: Callable[[Figures], float], form: str = ",.0f") -> str:
        """Return median and spread as text."""
        values = self._values(figure)
        middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
        return f"{'' if self.is_quiet else '~'}{middle} ({low} to {high})"

    def _values(self, figure: Callable[[Figures], float]) -> list[float]:
        quiet = [figure(window) for window in self.windows if window.foreign <= QUIET]
        return quiet or [figure(window) for window in self.windows]


class _Goal(msgspec.Struct, frozen=True):
    """One line of the judgement: a figure, its limit and what it came from."""

    name: str
    value: float
    limit: float
    goal: str = ""
    at_least: bool = True
    judged: bool = True

    def shown(self) -> tuple[str, bool]:
        """Return the line and whether it is no miss."""
        holds = self.value >= self.limit if self.at_least else self.value <= self.limit
        verdict = ("held" if holds else "MISSED") if self.judged else "not judged: the machine was busy"
        sign = "at least" if self.at_least else "at most"
        return f"  {self.name:<58} {self.value:8.2f}   {sign} {self.limit:g} {self.goal:<12} {verdict}", (
            holds or not self.judged
        )


class _Bench:
    def __init__(self, field: Field, seconds: float, repeats: int) -> None:
        self._field = field
        self._seconds = seconds
        self._repeats = repeats
        self.goals: list[_Goal] = []

    def requests(self) -> None:
        """Measure JSON requests."""
        cells = self._cells("json", CLIENTS, ("direct", "floor", "seawall", "textbook"))
        self._table("JSON requests/s", cells, lambda f: f.rate)
        self._table("p50, ms", cells, lambda f: f.latency_ms[0], ".2f")
        self._table("p99, ms", cells, lambda f: f.latency_ms[1], ".2f")
        self._table("processor time of the gateway a request, µs", cells, _cpu_us, ".0f")
        floor, ours, textbook, direct = (cells[name, 32] for name in ("floor", "seawall", "textbook", "direct"))
        self._ratio("seawall / floor, requests/s at 32 clients", ours, floor, _rate, 0.55, "(goal 0.75)")
        self._ratio("floor / seawall, processor time a request at 32", floor, ours, _cpu_us, 0.55, "(goal 0.75)")
        self._ratio("seawall / floor, p99 at 32", ours, floor, lambda f: f.latency_ms[1], 2, at_least=False)
        self._ratio("seawall / textbook, requests/s at 32", ours, textbook, _rate, 12)
        self._ratio("seawall / direct, requests/s at 32 (a goal only)", ours, direct, _rate, 0, "(goal 0.18)")
        self._ratio("seawall at 256 / seawall at 32, requests/s", cells["seawall", 256], ours, _rate, 0.8)
        self._ratio("the same of the floor, for comparison", cells["floor", 256], floor, _rate, 0)

    def streams(self) -> None:
        """Measure streams at full speed."""
        cells = self._cells("stream", CLIENTS, ("direct", "floor", "seawall"))
        self._table("chunks/s of streams", cells, _chunks)
        self._table("processor time of the gateway a chunk, µs", cells, lambda f: _cpu_us(f) / EVENTS, ".1f")
        self._ratio("seawall / floor, chunks/s at 32", cells["seawall", 32], cells["floor", 32], _chunks, 0.5)

    def first_tokens(self) -> None:
        """Measure the time to first token of streams at a model's pace: 50 ms, then a token every 10 ms."""
        cells = self._cells("paced", (32,), ("direct", "floor", "seawall"))
        self._table("time to first token at a model's pace, p50, ms", cells, lambda f: f.first_ms[0], ".2f")
        self._table("the same, p99, ms", cells, lambda f: f.first_ms[1], ".2f")
        direct, ours = cells["direct", 32], cells["seawall", 32]
        added = ours.median(lambda f: f.first_ms[0]) - direct.median(lambda f: f.first_ms[0])
        quiet = direct.is_quiet and ours.is_quiet
        self.goals.append(
            _Goal("time to first token added at 32 clients, ms, p50", added, 1.0, at_least=False, judged=quiet)
        )

    def memory(self) -> None:
        """Measure the memory of the gateway over 100,000 requests."""
        pids, done = self._field.contestants["seawall"].pids, 0
        seen = [(0, resident_mb(pids))]
        while done < MEMORY_REQUESTS:
            done += self._field.measure("seawall", 32, max(3.0, self._seconds), "json").answers
            seen.append((done, resident_mb(pids)))
        late = [(count, mb) for count, mb in seen if count >= MEMORY_REQUESTS / 2]
        slope = statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 1 else 0.0
        shown = seen[:: len(seen) // 10 or 1]
        _say("memory of the gateway, MB, after requests: " + ", ".join(f"{count:,}: {mb:.1f}" for count, mb in shown))
        self.goals.append(_Goal(f"memory after {seen[-1][0]:,} requests, MB", seen[-1][1], 80, at_least=False))
        self.goals.append(_Goal("its growth at the end, bytes a request", slope * 1e6, 10, at_least=False))

    def starts(self, transport: str) -> None:
        """Measure the import of the router and the cold start of the gateway."""
        imports, colds = [], []
        for _ in range(2 * self._repeats + 1):
            with on_cores([gateway_core()]):
                done = subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True)
            imports.append(1000 * float(done.stdout))
        for _ in range(self._repeats):
            with seawall("http://127.0.0.1:9", transport) as contestant:
                colds.append(contestant.start_s)
        _say(f"import router beyond httpx, ms of processor time: {_spread(imports)}")
        _say(f"cold start of the gateway until it listens, s: {_spread(colds)}")
        self.goals.append(_Goal("import router beyond httpx, ms", statistics.median(imports), 60, at_least=False))

    def _cells(self, kind: str, clients: Sequence[int], names: Sequence[str]) -> dict[tuple[str, int], _Cell]:
        cells = {(name, count): _Cell() for count in clients for name in names}
        for repeat in range(self._repeats):
            for (name, count), cell in cells.items():
                for _ in range(3):
                    window = self._field.measure(name, count, self._seconds, kind)
                    if window.failures or not window.answers:
                        raise RuntimeError(f"{name}: {window.failures} failures, {window.answers} answers ({kind})")
                    cell.windows.append(window)
                    if window.foreign <= QUIET:
                        break
            sys.stderr.write(f"{kind}: {repeat + 1} of {self._repeats}\n")
        return cells

    def _table(
        self, title: str, cells: dict[tuple[str, int], _Cell], figure: Callable[[Figures], float], form: str = ",.0f"
    ) -> None:
        names = list(dict.fromkeys(name for name, _ in cells))
        _say(f"{title}; n {self._repeats}, median (lowest to highest)")
        _say(f"  {'clients':>7}" + "".join(f"{name:>32}" for name in names))
        for count in dict.fromkeys(count for _, count in cells):
            row = (cells[name, count].shown(figure, form) for name in names)
            _say(f"  {count:>7}" + "".join(f"{text:>32}" for text in row))

    def _ratio(
        self,
        name: str,
        above: _Cell,
        below: _Cell,
        figure: Callable[[Figures], float],
        limit: float,
        goal: str = "",
        *,
        at_least: bool = True,
    ) -> None:
        value = above.median(figure) / below.median(figure)
        self.goals.append(_Goal(name, value, limit, goal, at_least=at_least, judged=above.is_quiet and below.is_quiet))


def _rate(figures: Figures) -> float:
    return figures.rate


def _chunks(figures: Figures) -> float:
    return figures.rate * EVENTS


def _cpu_us(figures: Figures) -> float:
    """The gateway's processor time; the last watched process is the upstream (of `direct`, the only one)."""
    return 1e6 * sum(figures.cpu_s[:-1] or figures.cpu_s) / figures.answers


def _spread(values: Sequence[float]) -> str:
    return f"n {len(values)}, median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print every figure with its peers, and return 1 when a limit is missed on a quiet machine."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway_speed")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--part", default=",".join(PARTS), help="which of %(default)s")
    options = parser.parse_args(argv)
    parts = options.part.split(",")
    with started(options.transport) as field:
        bench = _Bench(field, options.seconds, options.repeats)
        if "json" in parts:
            bench.requests()
        if "stream" in parts:
            bench.streams()
        if "first" in parts:
            bench.first_tokens()
        if "memory" in parts:
            bench.memory()
        if "start" in parts:
            bench.starts(options.transport)
    _say("ratios and limits")
    lines = [goal.shown() for goal in bench.goals]
    for line, _ in lines:
        _say(line)
    return 0 if all(good for _, good in lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())

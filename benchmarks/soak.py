"""
Does it last? Mixed faults, kills and restarts for a long time, and what must not grow does not.

    python -m benchmarks.soak --seconds 1200 --out reports/out/soak

One run on real parts (two gateway workers with a budget in Redis), whose faults come around for as long as it lasts:
toxics, bad answers, a worker killed and started again, gateway, Redis and Toxiproxy restarted in turn. Meanwhile the
memory, descriptors, threads, connections and tasks of each process are measured; `soak_trends` says what counts as
growth. At the end the store's books are compared with the sum of all settled usage, to the micro-dollar. The run's own
verdict judges the answers and the budget's invariants, each settlement against what the provider has served.

Writes `soak.json` and `soak.html`. Ends with 1 when something grows, the books are wrong or the verdict is `fail`; with
3 when the run says nothing: too few samples, a generator that could not keep up, a fault that did not bite; with 2 for
a bad command line. `--leak` plants a leak in the gateway, and must end with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.soak_books import BookedArena, Books, books_of
from benchmarks.soak_gateway import LEAK_VARIABLE, LEAKS, TASKS_VARIABLE
from benchmarks.soak_page import page_of
from benchmarks.soak_samples import HARNESS, sampled, trends_in
from benchmarks.soak_trends import Trend
from reports.render import render
from seawall.console import Console
from seawall.journal.read import load_journal
from seawall.journal.view import Journal
from seawall.outcome import Exit, Outcome
from seawall.run import run_scenario
from seawall.scenario import Scenario, load_text
from seawall.screen import Screen
from seawall.suite import LATE
from seawall.systems import Launch, SeawallSystem

__all__ = ["Result", "WatchedSystem", "main", "scenario_text"]

ROOT = Path(__file__).resolve().parents[1]
_SHORTEST_S = 20
_RATE = 15
_LOAD = "stream: 50%, prompts: short"
_MET = " was in force and met"
"""How the names of the checks end that want each fault to be met."""
_UNMET_MAX = 4
"""Of nine faults."""
_LAG_P99_MAX_S = 1.0
"""More than a verdict on latencies allows: what is asked here is only that the load was there."""
_PROCESSES = ("gateway", "emulators", HARNESS)
"""Those that live as long as the run: each must have a trend."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seconds: int
    verdict: str
    requests: int
    lag_p99_ms: float
    faults: int
    ends: int
    """How often a process ended, and came back."""
    wrong: list[str]
    """What must hold and does not, but for trends and books, a sentence each."""
    missing: list[str]
    """Why the run says nothing."""
    unmet: list[str]
    """Faults of which not every occurrence was met by traffic, a sentence each."""
    books: Books | None
    trends: list[Trend]
    unjudged: list[str]
    """Kinds of processes that were always started anew before they had settled."""

    @property
    def problems(self) -> list[str]:
        """All that does not hold."""
        books = [self.books.problem] if self.books is not None and self.books.problem is not None else []
        return [*self.wrong, *books, *(trend.sentence for trend in self.trends if not trend.is_level)]

    @property
    def exit_code(self) -> Exit:
        """See the module."""
        return Exit.FAIL if self.problems else Exit.INVALID if self.missing else Exit.PASS

    @property
    def facts(self) -> list[str]:
        """The rest, a sentence each."""
        return [
            (
                f"run: verdict {self.verdict}, {self.requests} requests in {self.seconds} s of load, "
                f"99 % of them sent within {self.lag_p99_ms:.0f} ms of their time"
            ),
            f"faults: {self.faults} in force; processes ended {self.ends} times and came back",
            *(f"beside: {sentence}" for sentence in self.unmet),
            self.books.sentence if self.books is not None else "books: not read",
            *(f"{name}: no trend, for none lived long enough between two restarts" for name in self.unjudged),
        ]


class WatchedSystem(SeawallSystem):
    """Our gateway, whose workers keep the number of their tasks in `folder`, and leak where `leak` says so."""

    def __init__(self, folder: Path, leak: str | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._leak = leak

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest."""
        launch = super().render(scenario, upstreams, port=port, shared=shared)
        argv = ["benchmarks.soak_gateway" if word == "seawall.gateway" else word for word in launch.argv]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        more = {"PYTHONPATH": path, TASKS_VARIABLE: str(self._folder), LEAK_VARIABLE: self._leak or ""}
        return msgspec.structs.replace(launch, argv=tuple(argv), environment={**launch.environment, **more})


def scenario_text(seconds: int) -> str:
    """Return the scenario: faults that take turns in cycles of 18 to 60 s until a few seconds before the end."""
    cycle, begin_s, last_s = max(18, min(60, int(seconds * 0.3))), 2.0, seconds - 3
    often = [
        ("slow", "target: gemini, toxic: {type: latency, attributes: {latency: 150}}"),
        ("cut", "target: gemini, toxic: {type: reset_peer, attributes: {timeout: 20}}"),
        ("killed", "target: gateway, process: kill"),
        ("failing", "target: gemini, respond: {status: 503}"),
        ("throttled", "target: gemini, respond: {status: 429, retry_after: 1s}"),
        ("halfbad", "target: gemini, respond: {status: 500}, injection_rate: 50%"),
    ]
    # One of them in each cycle, so that what is started anew lives for three.
    in_turn = [
        ("redis", "target: redis, process: restart"),
        ("toxiproxy", "target: toxiproxy, process: restart"),
        ("restarted", "target: gateway, process: restart"),
    ]
    slot_s = (cycle - begin_s) / (len(often) + 1)
    planned = [(name, what, begin_s + number * slot_s, cycle) for number, (name, what) in enumerate(often)]
    planned += [
        (name, what, begin_s + len(often) * slot_s + number * cycle, cycle * len(in_turn))
        for number, (name, what) in enumerate(in_turn)
    ]
    length_s = min(2.0, slot_s - 0.3)
    faults: list[str] = []
    for name, what, at_s, every_s in planned:
        if at_s + length_s > last_s:
            continue
        repeats = f"every: {every_s}s, " if at_s + every_s + length_s < last_s else ""
        times = f"at: {at_s * 1000:.0f}ms, duration: {length_s * 1000:.0f}ms"
        faults.append(f"  - {{id: {name}, {times}, {repeats}{what}}}")
    return "\n".join(
        [
            "version: 1",
            f"title: Endurance, {seconds} s of mixed faults, kills and restarts",
            "arenas: [wire]",
            "exclusive: true",
            "seed: 11",
            "system:",
            "  workers: 2",
            "  settings:",
            "    CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 1s",
            "    first_byte_timeout: 1s",
            "    idle_timeout: 2s",
            "    BUDGET_STORE: redis",
            "    DAILY_SPEND_LIMIT_USD: 1000",
            f"load: {{executor: constant-arrival-rate, rate: {_RATE}/s, duration: {seconds}s, {_LOAD}}}",
            "faults:",
            *faults,
            "expect:",
            "  thresholds:",
            '    - {metric: success_rate, limit: ">= 95%"}',
            "",
        ]
    )


async def soak(seconds: int, out: Path, leak: str | None = None) -> Result:
    """Run it in `out`, and return what came of it."""
    arenas: list[BookedArena] = []

    def arena(*arguments: Any, **options: Any) -> BookedArena:
        arenas.append(BookedArena(*arguments, **options))
        return arenas[-1]

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # what is in force is undone first
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    task = asyncio.create_task(sampled(out, 1.0 if seconds >= 60 else 0.5))
    try:
        outcome = await run_scenario(
            load_text(scenario_text(seconds), "soak.yaml"),
            out,
            console=Console(Screen(io.StringIO())),
            stop=stop,
            render=render,
            system=WatchedSystem(out, leak),
            make_arena=arena,
        )
    finally:
        task.cancel()
        (failed,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(failed, Exception):  # a defect of ours, not a leak of theirs
        raise failed
    journal = load_journal(outcome.folder / "journal.jsonl")
    ledger = arenas[0].ledger if arenas else None
    return result_of(seconds, outcome, journal, None if ledger is None else books_of(journal, ledger), trends_in(out))


def result_of(
    seconds: int, outcome: Outcome, journal: Journal, books: Books | None, measured: tuple[list[Trend], list[str]]
) -> Result:
    """Put together what came of a run."""
    lags = sorted((each.sent_ns - each.intended_ns) / 1e9 for each in journal.requests if each.sent_ns is not None)
    lag_s = lags[int(len(lags) * 0.99)] if lags else 0.0
    wrong, missing, unmet = _judged(outcome)
    if len(journal.requests) < seconds * _RATE * 0.99 or lag_s > _LAG_P99_MAX_S:
        missing.append(
            f"the load generator could not keep up: {len(journal.requests)} of {seconds * _RATE} requests, 99 % of "
            f"them within {lag_s * 1000:.0f} ms of their time (at most {_LAG_P99_MAX_S * 1000:.0f}); free the machine"
        )
    trends, unjudged = measured
    there = {trend.process for trend in trends}
    missing += [f"too few samples of the {name} for a trend" for name in _PROCESSES if name not in there]
    if books is None:
        missing.append("the budget's store could not be read at the end")
    return Result(
        seconds=seconds,
        verdict="none" if outcome.verdict is None else str(outcome.verdict.verdict),
        requests=len(journal.requests),
        lag_p99_ms=lag_s * 1000,
        faults=sum(len(trace.intervals) for trace in journal.faults.values()),
        ends=sum(timed.event.action == "exit" for timed in journal.processes),
        wrong=wrong,
        missing=missing,
        unmet=unmet,
        books=books,
        trends=trends,
        unjudged=unjudged,
    )


def _judged(outcome: Outcome) -> tuple[list[str], list[str], list[str]]:
    """
    Return what the run's own verdict says is wrong, why it says nothing, and which faults had too little traffic.

    That it was late is judged elsewhere. Of faults one after the other some meet a breaker that the one before has
    opened: that says nothing against the rest, unless it is most of them.
    """
    if outcome.verdict is None or outcome.exit_code is Exit.INTERRUPTED:
        return [], [f"the run did not come to its end: {outcome.detail or 'no report'}"], []
    said: dict[str, list[str]] = {"fail": [], "invalid": [], "unmet": []}
    for check in outcome.verdict.checks:
        kind = "unmet" if str(check.verdict) == "invalid" and check.name.endswith(_MET) else str(check.verdict)
        if kind in said and check.name != LATE:
            said[kind].append(f"{check.name}: {check.reason}")
    if outcome.exit_code is Exit.NOT_UNDONE:
        said["fail"].append(f"not everything was undone: {outcome.detail or 'see the report'}")
    if len(said["unmet"]) > _UNMET_MAX:
        said["invalid"] += said["unmet"]
    return said["fail"], said["invalid"], said["unmet"]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1200, help="how long the load lasts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of run and report (default: a temporary one)")
    parser.add_argument("--leak", choices=sorted(LEAKS), help="plant a leak in the gateway, to see that it is found")
    options = parser.parse_args()
    if options.seconds < _SHORTEST_S:
        parser.error(f"--seconds is {options.seconds}; a trend needs at least {_SHORTEST_S}")
    out: Path = (options.out or Path(tempfile.mkdtemp(prefix="seawall-soak-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("soak-*")):
        parser.error(f"--out {out} has a soak in it already; give it a folder of its own")
    result = asyncio.run(soak(options.seconds, out, options.leak))
    (out / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    (out / "soak.html").write_text(page_of(result), "utf-8")
    for line in (*result.facts, *(trend.sentence for trend in result.trends)):
        print(line)
    print(f"report: {out / 'soak.html'}")
    for problem in result.problems:
        print(f"NOT RIGHT: {problem}", file=sys.stderr)
    for reason in result.missing:
        print(f"SAYS NOTHING: {reason}", file=sys.stderr)
    return int(result.exit_code)


if __name__ == "__main__":
    sys.exit(main())

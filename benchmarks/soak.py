"""
Does it last? Mixed faults, kills and restarts for a long time, and what must not grow does not.

    python -m benchmarks.soak --seconds 1200 --out reports/out/soak

One run on real parts (two gateway workers with a budget in Redis), whose faults come around for as long as it lasts:
toxics, bad answers, a worker killed and started again, Redis and Toxiproxy restarted. Meanwhile the memory,
descriptors, threads and connections of each process are measured. A slope is Theil and Sen's (the median of all
slopes between two points), of the time after a third of the run, when pools and caches are full; what a process that
was started anew begins again is left out. The run's own verdict judges the answers and the budget's invariants.

Writes `soak.json` and `soak.html`. Ends with 1 when a slope is over its tolerance, the budget is not the sum to the
micro-dollar, or the run's verdict is `fail`; with 3 when the run says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.soak_page import page_of
from benchmarks.soak_trends import Sample, Trend, sampled, trends_of
from reports.render import render
from seawall.console import Console
from seawall.journal.read import load_journal
from seawall.journal.view import Journal
from seawall.run import run_scenario
from seawall.scenario import load_text
from seawall.screen import Screen

__all__ = ["Result", "main", "scenario_text", "sum_of_settled"]

_SHORTEST_S = 40
_CYCLE_S = 20
_PERIOD_S = 1.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Money in micro-dollars."""

    seconds: int
    verdict: str
    missed: list[str]
    requests: int
    faults: int
    restarts: int
    settled_micro_usd: int
    booked_micro_usd: int
    open_reservations: int
    """Made by a worker that was killed before it could settle them; booked in full until their lease ends."""
    trends: list[Trend]

    @property
    def problems(self) -> list[str]:
        """What does not hold, a sentence each."""
        found = [trend.sentence for trend in self.trends if not trend.is_level]
        if self.settled_micro_usd != self.booked_micro_usd:
            found.append(f"booked {self.booked_micro_usd} µUSD, but the sum is {self.settled_micro_usd} µUSD")
        if self.verdict in ("fail", "none"):
            found.append(f"the run's verdict is {self.verdict}: {'; '.join(self.missed) or 'see its report'}")
        if not self.trends:
            found.append("nothing was measured long enough to have a trend")
        return found


def scenario_text(seconds: int) -> str:
    """Return the scenario: faults that take turns in cycles of 20 s until a few seconds before the end."""
    cycle, quiet_s = max(_CYCLE_S, min(60, seconds // 3)), 5
    last_s = seconds - quiet_s - 3
    kinds = [
        ("slow", "target: gemini, toxic: {type: latency, attributes: {latency: 150}}", 2.0),
        ("cut", "target: gemini, toxic: {type: reset_peer, attributes: {timeout: 20}}", 1.5),
        ("failing", "target: gemini, respond: {status: 503}", 1.5),
        ("throttled", "target: gemini, respond: {status: 429, retry_after: 1s}", 1.5),
        ("cutshort", "target: gemini, respond: {status: 500}, injection_rate: 50%", 1.5),
        ("killed", "target: gateway, process: kill", 2.0),
        ("redis", "target: redis, process: restart", 2.0),
        ("toxiproxy", "target: toxiproxy, process: restart", 2.0),
    ]
    faults: list[str] = []
    for number, (name, what, length_s) in enumerate(kinds):
        at_s = quiet_s + number * (cycle - 2) / len(kinds)
        repeats = f"every: {cycle}s, " if at_s + cycle + length_s < last_s else ""
        faults.append(
            f"  - {{id: {name}, at: {at_s * 1000:.0f}ms, duration: {length_s * 1000:.0f}ms, {repeats}{what}}}"
        )
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
            f"load: {{executor: constant-arrival-rate, rate: 15/s, duration: {seconds}s, stream: 50%, prompts: short}}",
            "faults:",
            *faults,
            "expect:",
            "  thresholds:",
            '    - {metric: success_rate, limit: ">= 95%"}',
            "",
        ]
    )


def sum_of_settled(journal: Journal) -> tuple[int, int, int]:
    """Return in micro-dollars what the steps add up to and what the store says at the end, and how many stay open."""
    standing: dict[str, int] = {}
    closed: dict[str, int] = {}
    total = 0
    for timed in journal.spends:
        step = timed.event
        if step.source == "unanswered":
            continue
        (standing if step.action == "reserve" else closed)[step.reservation_id] = step.micro_usd
    if journal.spends:
        total = max(journal.spends, key=lambda timed: timed.mono_ns).event.total_micro_usd
    left = {name: amount for name, amount in standing.items() if name not in closed}
    return sum(closed.values()) + sum(left.values()), total, len(left)


async def soak(seconds: int, out: Path) -> Result:
    """Run it in `out`, and return what came of it."""
    samples: list[Sample] = []
    console = Console(Screen(io.StringIO()))
    loaded = load_text(scenario_text(seconds), "soak.yaml")
    task = asyncio.create_task(sampled(out, samples, _PERIOD_S))
    try:
        outcome = await run_scenario(loaded, out, console=console, stop=asyncio.Event(), render=render)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    journal = load_journal(outcome.folder / "journal.jsonl")
    settled, booked, left = sum_of_settled(journal)
    verdict = outcome.verdict
    return Result(
        seconds=seconds,
        verdict="none" if verdict is None else str(verdict.verdict),
        missed=[outcome.detail or "no report"]
        if verdict is None
        else [f"{check.name}: {check.reason}" for check in verdict.checks if str(check.verdict) in ("fail", "invalid")],
        requests=len(journal.requests),
        faults=sum(len(trace.intervals) for trace in journal.faults.values()),
        restarts=sum(timed.event.action == "exit" for timed in journal.processes),
        settled_micro_usd=settled,
        booked_micro_usd=booked,
        open_reservations=left,
        trends=trends_of(samples),
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1200, help="how long the load lasts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of run and report (default: a temporary one)")
    options = parser.parse_args()
    if options.seconds < _SHORTEST_S:
        parser.error(f"--seconds is {options.seconds}; a trend needs at least {_SHORTEST_S}")
    out = options.out or Path(tempfile.mkdtemp(prefix="seawall-soak-"))
    out.mkdir(parents=True, exist_ok=True)
    result = asyncio.run(soak(options.seconds, out.resolve()))
    (out / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    (out / "soak.html").write_text(page_of(result.seconds, result.trends, _facts(result), result.problems), "utf-8")
    for _, fact in _facts(result):
        print(fact)
    for trend in result.trends:
        print(trend.sentence)
    print(f"report: {out / 'soak.html'}")
    for problem in result.problems:
        print(f"NOT LEVEL OR NOT RIGHT: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def _facts(result: Result) -> list[tuple[str, str]]:
    return [
        ("verdict", f"verdict {result.verdict}, {result.requests} requests in {result.seconds} s of load"),
        ("faults", f"{result.faults} faults were in force; {result.restarts} processes ended and came back"),
        (
            "budget",
            (
                f"booked {result.booked_micro_usd} µUSD, sum of usage {result.settled_micro_usd} µUSD, "
                f"{result.open_reservations} reservations of killed workers open"
            ),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())

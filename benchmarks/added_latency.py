"""
How much of a toxic's latency arrives at the client: 300 ms injected, 300 ± 15 ms added to the median?

Pairs of runs, without and with the toxic, alternately: the peer of each run is the one beside it.
`python -m benchmarks.added_latency [PAIRS]`
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.runs import journal_of, latencies_ms, spread

__all__ = ["main"]

INJECTED_MS = 300
_SCENARIO = """
version: 1
title: Steady latency
exclusive: true
seed: {seed}
system: {{gateway: seawall, settings: {{LATENCY_LIMIT: 0}}}}
load: {{executor: constant-arrival-rate, rate: 30/s, duration: 8s}}
faults:
  - {{id: late, at: 1s, duration: 6s, target: {target}, toxic: {{type: latency, attributes: {{latency: {ms}}}}}}}
"""


def main(pairs: int) -> int:
    """Print n, median and spread of the added latency; return 1 when the median is off by more than 15 ms."""
    added: list[float] = []
    for seed in range(1, pairs + 1):
        # Without: the same toxic at a provider that nobody asks.
        without = _median(_SCENARIO.format(seed=seed, target="openai", ms=INJECTED_MS))
        with_toxic = _median(_SCENARIO.format(seed=seed, target="gemini", ms=INJECTED_MS))
        added.append(with_toxic - without)
        sys.stdout.write(f"pair {seed}: without {without:.1f} ms, with {with_toxic:.1f} ms, added {added[-1]:.1f} ms\n")
        sys.stdout.flush()
    sys.stdout.write(f"added at the client by {INJECTED_MS} ms of Toxiproxy latency, ms: {spread(added)}\n")
    return 0 if abs(statistics.median(added) - INJECTED_MS) <= 15 else 1


def _median(text: str) -> float:
    journal = journal_of(text, "added-latency")
    trace = journal.faults["late"].intervals[0]
    start_ns, end_ns = trace.active_ns or 0, trace.healing_ns or 0
    inside = [r for r in journal.requests if start_ns <= r.intended_ns and r.end_ns <= end_ns]
    journal.requests = inside
    return statistics.median(latencies_ms(journal))


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))

"""
Does the load generator see a stall as it was? The gateway is frozen for 3 s under 200 arrivals a second.

The truth is computed from the schedule: the moment at which the gateway itself had each answer (its attempts' own
clock), minus the moment at which the request was due. A closed loop would send less and report milliseconds.
`python -m benchmarks.frozen_gateway [RUNS]`
"""

from __future__ import annotations

import sys

from benchmarks.runs import journal_of, quantile, spread

__all__ = ["main"]

_SCENARIO = """
version: 1
title: A gateway that stands still
exclusive: true
seed: {seed}
system: {{gateway: seawall, settings: {{LATENCY_LIMIT: 0, first_byte_timeout: 30s, idle_timeout: 30s}}}}
load: {{executor: constant-arrival-rate, rate: 200/s, duration: 14s, deadline: 30s}}
faults:
  - {{id: frozen, at: 3s, duration: 3s, target: gateway, process: stop}}
"""


def main(runs: int) -> int:
    """Print the errors of p95 and p99 and the dispatch lag; return 1 when one is off by more than 5 %."""
    errors: dict[float, list[float]] = {0.95: [], 0.99: []}
    lags: list[float] = []
    for seed in range(1, runs + 1):
        journal = journal_of(_SCENARIO.format(seed=seed), "frozen-gateway")
        done_ns = {attempt.request_id: attempt.end_ns for attempt in journal.attempts if attempt.outcome == "ok"}
        pairs = [
            ((r.end_ns - r.intended_ns) / 1e6, (done_ns[r.request_id] - r.intended_ns) / 1e6)
            for r in journal.requests
            if r.outcome == "whole" and r.request_id in done_ns
        ]
        lag_ms = [(r.sent_ns - r.intended_ns) / 1e6 for r in journal.requests if r.sent_ns is not None]
        lags.append(quantile(lag_ms, 0.99))
        for share, found in errors.items():
            seen, truth = quantile([p[0] for p in pairs], share), quantile([p[1] for p in pairs], share)
            found.append(100 * (seen / truth - 1))
            sys.stdout.write(f"run {seed}: p{share * 100:.0f} seen {seen:.0f} ms, true {truth:.0f} ms\n")
        sys.stdout.write(f"run {seed}: {len(pairs)} of {len(journal.requests)} whole, lag p99 {lags[-1]:.2f} ms\n")
        sys.stdout.flush()
    for share, found in errors.items():
        sys.stdout.write(f"error of p{share * 100:.0f}, %: {spread(found)}\n")
    sys.stdout.write(f"lag p99, ms: {spread(lags)}\n")
    return 1 if any(abs(error) > 5 for found in errors.values() for error in found) else 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))

"""
What do traces cost? The same gateway with TELEMETRY off and on, sampled as OTEL_TRACES_SAMPLER_ARG says, in turns.

Judged by the processor time of the gateway a request, at 32 clients; the windows alternate, so that a busy machine is
busy for both. The collector is a stand-in on the other core that takes everything.
`python -m benchmarks.telemetry_cost [--seconds 3] [--repeats 5] [--ratio 0.1]`
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.contestants import Contestant, Field, seawall, started

__all__ = ["main"]

CLIENTS = 32
COST_MAX = 0.10


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 when the median of the turns' costs is above COST_MAX."""
    parser = argparse.ArgumentParser(prog="benchmarks.telemetry_cost")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="windows of each (default: %(default)s)")
    parser.add_argument("--ratio", default="0.1", help="share of the requests that are traced (default: %(default)s)")
    options = parser.parse_args(argv)
    seen: dict[str, list[float]] = {"off": [], "on": []}
    with ExitStack() as stack:
        field = stack.enter_context(started("auto"))
        url = f"http://127.0.0.1:{field.contestants['direct'].port}"
        both: dict[str, Contestant] = {
            "off": field.contestants["seawall"],
            "on": stack.enter_context(seawall(url, "auto", **_settings(url, options.ratio))),
        }
        field = Field({**field.contestants, **both})
        for turn in range(options.repeats + 1):
            for name in sorted(both, reverse=bool(turn % 2)):
                figures = field.measure(name, CLIENTS, options.seconds, "json")
                if turn:  # the first is for warming up
                    seen[name].append(figures.cpu_s[0] / figures.answers * 1e6)
    for name, values in seen.items():
        _say(
            f"telemetry {name:<3} at {CLIENTS} clients: {statistics.median(values):6.1f} µs of processor time a request"
            f" (n={len(values)}, {min(values):.1f} to {max(values):.1f})"
        )
    costs = [on / off - 1 for off, on in zip(seen["off"], seen["on"], strict=True)]
    cost = statistics.median(costs)
    spread = f"n={len(costs)}, {min(costs):+.1%} to {max(costs):+.1%}"
    verdict = "held" if cost <= COST_MAX else "MISSED"
    _say(f"cost of traces at a ratio of {options.ratio}: {cost:+.1%} ({spread}), at most {COST_MAX:.0%}: {verdict}")
    return int(cost > COST_MAX)


def _settings(url: str, ratio: str) -> dict[str, str]:
    return {
        "TELEMETRY": "otel",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": ratio,
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

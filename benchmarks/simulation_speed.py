"""
How many virtual seconds does the simulation play in one second of one core?

40 requests a second for a virtual minute, all JSON, and with 30 % streams of 16 chunks. Prints n, the best and the
median of the process's CPU time (other work on the machine must not count), and what limits it: the share of each part
in a profile. The peer is the router alone, on a transport that answers at once: what no simulation can be faster than.
`python -m benchmarks.simulation_speed [RUNS]`
"""

from __future__ import annotations

import asyncio
import cProfile
import itertools
import pstats
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from router.models import Message, Request
from router.testing import Answering, ScriptedTransport, scripted_router, test_settings
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.simulation import run_virtual, simulate

__all__ = ["main"]

RATE, SECONDS = 40, 60.0
GOALS = {"all JSON": (0.0, 120, 300), "30 % streams": (0.3, 60, 150)}
_TEXT = " ".join(f"token{n}" for n in range(16))
_PARTS = ("router", "seawall/simulation", "seawall/emulators", "seawall/journal", "loadtests", "seawall", "asyncio")


def main(runs: int) -> int:
    """Print the speeds; return 1 when one is below what is asked for."""
    missed = 0
    for name, (streams, least, goal) in GOALS.items():
        scenario = _scenario(streams)
        simulate(scenario)
        times_s = _times(lambda scenario=scenario: simulate(scenario), runs)
        peer_s = _times(lambda streams=streams: _router_alone(streams), runs)
        best, median = SECONDS / min(times_s), SECONDS / statistics.median(times_s)
        print(
            f"{name}: {best:.0f} virtual seconds a second at best, median {median:.0f} (n {runs}; asked for {least}, "
            f"goal {goal}); {min(times_s) / (RATE * SECONDS) * 1e6:.0f} us a request; "
            f"the router alone: {SECONDS / min(peer_s):.0f}, {min(peer_s) / (RATE * SECONDS) * 1e6:.0f} us"
        )
        print("  " + ", ".join(f"{part} {share:.0%}" for part, share in _shares(scenario)))
        missed += best < least
    return int(missed > 0)


def _scenario(streams: float) -> Scenario:
    text = (
        "version: 1\ntitle: Forty requests a second\narenas: [simulation]\n"
        f"load: {{executor: constant-arrival-rate, rate: {RATE}/s, duration: {SECONDS:g}s, stream: {streams:.0%}}}\n"
    )
    return load_text(text, "speed").scenario


def _times(work: Callable[[], object], runs: int) -> list[float]:
    times_s: list[float] = []
    for _ in range(runs):
        began_s = time.process_time()
        work()
        times_s.append(time.process_time() - began_s)
    return times_s


def _router_alone(streams: float) -> None:
    """Have the same requests answered by a router on a transport that answers at once."""

    async def main() -> None:
        transport = ScriptedTransport({"gemini": [Answering(text=_TEXT)]})
        router = scripted_router(transport, settings=test_settings())
        for n in range(round(RATE * SECONDS)):
            message = Message(role="user", content=f"[sw:{n:06d}] What does a seawall do?")
            request = Request(messages=(message,), model="gemini", max_tokens=64, request_id=f"{n:06d}")
            if (n * 7 % 10) / 10 < streams:
                async for _ in router.stream(request):
                    pass
            else:
                await router.complete(request)
            await asyncio.sleep(1 / RATE)
            transport.calls.clear()

    run_virtual(main())


def _shares(scenario: Scenario) -> list[tuple[str, float]]:
    """Return which part of the code took which share of the time, by a profile's own times."""
    profile = cProfile.Profile()
    profile.runcall(simulate, scenario)
    found: Counter[str] = Counter()
    stats = cast("dict[tuple[str, int, str], tuple[int, int, float, float, Any]]", vars(pstats.Stats(profile))["stats"])
    for (file, _, _), (_, _, own_s, _, _) in stats.items():
        path = file.replace("\\", "/")
        part = next((part for part in _PARTS if f"/{part}/" in path), "C and the rest")
        found[part] += own_s  # type: ignore[assignment]
    total = sum(found.values())
    return [(part, own_s / total) for part, own_s in itertools.islice(found.most_common(), 8)]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))

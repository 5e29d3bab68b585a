"""
How many schedules of 200 requests does the hunt play in one second of one core?

The schedules are the hunt's own, drawn by Hypothesis with a fixed seed, each with exactly 200 requests: the bursts that
were drawn, repeated as often as it takes. Drawing, simulating, judging and what the search remembers are all in it, in
CPU time of this process (other work on the machine must not count). Beside it: the same with the loads as the hunt
draws them, mostly a few dozen requests. Prints n, the median and the best of rounds of 10, and the share of each part.
`python -m benchmarks.hunt_speed [ROUNDS]`
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

from hypothesis import HealthCheck, Phase, given, seed, settings

from seawall.hunt import search
from seawall.hunt.document import Document, Unusable, arrivals_of, scenario_of, settled, with_arrivals
from seawall.hunt.schedules import schedules
from seawall.hunt.trial import features_of, scores_of
from seawall.simulation import simulate
from seawall.verdicts.case import Case
from seawall.verdicts.invariants import check_invariants

__all__ = ["main"]

REQUESTS, ROUND, SEED = 200, 10, 20261123
LEAST = 20.0
"""Asked for, schedules a second."""


def main(rounds: int) -> int:
    """Print the speeds; return 1 when the median is below what is asked for."""
    speeds: list[float] = []
    parts_s: dict[str, float] = dict.fromkeys(("building", "simulating", "judging", "remembering"), 0.0)
    began_s = time.process_time()
    documents = list(_documents(rounds * ROUND))
    drawing_s = (time.process_time() - began_s) / len(documents)
    for start in range(0, len(documents), ROUND):
        began_s = time.process_time()
        for document in documents[start : start + ROUND]:
            _play(document, parts_s)
        speeds.append(ROUND / (time.process_time() - began_s + ROUND * drawing_s))
    median = statistics.median(speeds)
    print(
        f"schedules of {REQUESTS} requests: median {median:.1f} a second, best {max(speeds):.1f}, worst "
        f"{min(speeds):.1f} (n {len(speeds)} rounds of {ROUND}; asked for {LEAST:.0f})"
    )
    total_s = sum(parts_s.values()) + drawing_s * len(documents)
    shares = {"drawing": drawing_s * len(documents)} | parts_s
    print("  " + ", ".join(f"{name} {share_s / total_s:.0%}" for name, share_s in shares.items()))
    began_s = time.process_time()
    result = search(seed=SEED, schedules=rounds * ROUND)
    took_s = time.process_time() - began_s
    print(
        f"as drawn: {result.schedules / took_s:.1f} schedules a second, {result.requests / result.schedules:.0f} "
        f"requests each on average, {result.requests / took_s:.0f} requests a second"
    )
    return int(median < LEAST)


def _documents(count: int) -> Iterator[Document]:
    """Yield schedules of the hunt, each with as many requests."""
    drawn: list[Document] = []

    @seed(SEED)
    @settings(
        max_examples=2 * count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
    )
    @given(schedules())
    def draw(document: Document) -> None:
        drawn.append(document)

    draw()
    for document in drawn[-count:]:
        arrivals = arrivals_of(document)
        more = [arrivals[n % len(arrivals)] for n in range(REQUESTS)]
        yield settled(with_arrivals(document, more))


def _play(document: Document, parts_s: dict[str, float]) -> None:
    moments = [time.process_time()]
    try:
        scenario = scenario_of(document)
    except Unusable:
        return
    moments.append(time.process_time())
    journal = simulate(scenario)
    moments.append(time.process_time())
    case = Case(journal, scenario)
    check_invariants(case)
    moments.append(time.process_time())
    features_of(case)
    scores_of(case)
    moments.append(time.process_time())
    for name, start_s, end_s in zip(parts_s, moments, moments[1:], strict=False):
        parts_s[name] += end_s - start_s


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))

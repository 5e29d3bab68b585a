"""
The simulation against the wire: the scenarios tagged `ci`, once on real parts and once in virtual time.

Both have the same plan from the same seed, so of each request it is fixed when it comes and which fault takes it. What
differs is how long real parts take: at the edges of a fault, of an opening and of a recovery some requests fall on the
other side. Hence the tolerance.

The four scenarios with the shortest load are compared; with AGAINST_WIRE=all, all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from seawall.journal.read import load_journal
from seawall.journal.view import Journal
from seawall.plan import duration_of
from seawall.scenario import Loaded, find, load_scenario
from seawall.simulation import simulate

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SHARE = 0.02
"""By how much of all requests a count may differ."""
LEAST = 4
"""What a count may always differ by: requests in hand at an edge, where there are few in all."""


def chosen() -> list[Loaded]:
    """Return the scenarios to compare, those with the shortest load first."""
    loaded = [load_scenario(path) for path in find([], tags=["ci"])]
    loaded = [one for one in loaded if set(one.scenario.arenas) >= {"simulation", "wire"}]
    loaded.sort(key=lambda one: (duration_of(one.scenario.load.plan(one.scenario.seed)), one.name))
    return loaded if os.environ.get("AGAINST_WIRE") == "all" else loaded[:4]


def counts_of(journal: Journal) -> Counter[str]:
    """Return how many requests came to what and by whom, how many calls and failed attempts each provider had."""
    counts: Counter[str] = Counter()
    for request in journal.requests:
        counts[f"requests {request.outcome}"] += 1
        counts[f"requests {request.outcome} ({request.status or 'no answer'}, {request.code or 'no error'})"] += 1
        counts[f"requests {request.outcome} by {request.provider or 'nobody'}"] += 1
    for call in journal.calls:
        counts[f"calls to {call.provider}, {call.behaviour}"] += 1
    for attempt in journal.attempts:
        counts[f"attempts at {attempt.provider}, {attempt.outcome}"] += 1
    return counts


def test_counts_agree(tmp_path: Path) -> None:
    """Requests by outcome and provider, calls and attempts are as many on both sides, within the tolerance."""
    scenarios = chosen()
    names = [loaded.name for loaded in scenarios]
    argv = [sys.executable, "-m", "seawall", "run", *names, "--out", str(tmp_path / "out")]
    environment = {**os.environ, "SEAWALL_STATE": str(tmp_path / "state")}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False)
    apart: list[str] = []
    for loaded in scenarios:
        # Of two runs the second counts: the first was on a machine too busy to keep the plan.
        folders = [path for path in (tmp_path / "out").glob(f"{loaded.name}-*") if (path / "journal.jsonl").is_file()]
        assert folders, done.stdout + done.stderr
        latest = max(folders, key=lambda path: path.stat().st_mtime_ns)
        wire, simulated = counts_of(load_journal(latest / "journal.jsonl")), counts_of(simulate(loaded.scenario))
        sent = sum(count for name, count in simulated.items() if name.count(" ") == 1)
        tolerance = max(LEAST, round(SHARE * sent))
        apart += [
            f"{loaded.name}: {name}: {wire[name]} on the wire, {simulated[name]} in the simulation (± {tolerance})"
            for name in sorted(wire.keys() | simulated.keys())
            if abs(wire[name] - simulated[name]) > tolerance
        ]
    assert not apart, "\n".join(apart)

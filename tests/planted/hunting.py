"""
Hunt planted bugs, each in a process of its own, by the product's default hunt, which knows nothing of them.

`SEAWALL_PLANT=NAME python hunting.py SEED BUDGET` is such a process: it plants the bug, hunts, and prints what it
found as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from planting import PLANT, ROOT, sow

__all__ = ["Hunted", "hunt", "seeds"]

_WALL = 20
"""How many times its budget a process may take: its budget is CPU time, and the machine may be busy."""


class Hunted(NamedTuple):
    """What one hunt for a bug came to; `check` is None for a miss."""

    name: str
    seed: int
    check: str | None = None
    evidence: str = ""
    found_after: int = 0
    """How many schedules it took."""
    schedules: int = 0
    faults: int = 0
    """Of the shrunk schedule."""
    requests: int = 0
    elapsed_s: float = 0.0
    text: str = ""
    """The shrunk schedule as a scenario file."""


def seeds(name: str, commit: str, count: int) -> list[int]:
    """Return the seeds of the hunts for a bug: others for every commit, so that none is ever tuned to."""
    from seawall.draws import unit

    return [int(unit(0, "planted", commit, name, n) * 2**31) for n in range(count)]


def hunt(name: str, seed: int, budget_s: float) -> Hunted:
    """Hunt a bug in a process of its own. Raises RuntimeError with that one's words when it fails."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, str(Path(__file__)), str(seed), str(budget_s)],
        env={**os.environ, PLANT: name, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WALL * (budget_s + 30.0),
        check=False,
    )
    if run.returncode != 0:
        raise RuntimeError(f"the hunt for {name} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    found = Hunted(**json.loads(run.stdout.splitlines()[-1]))
    if found.check is not None and found.check in _broken_without(found.text):
        return found._replace(check=None, evidence=f"false alarm: the router as it is breaks {found.check!r} too")
    return found


def _broken_without(text: str) -> list[str]:
    """Return the checks that a schedule breaks without any bug: such a find would prove nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "found.yaml"
        path.write_text(text, encoding="utf-8")
        run = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("playing.py")), str(path)],
            env={**os.environ, PLANT: "", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    return json.loads(run.stdout.splitlines()[-1])["found"]


def main(arguments: list[str]) -> None:
    """Be the process of one hunt."""
    bug = sow()
    from seawall.hunt import search

    seed = int(arguments[0])
    # Of one core: other work on the machine must not decide what is found.
    result = search(seed=seed, budget_s=float(arguments[1]), clock=time.process_time)
    found = Hunted(
        name=bug.name,
        seed=seed,
        check=result.check,
        evidence=result.evidence,
        found_after=result.found_after,
        schedules=result.schedules,
        faults=result.faults_found,
        requests=result.requests_found,
        elapsed_s=round(result.elapsed_s, 2),
        text=result.text,
    )
    sys.stdout.write(json.dumps(found._asdict()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

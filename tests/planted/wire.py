"""
Play what the hunt found in simulation on the wire, with the bug in the real gateway's process.

The files are finds: shrunk schedules, each named after its bug (`<bug>-<seed>.yaml`, as `--keep` writes them).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from planting import BUGS, ROOT, PlantError

__all__ = ["FINDS", "Played", "bug_of", "play_on_the_wire"]

FINDS = Path(__file__).parent / "finds"
"""One find a bug, as the hunt wrote it, for those that are played again."""
PLANT_GATEWAY = "SEAWALL_PLANT_GATEWAY"
_LIMIT_S = 180.0


class Played(NamedTuple):
    """What came of a find on the wire."""

    name: str
    verdict: str
    broken: tuple[str, ...]
    """The checks that failed."""


def bug_of(path: Path) -> str:
    """Return the bug that a find is named after. Raises PlantError where there is none."""
    names = [name for name in BUGS if path.stem == name or path.stem.removeprefix(name).startswith("-")]
    found = [name for name in names if path.stem == name or path.stem.removeprefix(f"{name}-").isdigit()]
    if not found:
        raise PlantError(f"{path.name} is not named after a bug: <bug>.yaml or <bug>-<seed>.yaml")
    return found[0]


def play_on_the_wire(path: Path, bug: str | None) -> Played:
    """Run the scenario `path` on real parts, its gateway with the bug of that name, or as it is for None."""
    here = Path(__file__).parent
    places = [str(here / "gateway"), str(here), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    environment |= {PLANT_GATEWAY: bug} if bug else {}
    with TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-m", "seawall", "run", str(path.resolve()), "--brief", "--out", folder],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        verdicts = _verdicts(sorted(Path(folder).glob("*/verdict.json")))
    if not verdicts:
        return Played(bug or "", f"no report, exit code {run.returncode}: {(run.stdout + run.stderr)[-600:]}", ())
    last: Any = verdicts[-1]
    broken = tuple(check["name"] for check in last["checks"] if check["verdict"] == "fail")
    return Played(bug or "", last["verdict"], broken)


def _verdicts(files: Sequence[Path]) -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]

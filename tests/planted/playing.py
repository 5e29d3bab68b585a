"""Play schedules with a bug in place: `SEAWALL_PLANT=NAME python playing.py FILE ...`, NAME may be empty."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from planting import PLANT, sow

__all__ = ["main"]


def main(files: list[str]) -> None:
    """Print, as JSON, the checks that each schedule breaks."""
    if os.environ[PLANT]:
        sow()
    from seawall.scenario import load_scenario
    from seawall.simulation import simulate
    from seawall.verdicts.judge import judge_scenario
    from seawall.verdicts.model import Verdict

    broken: dict[str, list[str]] = {}
    for file in files:
        scenario = load_scenario(Path(file)).scenario
        checks = judge_scenario(simulate(scenario), scenario).checks
        broken[Path(file).stem] = [check.name for check in checks if check.verdict is Verdict.FAIL]
    sys.stdout.write(json.dumps(broken) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Write the journal of one simulated scenario, in a process of its own: `python journals.py SCENARIO FOLDER [SEED]`."""

from __future__ import annotations

import sys
from pathlib import Path

from seawall.scenario import load_scenario
from seawall.simulation.run import write_journal

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Write the journals of the scenarios given as `path folder` pairs."""
    for path, folder in zip(arguments[::2], arguments[1::2], strict=True):
        loaded = load_scenario(Path(path))
        Path(folder).mkdir(parents=True)
        write_journal(loaded, loaded.scenario, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])

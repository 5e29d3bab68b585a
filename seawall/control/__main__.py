"""`python -m seawall.control`: have runs made for Locust's web UI until standard input ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from seawall.cli import render_of
from seawall.control.host import serve_runs
from seawall.paths import runs_dir

__all__ = ["main"]


def main() -> int:
    """Serve into the reports folder, or the one that is named, and return the exit code of the last run."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else runs_dir()
    return asyncio.run(serve_runs(out.resolve(), render_of, announce=lambda line: print(line, flush=True)))


if __name__ == "__main__":
    raise SystemExit(main())

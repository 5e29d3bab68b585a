"""A journal of a long run is merged, read, judged and shown in bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUESTS = 100_000
MEMORY_MB_MAX = 350
"""Measured: 140 MB, and 0.9 kB a request beyond that. As objects the same events take over 400 MB."""


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_hundred_thousand_requests_fit_in_bounded_memory() -> None:
    """Half a million events, in a process of their own: the run passes, and its peak stays under the bound."""
    command = [sys.executable, "-m", "benchmarks.journal_at_size", str(REQUESTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"peak resident memory (\d+) MB", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) < MEMORY_MB_MAX, done.stdout

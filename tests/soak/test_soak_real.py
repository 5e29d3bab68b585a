"""The soak itself, turned red: a leak that is planted in the gateway ends it with 1, and with the leak's name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]


def test_a_planted_leak_turns_the_soak_red(tmp_path: Path) -> None:
    """Ten descriptors a second are found in 20 s, by kind and process; the rest is level, and the books are right."""
    command = [sys.executable, "-m", "benchmarks.soak", "--seconds", "20", "--leak", "descriptors"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text("utf-8"))
    (leak,) = [each for each in found["trends"] if (each["process"], each["measure"]) == ("gateway", "descriptors")]
    assert leak["slope"] == pytest.approx(600, rel=0.4)
    assert "NOT RIGHT: gateway, descriptors: GROWING" in done.stderr
    assert found["books"]["total"] - found["books"]["open"] >= found["books"]["settled"] > 0
    assert "GROWS" in (tmp_path / "soak.html").read_text("utf-8")

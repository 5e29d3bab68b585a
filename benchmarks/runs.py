"""Run a scenario's text on the wire and hand back its journal: what the benchmarks have in common."""

from __future__ import annotations

import asyncio
import io
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reports.render import render
from seawall.console import Console
from seawall.journal.read import load_journal
from seawall.journal.view import Journal
from seawall.run import run_scenario
from seawall.scenario import load_text
from seawall.screen import Screen

__all__ = ["journal_of", "latencies_ms", "quantile", "spread"]


def journal_of(text: str, name: str) -> Journal:
    """Run the scenario quietly and return its journal. Raises RuntimeError when the run was broken off."""

    async def run() -> Journal:
        with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder:
            console = Console(Screen(io.StringIO()))
            outcome = await run_scenario(
                load_text(text, name), Path(folder), console=console, stop=asyncio.Event(), render=render
            )
            if outcome.verdict is None or outcome.detail is not None:
                raise RuntimeError(outcome.detail or "the run has no verdict")
            return load_journal(outcome.folder / "journal.jsonl")

    return asyncio.run(run())


def latencies_ms(journal: Journal) -> list[float]:
    """Return intended start to end of every whole answer, in milliseconds."""
    return [(r.end_ns - r.intended_ns) / 1e6 for r in journal.requests if r.outcome == "whole"]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def spread(values: Sequence[float]) -> str:
    """Return `n, median, min to max` of some figures."""
    return f"n {len(values)}, median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"

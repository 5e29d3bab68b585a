"""
Systems side by side: `index.html` and `compare.json`, a matrix of scenarios and systems and what each system costs.

Everything on the page is in the file; each cell leads to the report of its own run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec

from reports.page import systems_page
from reports.render import write_atomically
from reports.svg import number
from seawall.compare.model import Cell, Comparison, Cost, cells_of
from seawall.verdicts.model import Verdict

__all__ = ["COMPARISON_FILE", "CostRow", "MatrixCell", "render_comparison"]

COMPARISON_FILE = "compare.json"
_FLOOR = "direct"
_TONES: dict[str, Verdict] = {
    "pass": Verdict.PASS,
    "partial": Verdict.PARTIAL,
    "safe": Verdict.SAFE,
    "fail": Verdict.FAIL,
    "crashed": Verdict.FAIL,
    "did not start": Verdict.FAIL,
}
_COSTS: tuple[tuple[str, str, str, int, Literal["times", "more"]], ...] = (
    ("requests_a_second", "requests a second, 8 clients", "", 0, "times"),
    ("latency_ms_p50", "JSON answer, p50", " ms", 2, "times"),
    ("latency_ms_p99", "JSON answer, p99", " ms", 2, "times"),
    ("first_token_ms_p50", "first token, p50", " ms", 2, "times"),
    ("first_token_ms_p99", "first token, p99", " ms", 2, "times"),
    ("cpu_ms_a_request", "processor time a request", " ms", 2, "more"),
    ("peak_mib", "memory, peak", " MiB", 0, "more"),
    ("start_s", "cold start", " s", 2, "more"),
)
"""Figure, words, unit, digits, and whether a ratio to no gateway at all means anything."""


class MatrixCell(msgspec.Struct, frozen=True, kw_only=True):
    """One cell as it is shown."""

    state: str
    tone: Verdict
    figure: str
    words: str
    links: tuple[str, ...]


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of all systems: the median of the repeats with their spread, and its ratio to `direct`."""

    name: str
    cells: tuple[str, ...]


def render_comparison(comparison: Comparison, folder: Path, worse: Sequence[str] = ()) -> Path:
    """
    Write the page and the JSON of a comparison into `folder` and return the page's path.

    `worse` are sentences on what is worse than in the baseline. Raises OSError.
    """
    write_atomically(folder / COMPARISON_FILE, msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n")
    cells = {place: _shown(cell) for place, cell in cells_of(comparison).items()}
    systems = [info.label for info in comparison.systems]
    page = systems_page(
        comparison,
        cells=cells,
        costs=cost_rows(systems, comparison.costs),
        worse=worse,
        problems=[(cost.system, cost.problem) for cost in comparison.costs if cost.problem],
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def cost_rows(systems: Sequence[str], costs: Sequence[Cost]) -> list[CostRow]:
    """Return the table of costs, a row a figure; none without a measurement."""
    if not costs:
        return []
    rows: list[CostRow] = []
    for figure, name, unit, digits, kind in _COSTS:
        floor = _median(_values(costs, _FLOOR, figure))
        cells = tuple(
            _cost_text(_values(costs, system, figure), floor if kind == "times" else None, unit, digits)
            for system in systems
        )
        rows.append(CostRow(name=name, cells=cells))
    return rows


def _values(costs: Sequence[Cost], system: str, figure: str) -> list[float]:
    return [value for cost in costs if cost.system == system and (value := getattr(cost, figure)) is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _cost_text(values: Sequence[float], floor: float | None, unit: str, digits: int) -> str:
    middle = _median(values)
    if middle is None:
        return "n/a"
    text = f"{number(middle, digits)}{unit}"
    if len(values) > 1:
        text += f" ({number(min(values), digits)} to {number(max(values), digits)})"
    return text if not floor else f"{text}, {number(middle / floor, 2)} × direct"


def _shown(cell: Cell) -> MatrixCell:
    return MatrixCell(
        state=cell.state,
        tone=_TONES.get(cell.state, Verdict.INVALID),
        figure=cell.figure,
        words=cell.words,
        links=tuple(quote(Path(report).as_posix()) for report in cell.reports),
    )

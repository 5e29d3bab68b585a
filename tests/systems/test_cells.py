"""A comparison's cells, its table of costs and what a baseline says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports.systems import COMPARISON_FILE, cost_rows, render_comparison
from seawall.compare.model import Comparison, Cost, Outcome, SystemInfo, cell_of, cells_of, worse_than


def outcome(state: Any = "pass", served: float | None = 1.0, **changes: Any) -> Outcome:
    """Return one run of one scenario."""
    fields: dict[str, Any] = {"system": "seawall", "scenario": "a", "sha256": "0", "seed": 1, "repeat": 1}
    fields |= {"state": state, "why": "because", "figures": {"served_rate": served}}
    return Outcome(**(fields | changes))


def comparison(*outcomes: Outcome, costs: tuple[Cost, ...] = ()) -> Comparison:
    """Return a comparison of these runs."""
    systems = tuple(
        SystemInfo(label=label, version="1", settings={"A": "</script>"}, files={"c.yaml": "</pre><script>"})
        for label in dict.fromkeys(each.system for each in outcomes)
    )
    titles = {each.scenario: "What happens" for each in outcomes}
    return Comparison(
        began="2026-01-01 00:00:00",
        command="seawall compare",
        host={"system": "Linux"},
        systems=systems,
        scenarios=titles,
        repeats=1,
        outcomes=outcomes,
        costs=costs,
    )


def test_the_worst_repeat_is_the_cell() -> None:
    """Of several repeats the worst counts, and the share of whole answers is told with its spread."""
    cell = cell_of([outcome(), outcome("fail", 0.5, repeat=2)])
    assert (cell.state, cell.figure) == ("fail", "50 to 100 %")


def test_a_repeat_that_proves_nothing_does_not_count_beside_others() -> None:
    """An invalid repeat is left out where another one says something, and is the cell where none does."""
    assert cell_of([outcome("invalid", 0.1), outcome(repeat=2)]).state == "pass"
    assert cell_of([outcome("invalid", None)]).figure == "n/a"


def test_a_cell_says_what_became_of_the_others() -> None:
    """Requests that got no whole answer are told by kind, and calls to who was down by number, or as n/a."""
    figures: dict[str, float | None] = {
        "served_rate": 0.5,
        "requests_cut": 7.0,
        "latency_ms_max": 2500.0,
        "calls_to_dead:storm": 60.0,
    }
    assert cell_of([outcome("fail", figures=figures)]).words == "7 cut, slowest answer 2.5 s, 60 calls to who was down"
    figures["calls_to_dead:storm"] = None
    assert "n/a" in cell_of([outcome("fail", figures=figures)]).words


@pytest.mark.parametrize(("before", "after", "worse"), [("pass", "fail", 1), ("fail", "pass", 0), ("pass", "pass", 0)])
def test_a_baseline_names_what_is_worse(before: str, after: str, worse: int) -> None:
    """A cell whose state is worse than in the baseline is told; one that is better or the same is not."""
    assert len(worse_than(comparison(outcome(before)), comparison(outcome(after)))) == worse


def test_a_cell_that_is_gone_is_worse() -> None:
    """A cell of a system that is still compared, and that is no longer run, is told."""
    old = comparison(outcome(), outcome(scenario="b"))
    assert worse_than(old, comparison(outcome())) == ["seawall, b: was pass, and is no longer run"]
    assert worse_than(old, comparison(outcome(system="direct"))) == []


def test_costs_are_ratios_to_no_gateway() -> None:
    """Each figure is the median of its repeats with the spread and its ratio to `direct`; what is not known is n/a."""
    costs = [
        Cost(system="direct", repeat=1, requests_a_second=1000.0),
        Cost(system="seawall", repeat=1, requests_a_second=400.0, peak_mib=80.0),
        Cost(system="seawall", repeat=2, requests_a_second=600.0, peak_mib=90.0),
    ]
    rows = {row.name: row.cells for row in cost_rows(["direct", "seawall"], costs)}
    assert rows["requests a second, 8 clients"][1] == "500 (400 to 600), 0.5 × direct"
    assert rows["memory, peak"] == ("n/a", "85 MiB (80 to 90)")


def test_the_page_runs_nothing_of_a_configuration(tmp_path: Path) -> None:
    """Whatever stands in a system's configuration is text on the page; the JSON beside it reads back the same."""
    made = comparison(outcome(report="runs/a b/index.html"), outcome("crashed", None, system="litellm"))
    page = render_comparison(made, tmp_path, ["litellm, a: worse"]).read_text("utf-8")
    assert "</pre><script>" not in page
    assert "litellm, a: worse" in page
    assert 'href="runs/a%20b/index.html"' in page
    kept = msgspec.json.decode((tmp_path / COMPARISON_FILE).read_bytes(), type=Comparison)
    assert cells_of(kept) == cells_of(made)

"""Two runs side by side: what got worse is said, and what is worse than its budget fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from played import play_pair

from reports.budget import BudgetError, figure_named, read_budget
from reports.changes import compare_folders, summary_of_changes
from reports.compare import Pair, Side, compare, comparison_of
from reports.render import render, view_in
from seawall.verdicts.model import Check, RunVerdict, Verdict

KNOWN = ("success_rate", "latency_ms_p99", "amplification", "spend_usd", "time_to_recover_s:dark", "requests")


def side(verdict: str = "pass", checks: tuple[Check, ...] = (), seed: int = 7, **figures: float | None) -> Side:
    """A run with these figures."""
    judged = RunVerdict(verdict=Verdict(verdict), why="Why.", checks=checks, undone=True, figures=dict(figures))
    return Side(run=f"run-{seed}", scenario="dark", arena="wire", seed=seed, verdict=judged)


def broken(budget: str, before: dict[str, float | None], after: dict[str, float | None]) -> bool:
    """Whether the change is more than the budget allows."""
    return bool(_pair(budget, before, after).regressions)


def _pair(budget: str, before: dict[str, float | None], after: dict[str, float | None]) -> Pair:
    return compare(side(**before), side(**after), read_budget([budget], KNOWN))


@pytest.mark.parametrize(
    ("budget", "figure", "before", "after", "is_broken"),
    [
        ("success_rate=-0.1%", "success_rate", 0.999, 0.998, False),  # to the last digit of what is allowed
        ("success_rate=-0.1%", "success_rate", 0.999, 0.9979, True),
        ("success_rate=-0.1%", "success_rate", 0.99, 1.0, False),  # better is never too much
        ("latency_p99=+10%", "latency_ms_p99", 100.0, 110.0, False),
        ("latency_p99=+10%", "latency_ms_p99", 100.0, 110.1, True),
        ("latency_p99=+50ms", "latency_ms_p99", 100.0, 150.1, True),
        ("latency_p99=+1s", "latency_ms_p99", 100.0, 1100.0, False),
        ("amplification=+0.05", "amplification", 1.0, 1.06, True),
        ("spend_usd=+0%", "spend_usd", 0.0, 0.001, True),  # of nothing nothing may be added
        ("time_to_recover_s=+500ms", "time_to_recover_s:dark", 1.0, 1.6, True),
        ("requests=-0%", "requests", 100.0, 99.0, True),
        ("requests=-0%", "requests", 100.0, 101.0, False),
    ],
)
def test_a_change_beyond_its_budget_is_a_regression(
    budget: str, figure: str, before: float, after: float, *, is_broken: bool
) -> None:
    """The sign says which way hurts; of rates `%` are points, of everything else a part of what it was."""
    assert broken(budget, {figure: before}, {figure: after}) is is_broken


def test_what_can_no_longer_be_measured_breaks_its_budget() -> None:
    """A figure that has become n/a is no improvement; one that has just come to be is none either."""
    assert broken("latency_p99=+10%", {"latency_ms_p99": 100.0}, {"latency_ms_p99": None})
    assert not broken("latency_p99=+10%", {"latency_ms_p99": None}, {"latency_ms_p99": 100.0})


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("latency_p99=10%", "a change is a sign, a number"),
        ("latency_p99=+10", "a change is a sign, a number"),
        ("success_rate=-5ms", "a change is a sign, a number"),
        ("latency_p98=+10%", "did you mean latency_ms_p99?"),
        ("nowhere.yaml", "FIGURE=CHANGE, or a YAML file"),
    ],
)
def test_a_budget_that_cannot_be_read_says_how_it_is_written(budget: str, said: str) -> None:
    """No unit is guessed and no name passed over."""
    with pytest.raises(BudgetError, match=re.escape(said)):
        read_budget([budget], KNOWN)


def test_a_budget_may_be_a_file(tmp_path: Path) -> None:
    """The same lines as YAML; a number without sign and unit is refused there too, with all other problems at once."""
    path = tmp_path / "budget.yaml"
    path.write_text('success_rate: -0.1%\nlatency_p99: "+10%"\n')
    assert [each.figure for each in read_budget([str(path)], KNOWN)] == ["success_rate", "latency_ms_p99"]
    path.write_text("latency_p99: +10\nunheard_of: +1%\n")
    with pytest.raises(BudgetError) as error:
        read_budget([str(path)], KNOWN)
    assert len(str(error.value).splitlines()) == 2
    for text in ("- a\n- b\n", "a: [\n", "a: &x 1\nb: *x\n"):
        path.write_text(text)
        with pytest.raises(BudgetError):
            read_budget([str(path)], KNOWN)


def test_metrics_of_the_scenario_language_are_figures() -> None:
    """`latency_p99` is what a threshold calls it."""
    assert figure_named("latency_p99") == "latency_ms_p99"
    assert figure_named("success_rate") == "success_rate"


def test_what_got_worse_needs_no_budget() -> None:
    """A worse verdict, a check that no longer holds, an undo that is no longer verified; better ones are none."""
    held = Check(group="threshold", name="a limit", verdict=Verdict.PASS, figure="1", limit="1", reason="It held.")
    missed = msgspec.structs.replace(held, verdict=Verdict.FAIL)
    worse = compare(side("pass", (held,)), side("fail", (missed,))).regressions
    assert [text.split(":")[0] for text in worse] == ["The verdict was pass and is fail", "a limit"]
    assert compare(side("fail", (missed,)), side("pass", (held,))).regressions == ()
    left = side("pass")
    left = msgspec.structs.replace(left, verdict=msgspec.structs.replace(left.verdict, undone=False))
    assert len(compare(side("pass"), left).regressions) == 1


def test_runs_are_paired_and_missing_ones_said() -> None:
    """By scenario, arena and seed; two lone runs whatever their seeds; what is no longer run is a regression."""
    pairs = comparison_of(("a", "b"), [side(seed=1), side(seed=2)], [side(seed=2), side(seed=3)]).pairs
    told = [(p.before.seed if p.before else None, p.after.seed if p.after else None) for p in pairs]
    assert sorted(told, key=str) == sorted([(1, None), (2, 2), (None, 3)], key=str)
    assert sum(len(pair.regressions) for pair in pairs) == 1
    assert comparison_of(("a", "b"), [side(seed=1)], [side(seed=9)]).regressions == 0


def test_two_folders_are_compared(tmp_path: Path, parse_page: Any) -> None:
    """From journals to page and summary, the same bytes each time; the run's own page can say it too."""
    before, after = play_pair(tmp_path)
    found = compare_folders((before, [before]), (after, [after]), ["latency_p99=+1000%"], tmp_path / "out")
    assert found.regressions > 0
    page = (tmp_path / "out" / "compare.html").read_bytes()
    assert parse_page(page).problems == []
    assert "../good/index.html" in page.decode()
    text = summary_of_changes(found)
    assert (tmp_path / "out" / "compare.md").read_text() == text
    assert "pass → fail" in text
    compare_folders((before, [before]), (after, [after]), ["latency_p99=+1000%"], tmp_path / "out")
    assert (tmp_path / "out" / "compare.html").read_bytes() == page
    render(after, before)
    assert "Since the baseline" in (after / "index.html").read_text()
    view = view_in(after, before)
    assert view.baseline is not None
    assert view.baseline.regressions

"""What only some runs have: spending against a limit, a provider that is slow; and checks that are folded away."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports.charts import breakers, draw_all, spend
from reports.model import view_of
from reports.page import run_page
from seawall.journal.events import Fault, LatencyChange, Skip, Spend
from seawall.journal.read import load_journal
from seawall.journal.view import Journal, Timed
from seawall.verdicts.model import RunVerdict, Verdict

PASSED = RunVerdict(verdict=Verdict.PASS, why="All held.", checks=(), undone=True, figures={})


@pytest.fixture
def journal(make_run: Callable[..., Path]) -> Journal:
    """The journal of a run in which nobody spent anything and nobody was slow."""
    return load_journal(make_run() / "journal.jsonl")


def timed(journal: Journal, at_s: float, event: Any) -> Any:
    return Timed(mono_ns=journal.t0_ns + round(at_s * 1e9), wall=0.0, source="gateway-1", seq=0, event=event)


def spent(journal: Journal, at_s: float, total: int, *, action: str = "reserve", **changes: Any) -> None:
    step = Spend(
        action=action,  # type: ignore[arg-type]
        reservation_id=f"{at_s}",
        request_id="000001",
        provider="gemini",
        micro_usd=100,
        total_micro_usd=total,
        limit_micro_usd=1000,
        estimated=False,
        worker="gateway-1",
    )
    journal.spends.append(timed(journal, at_s, msgspec.structs.replace(step, **changes)))


def changed(journal: Journal, at_s: float, to: str, provider: str = "gemini") -> None:
    change = LatencyChange(
        worker="gateway-1",
        provider=provider,
        to=to,
        average_ms=812.4,
        limit_ms=500,
        message="x",  # type: ignore[arg-type]
    )
    journal.latencies.append(timed(journal, at_s, change))


def denied(journal: Journal) -> None:
    skip = Skip(request_id="000001", provider="gemini", reason="budget", worker="gateway-1")
    journal.skips.append(timed(journal, 30.0, skip))


def test_spending_is_drawn_only_where_the_budget_played_a_part(journal: Journal) -> None:
    """A run far below its limit has no chart of it; one that was refused, or had a fault at the budget, has."""
    spent(journal, 5.0, 100)
    assert view_of(journal, PASSED).spending is None
    assert "spend" not in {chart.name for chart in draw_all(view_of(journal, PASSED))}
    denied(journal)
    assert draw_all(view_of(journal, PASSED))[-1].name == "spend"
    other = Fault(id="tight", phase="active", target="budget", description="d", planned_at_s=1, duration_s=2)
    journal.skips = journal.skips[:0]
    assert view_of(journal, PASSED).spending is None
    journal.fault_events.append(timed(journal, 1.0, other))
    assert view_of(journal, PASSED).spending is not None


def test_spending_shows_the_most_of_each_step_and_goes_on_from_its_end(journal: Journal) -> None:
    """Steps of 1 s: the peak of a step is kept, the next step begins with what was left, the limit with its least."""
    denied(journal)
    spent(journal, 5.1, 100)
    spent(journal, 5.2, 900, limit_micro_usd=950)
    spent(journal, 5.3, 300, action="settle")
    spent(journal, 9.0, 5, source="allowance", limit_micro_usd=10)
    spent(journal, 9.5, 0, action="expire")
    spending = view_of(journal, PASSED).spending
    assert spending is not None
    assert [round(value * 1e6) for value in spending.spent_usd[4:8]] == [0, 900, 300, 300]
    assert [round(value * 1e6) for value in spending.limit_usd[4:8]] == [950] * 4
    chart = spend.draw(view_of(journal, PASSED))
    assert chart is not None
    assert chart.table is not None
    assert ("5", "0.0009", "0.00095") in chart.table.rows
    assert "Up to" not in str(chart.svg)
    assert "At most $0.0009 of $0.00095." in str(chart.svg)


def test_stores_of_several_workers_are_added_up_unless_they_share_one(journal: Journal) -> None:
    """Two workers with a store each have twice the limit; with one Redis there is one total and one limit."""
    denied(journal)
    spent(journal, 5.1, 400)
    spent(journal, 5.2, 500, worker="gateway-2")
    apart = view_of(journal, PASSED).spending
    assert apart is not None
    assert (round(max(apart.spent_usd) * 1e6), round(apart.limit_usd[0] * 1e6), apart.stores) == (900, 2000, 2)
    assert journal.header is not None
    journal.header.settings["BUDGET_STORE"] = "redis"
    shared = view_of(journal, PASSED).spending
    assert shared is not None
    assert (round(max(shared.spent_usd) * 1e6), round(shared.limit_usd[0] * 1e6), shared.stores) == (500, 1000, 1)


def test_slowness_is_a_lane_of_the_strip_with_legend_letter_and_table(journal: Journal) -> None:
    """A provider that was slow while its breaker was closed is seen so, until it was fast again or to the end."""
    assert not [key for key in breakers.draw(view_of(journal, PASSED)).keys if key.css == "b-slow"]
    changed(journal, 30.0, "slow")
    changed(journal, 30.5, "slow")
    changed(journal, 40.0, "fast")
    changed(journal, 41.0, "fast")
    changed(journal, 50.0, "slow", "claude")
    chart = breakers.draw(view_of(journal, PASSED))
    assert chart.table is not None
    rows = [row for row in chart.table.rows if row[3] == "slow"]
    assert [row[:3] for row in rows] == [("gemini", "30", "40"), ("claude", "50", "61")]
    assert rows[0][4] == "812 ms on average, limit 500 ms"
    assert str(chart.svg).count('class="b-slow"') == 2
    assert str(chart.svg).count(">S<") == 2
    assert [key.label for key in chart.keys] == ["closed", "open", "half-open", "slow"]


def verdict_of(make_verdict: Any, *groups: str, missed: str | None = None) -> RunVerdict:
    made = make_verdict(*("pass" for _ in groups), run="pass")
    checks = [msgspec.structs.replace(check, group=group) for check, group in zip(made.checks, groups, strict=True)]
    if missed is not None:
        checks[0] = msgspec.structs.replace(checks[0], verdict=Verdict(missed))
    return msgspec.structs.replace(made, checks=tuple(checks))


GROUPS = ("threshold", "validity", "invariant", "invariant", "sometimes")


def test_what_always_holds_is_folded_into_one_line(journal: Journal, make_verdict: Any) -> None:
    """Where all held the scenario's own expectations stand open, and the rest is one closed line with its count."""
    page = run_page(view_of(journal, verdict_of(make_verdict, *GROUPS))).decode()
    table = page[page.index('id="h-checks"') : page.index('id="time"')]
    folded = table.index("3 of 3 invariants and validity checks held")
    assert table.index("check 0") < folded
    assert table.index("check 4") < folded
    assert all(table.index(f"check {n}") > folded for n in (1, 2, 3))
    assert re.findall(r'<details class="held-box"( open)?>', table) == [""]


def test_where_something_was_missed_everything_else_is_folded(journal: Journal, make_verdict: Any) -> None:
    """The missed check stands open, and all that held is behind one line."""
    page = run_page(view_of(journal, verdict_of(make_verdict, *GROUPS, missed="fail"))).decode()
    table = page[page.index('id="h-checks"') : page.index('id="time"')]
    assert "4 checks held" in table
    assert "invariants and validity" not in table

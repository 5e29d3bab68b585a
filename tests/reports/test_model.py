"""The derivations: figures of the page agree with the journal that they are made from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reports.episodes import faults_of
from reports.figures import figure_text
from reports.render import view_in
from reports.stories import STORIES_MAX
from reports.timeline import percentile
from seawall.journal.events import End, Fault, Stamped
from seawall.journal.view import index

_PHASES: tuple[Any, ...] = ("injecting", "active", "met", "healing", "healed", "undo_verified")


def test_buckets_lose_and_add_nothing(make_view: Any) -> None:
    """Due, sent, answers and outcomes over all buckets are the requests' totals."""
    view = make_view(cut=4)
    buckets = view.timeline.buckets
    assert sum(bucket.intended for bucket in buckets) == 1200
    assert sum(bucket.sent for bucket in buckets) == 1200
    assert sum(bucket.whole for bucket in buckets) == 1196
    assert sum(sum(bucket.served.values()) for bucket in buckets) == 1200
    assert sum(bucket.served.get("failed", 0) for bucket in buckets) == 4
    assert all(bucket.latencies_s == sorted(bucket.latencies_s) for bucket in buckets)


def test_percentiles_are_values_that_were_measured() -> None:
    """A percentile is the smallest value that enough others do not exceed; of nothing it is None."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([], 0.5) is None
    assert percentile([7.0], 0.01) == 7.0


def test_a_fault_shows_when_it_was_in_force_and_what_it_did(make_run: Any) -> None:
    """Intervals are as measured; fail-over takes one timeout; recovery waits for the breaker's probe."""
    (fault,) = view_in(make_run()).faults
    (episode,) = fault.episodes
    assert (episode.injecting_s, episode.active_s, episode.healed_s) == pytest.approx((8.0, 8.212, 23.181))
    assert fault.met
    figures = {figure.label: figure for figure in fault.figures}
    assert figures["Time to active"].value == "212 ms"
    assert "attempts by the router" in figures["Calls to gemini"].note
    assert 0.9 < float(figures["Time to fail over"].value.removesuffix(" s")) < 2
    assert 0 < float(figures["Time to recover"].value.removesuffix(" s")) < 6


def test_a_fault_that_never_became_active_has_no_figures(make_view: Any) -> None:
    """Nothing is claimed of a fault that had no effect, and its error is shown."""
    (fault,) = make_view(unmet=True).faults
    assert not fault.met
    assert fault.figures == ()
    assert "no effect" in fault.problems[0]


def test_a_repeated_fault_has_one_episode_an_injection() -> None:
    """Each `injecting` begins a new episode; one that was planned and never came is shown as planned only."""
    life: list[tuple[Any, float, float]] = [("planned", -1.0, 10.0), ("planned", -1.0, 30.0), ("planned", -1.0, 50.0)]
    life += [(phase, at_s + n, at_s) for at_s in (10.0, 30.0) for n, phase in enumerate(_PHASES)]
    events = [
        Stamped(
            mono_ns=round((at_s + 100) * 1e9),
            wall=0.0,
            source="harness-1",
            seq=n,
            event=Fault(
                id="again", phase=phase, target="redis", description="", planned_at_s=planned_s, duration_s=3.0
            ),
        )
        for n, (phase, at_s, planned_s) in enumerate(life)
    ]
    journal = index(events, Path("journal.jsonl"))
    journal.end = End(reason="finished", load_start_ns=100_000_000_000)
    (fault,) = faults_of(journal, {})
    assert [(episode.active_s, episode.healed_s) for episode in fault.episodes] == [(11, 14), (31, 34), (None, None)]
    assert [episode.planned_start_s for episode in fault.episodes] == [10, 30, 50]
    assert [episode.met and episode.undone for episode in fault.episodes] == [True, True, False]
    assert not fault.met


def test_stories_are_few_and_worst_first(make_view: Any) -> None:
    """At most fifty requests are told, every way to go wrong is among them, and the slowest follow."""
    dark = [
        {"id": f"dark_{p}", "at_s": 20.0, "duration_s": 12.0, "target": p}
        for p in ("gemini", "claude", "openai", "local")
    ]
    view = make_view(cut=3, spells=dark)
    outcomes = [story.outcome for story in view.stories]
    assert len(outcomes) <= STORIES_MAX
    assert Counter(outcomes)["cut"] == 3
    assert outcomes[:3] == ["cut"] * 3
    assert "refused" in outcomes
    assert outcomes[-1] == "whole"
    assert view.wrong_total == view.requests_total - sum(1 for mark in view.marks if mark.kind == "whole")
    refused = next(story for story in view.stories if story.outcome == "refused")
    assert [each.provider for each in refused.tries] == ["gemini", "claude", "openai", "local"]
    assert refused.faults == tuple(sorted(f"dark_{p}" for p in ("gemini", "claude", "openai", "local")))


def test_a_share_never_rounds_up_to_all(make_view: Any) -> None:
    """One lost answer in many thousands is not 100 %."""
    tiles = {tile.label: tile.value for tile in make_view(requests=30_000, cut=1).tiles}
    assert tiles["Answered whole"] == "99.99 %"
    assert tiles["Failed"] == "1"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("success_rate", 0.9925, "99.25 %"),
        ("latency_ms_p99", 1234.56, "1234.6 ms"),
        ("latency_p99_s", 1.25, "1.2 s"),
        ("spend_usd_max", 0.0125, "0.0125 USD"),
        ("requests", 1200.0, "1200"),
        ("time_to_recover_s:dark", 3.2235, "3.2 s"),
        ("served_share:claude", 0.29639, "29.64 %"),
        ("first_token_ms_p99", None, "n/a"),
    ],
)
def test_figures_show_the_unit_that_their_name_tells(name: str, value: float | None, text: str) -> None:
    """Units come from the name, and what was not observed is n/a."""
    assert figure_text(name, value) == text

"""The figures of the report against those that a database makes of `journal.jsonl`: no code of ours is between."""

# ruff: noqa: S608 - the queries are ours, and so is what they are put together from

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from played import play

from reports.render import view_in
from seawall.paths import scenarios_dir

NAMES = ("primary-dark", "stream-cut", "throttled", "all-down")


class Recomputed:
    """A run's view, and its journal as tables: one a kind, times in seconds after the start of the load."""

    def __init__(self, folder: Path) -> None:
        self.view = view_in(folder)
        self.base = duckdb.connect()
        source = (
            f"read_json('{folder / 'journal.jsonl'}', format='newline_delimited', union_by_name=true, sample_size=-1)"
        )
        self.base.execute(f"create table event as select * from {source}")
        (self.t0,) = self.row("select load_start_ns from event where kind = 'end'")
        self.base.execute(
            "create table request as select *, (end_ns - intended_ns) / 1e9 as latency, "
            "(first_byte_ns - intended_ns) / 1e9 as first_token, "
            "coalesce(providers_in_text[-1], provider) as server from event where kind = 'request'"
        )

    def row(self, query: str) -> tuple[Any, ...]:
        """Return the only row of a query."""
        rows = self.rows(query)
        assert len(rows) == 1
        return rows[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self.base.execute(query).fetchall()

    def seconds(self, column: str) -> str:
        """Return an expression: a time of the journal in seconds after the start of the load."""
        return f"(({column} - {self.t0}) / 1e9)"


@pytest.fixture(scope="module", params=NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recomputed]:
    """One simulated scenario that comes with Seawall."""
    text = (scenarios_dir() / f"{request.param}.yaml").read_text(encoding="utf-8")
    found = Recomputed(play(text, tmp_path_factory.mktemp("runs") / request.param, name=request.param))
    yield found
    found.base.close()


def test_counts_and_shares_are_the_journal_s(run: Recomputed) -> None:
    """Requests, whole answers, refusals, failures, calls a request and who answered are as counted."""
    total, whole, refused = run.row(
        "select count(*), count(*) filter (outcome = 'whole'), count(*) filter (outcome = 'refused') from request"
    )
    (calls,) = run.row("select count(*) from event where kind = 'call'")
    tiles = {tile.label: tile.value for tile in run.view.tiles}
    assert tiles["Requests"].replace(" ", "") == str(total)
    assert (tiles["Refused cleanly"], tiles["Failed"]) == (str(refused), str(total - whole - refused))
    assert tiles["Calls a request"] == f"{calls / total:.2f}"
    assert run.view.verdict.figures["served_rate"] == pytest.approx(whole / total)
    assert run.view.verdict.figures["amplification"] == pytest.approx(calls / total)
    for provider, count in run.rows("select server, count(*) from request where outcome = 'whole' group by 1"):
        assert run.view.verdict.figures[f"served_share:{provider}"] == pytest.approx(count / whole)
        assert sum(bucket.served.get(provider, 0) for bucket in run.view.timeline.buckets) == count


def test_percentiles_are_the_journal_s(run: Recomputed) -> None:
    """p50, p95, p99 and the slowest, of whole answers and of first tokens of whole streams, are the ranks they say."""
    for name, column, wanted in (("latency", "latency", "true"), ("first_token", "first_token", "stream")):
        for share, label in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
            (value,) = run.row(
                f"select quantile_disc({column}, {share}) from request where outcome = 'whole' and {wanted}"
            )
            figure = run.view.verdict.figures[f"{name}_ms_{label}"]
            assert (figure is None) is (value is None)  # all-down streams nothing
            assert figure is None or figure == pytest.approx(value * 1000, rel=1e-9)
    (slowest,) = run.row("select max(latency) from request where outcome = 'whole'")
    assert run.view.verdict.figures["latency_ms_max"] == pytest.approx(slowest * 1000)


def test_every_step_of_the_charts_is_the_journal_s(run: Recomputed) -> None:
    """In each step of the axis: requests due, sent and answered whole, calls by provider, and the median latency."""
    line = run.view.timeline
    first = round(line.start_s / line.step_s)
    last = first + len(line.buckets) - 1

    def step(column: str) -> str:
        at = f"floor({run.seconds(column)} / {line.step_s} + 1e-9)"
        return f"cast(least(greatest({at}, {first}), {last}) as integer) - {first}"

    for what, query in (
        ("intended", f"select {step('intended_ns')}, count(*) from request group by 1"),
        ("sent", f"select {step('sent_ns')}, count(*) from request where sent_ns is not null group by 1"),
        ("whole", f"select {step('end_ns')}, count(*) from request where outcome = 'whole' group by 1"),
    ):
        found = dict(run.rows(query))
        assert [getattr(bucket, what) for bucket in line.buckets] == [found.get(n, 0) for n in range(len(line.buckets))]
    calls = f"select {step('arrival_ns')}, provider, count(*) from event where kind = 'call' group by 1, 2"
    found_calls = {(n, provider): count for n, provider, count in run.rows(calls)}
    assert {(n, p): c for n, b in enumerate(line.buckets) for p, c in b.calls.items()} == found_calls
    medians = dict(
        run.rows(
            f"select {step('intended_ns')}, quantile_disc(latency, 0.5) from request where outcome = 'whole' group by 1"
        )
    )
    for n, bucket in enumerate(line.buckets):
        middle = bucket.latencies_s[(len(bucket.latencies_s) - 1) // 2] if bucket.latencies_s else -1
        assert middle == pytest.approx(medians.get(n, -1), rel=1e-9)


def test_the_cards_of_the_faults_are_the_journal_s(run: Recomputed) -> None:
    """Requests touched, those of them not answered whole, and calls a request, while the fault was in force."""
    for fault in run.view.faults:
        spans = run.rows(
            f"select a.mono_ns, h.mono_ns from event a join event h on a.id = h.id and a.planned_at_s = h.planned_at_s "
            f"where a.phase = 'active' and h.phase = 'healed' and a.id = '{fault.id}'"
        )
        over = " or ".join(f"(intended_ns <= {end} and end_ns >= {start})" for start, end in spans)
        touched, missed = run.row(f"select count(*), count(*) filter (outcome != 'whole') from request where {over}")
        figures = {figure.label: figure for figure in fault.figures}
        assert figures["Requests touched"].value == str(touched)
        assert figures["Requests touched"].note.startswith(f"{missed} of them")


def test_the_failover_matrix_adds_up(run: Recomputed) -> None:
    """Each column holds as many requests as the journal says were answered by that provider, or refused, or failed."""
    matrix = run.view.failover
    assert matrix is not None
    counted = dict(
        run.rows(
            "select case when outcome = 'whole' then server when outcome = 'refused' then 'refused' else 'failed' end, "
            "count(*) from request group by 1"
        )
    )
    columns: dict[str, int] = {}
    for (_, outcome), cell in matrix.cells.items():
        columns[outcome] = columns.get(outcome, 0) + cell.requests
        assert sum(count for _, count in cell.ways) == cell.requests
    assert columns == counted


def test_spending_is_the_journal_s(run: Recomputed) -> None:
    """What was settled, in dollars."""
    (spent,) = run.row("select coalesce(sum(micro_usd), 0) from event where kind = 'spend' and action != 'reserve'")
    assert run.view.verdict.figures["spend_usd"] == pytest.approx(spent / 1_000_000)


def test_evidence_names_requests_of_the_journal(run: Recomputed) -> None:
    """Every request that a check names is in the journal."""
    known = {name for (name,) in run.rows("select request_id from request")}
    named = {each.request_id for check in run.view.checks for each in check.evidence if each.request_id}
    assert {name for name in named if re.fullmatch(r"\d+", name)} <= known

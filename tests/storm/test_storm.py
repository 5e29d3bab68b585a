"""
The storm table on real processes: what clients get, and what a dead primary is spared.

One run serves all tests of this file; it prints its table at the end. `STORM_REQUESTS=200` makes every burst as large.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from storm_checks import before_known, called_too_often, not_back, not_whole, too_slow
from storm_parts import PRIMARY
from storm_rows import ROWS
from storm_runs import VARIANTS, Cell

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

rows = pytest.mark.parametrize("row", [row.name for row in ROWS])
faulty = pytest.mark.parametrize("row", [row.name for row in ROWS if not row.is_harmless])


def offences(storm: list[Cell], row: str, check: Callable[[Cell], list[str]]) -> str:
    """Return what `check` finds in the cells of a row, the first few of each."""
    cells = [cell for cell in storm if cell.row.name.startswith(row)]
    assert len(cells) >= len(VARIANTS)
    found = {str(cell.variant): problems for cell in cells if (problems := check(cell))}
    return "\n".join(f"{variant}: {len(all_)}, {'; '.join(all_[:5])}" for variant, all_ in found.items())


@rows
def test_every_client_gets_a_whole_answer_or_the_right_error(storm: list[Cell], row: str) -> None:
    """Where somebody can answer, every text is the provider's known one; else it is 503 that says when to come back."""
    assert not offences(storm, row, not_whole)


@rows
def test_nothing_is_slower_than_the_first_time_out(storm: list[Cell], row: str) -> None:
    """Only the clients who find the fault wait for it; what is known to be down is told within 50 ms."""
    assert not offences(storm, row, too_slow)


@faulty
def test_a_provider_at_fault_is_left_alone(storm: list[Cell], row: str) -> None:
    """After those in flight: one probe a recovery period and worker, and none at all while a cooldown lasts."""
    assert not offences(storm, row, called_too_often)


@faulty
def test_the_fault_was_met(storm: list[Cell], row: str) -> None:
    """Every worker of every cell ran into the fault; what nobody met would prove nothing."""
    for cell in storm:
        if cell.row.name.startswith(row):
            met = before_known(cell, PRIMARY)
            assert all(met.values()), f"{cell.variant}: {met}"


@rows
def test_traffic_returns(storm: list[Cell], row: str) -> None:
    """Once healed, each worker is back at the primary within an open period and a second, and stays there."""
    assert not offences(storm, row, not_back)


def test_a_cooldown_of_30_s_was_waited_out(storm: list[Cell]) -> None:
    """One cell saw the whole of it: requests all the time, no call for 30 s, and the traffic back after it."""
    (cell,) = (cell for cell in storm if cell.row.name.endswith("observed in full"))
    assert cell.trickle[-1].end_s - cell.start_s > 28
    assert len(cell.trickle) > 200
    assert cell.back


def test_no_process_complains(storm: list[Cell], storm_folder: Path) -> None:
    """Nothing of all this leaves a word on standard error: no traceback, no unretrieved exception."""
    assert storm
    said = {path.parent.name: path.read_text() for path in storm_folder.rglob("stderr.log")}
    assert len(said) == len(VARIANTS) + 1
    assert not {name: text[:2000] for name, text in said.items() if text}

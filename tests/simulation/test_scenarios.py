"""Every scenario in the simulation: the right verdict, and the same journal to the byte whoever runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.journal.read import load_journal
from seawall.scenario import load_scenario
from seawall.simulation import simulate
from seawall.simulation.run import UNEQUAL_FIELDS
from seawall.verdicts.judge import judge, judge_scenario
from seawall.verdicts.model import Verdict

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for folder in ("scenarios", "scenarios/regressions")
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if "simulation" in load_scenario(path).scenario.arenas
]
SAFE = {"airgap", "all-down", "network-gone"}
"""Those that refuse clients cleanly, as they may."""


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two folders with the journals of all scenarios, made by two processes that hash differently."""
    folders = [tmp_path_factory.mktemp("first") / "runs", tmp_path_factory.mktemp("second") / "runs"]
    runs: list[subprocess.Popen[bytes]] = []
    for number, folder in enumerate(folders):
        pairs = [word for path in FILES for word in (str(path), str(folder / path.stem))]
        argv = [sys.executable, str(Path(__file__).with_name("journals.py")), *pairs]
        runs.append(subprocess.Popen(argv, env={**os.environ, "PYTHONHASHSEED": str(number + 1)}))
    assert [run.wait(120) for run in runs] == [0, 0]
    return folders


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_comes_to_its_verdict(path: Path, journals: list[Path]) -> None:
    """What holds on the wire holds in the simulation, every fault is met, and all is undone."""
    verdict = judge(load_journal(journals[0] / path.stem / "journal.jsonl"))
    assert verdict.verdict is (Verdict.SAFE if path.stem in SAFE else Verdict.PASS), verdict.why
    assert verdict.undone in (True, None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_gives_the_same_journal_twice(path: Path, journals: list[Path]) -> None:
    """Two processes with different hash seeds write the same bytes."""
    first, second = ((folder / path.stem / "journal.jsonl").read_bytes() for folder in journals)
    assert first == second


def test_what_may_differ_between_two_journals_is_in_the_header_only() -> None:
    """The fields that name a run or a machine are fields of the header."""
    journal = simulate(load_scenario(FILES[0]).scenario)
    assert journal.header is not None
    assert set(UNEQUAL_FIELDS) < set(journal.header.__struct_fields__)


def test_in_memory_and_on_disk_are_the_same() -> None:
    """The journal in memory has the verdict of the one on disk, of another seed another journal."""
    scenario = load_scenario(ROOT / "scenarios/primary-dark.yaml").scenario
    here, there = simulate(scenario), simulate(scenario, seed=8)
    assert judge_scenario(here, scenario).verdict is Verdict.PASS
    assert [*here.requests] == [*simulate(scenario).requests]
    assert [request.end_ns for request in here.requests] != [request.end_ns for request in there.requests]

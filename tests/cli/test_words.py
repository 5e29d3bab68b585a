"""What the command says to a newcomer: help, nearest words, lists, plans, versions, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.commands.table import COMMANDS
from seawall.paths import scenarios_dir
from seawall.version import version

SHORT = Path(__file__).parents[1] / "run" / "short.yaml"


def _seawall(*arguments: str, **variables: str) -> tuple[int, str, str]:
    environment = {**os.environ, "COLUMNS": "100", **variables}
    done = subprocess.run(
        [sys.executable, "-m", "seawall", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_without_a_command_it_shows_what_there_is() -> None:
    """The bare command prints every command with its sentence, and exits with 2, for nothing was done."""
    code, output, _ = _seawall()
    assert code == 2
    for command in COMMANDS:
        assert command.name in output
    assert "exit codes" in output


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help(command: str) -> None:
    """`--help` of every command says what it is for and exits with 0."""
    code, output, _ = _seawall(command, "--help")
    assert code == 0
    words = next(each.help for each in COMMANDS if each.name == command)
    assert words.split()[0] in output


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rnu"], "`seawall run`"),
        (["validat"], "`seawall validate`"),
        (["run", "--jbos", "2"], "--jobs"),
        (["run", "primry-dark"], "`primary-dark`"),
        (["run", "--tag", "failovr"], "`failover`"),
        (["serve", "--dmeo"], "--demo"),
    ],
)
def test_misspelt_words_are_told_the_right_one(words: list[str], meant: str) -> None:
    """A misspelt command, option, scenario or tag exits with 2 and names the nearest right word."""
    code, output, problem = _seawall(*words)
    assert (code, output) == (2, "")
    assert f"did you mean {meant}" in problem
    assert len(problem.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "x", "--jobs", "0"], ["run", "x", "--jobs", "many"], ["report", "nowhere"], ["completion", "sh"]],
)
def test_bad_usage_is_one_line(words: list[str]) -> None:
    """What cannot be meant exits with 2 and one line that says so."""
    code, output, problem = _seawall(*words)
    assert (code, output) == (2, "")
    assert len(problem.splitlines()) == 1


def test_list_is_aligned() -> None:
    """`list` shows every scenario; names and lengths stand in columns, and what cannot be read is last."""
    code, output, _ = _seawall("list")
    assert code == 0
    names = sorted(path.stem for path in scenarios_dir().glob("*.yaml"))
    lines = [line for line in output.splitlines() if " is broken" not in line]
    assert [line.split()[0] for line in lines] == [
        name for name in names if any(line.startswith(f"{name} ") for line in lines)
    ]
    assert len({line.index(" s  ") for line in lines}) == 1
    code, output, _ = _seawall("list", "--names")
    assert set(names) <= set(output.split())
    code, output, _ = _seawall("list", "--tags")
    assert "ci" in output.split()


def test_schema_and_version_are_printed() -> None:
    """`schema` prints JSON, `version` and `--version` the version."""
    code, output, _ = _seawall("schema")
    assert (code, json.loads(output)["type"]) == (0, "object")
    for words in ("version", "--version"):
        code, output, _ = _seawall(words)
        assert (code, output.splitlines()[0].split()[:2]) == (0, ["seawall", version()])


def test_plan_starts_nothing(tmp_path: Path) -> None:
    """`run --plan` prints load, parts, every fault with its target in time, and the length; it writes nothing."""
    other = tmp_path / "other.yaml"
    other.write_text(
        SHORT.read_text().replace("seed: 5", "seed: 5\nexclusive: true").replace("title: One", "title: Another")
    )
    out = tmp_path / "out"
    state = tmp_path / "state"
    code, output, _ = _seawall(
        "run", str(SHORT), str(other), "--plan", "--seed", "77", "--out", str(out), SEAWALL_STATE=str(state)
    )
    assert code == 0
    lines = output.splitlines()
    times = [line.split(" s  ", 1) for line in lines if " s  " in line]
    assert times[:4] == [
        ["        0.0", "load begins"],
        ["        0.5", "fault refusing at gemini: answers with status 503"],
        ["        1.5", "fault refusing heals"],
        ["        2.5", "load ends; answers under way may take 30s more"],
    ]
    assert "50 requests in 2.5 s, seed 77" in output
    assert "Toxiproxy" in output
    assert ", alone" in output
    assert lines[-1].startswith("2 scenarios")
    assert lines[-1].endswith("Nothing was started.")
    assert list(tmp_path.iterdir()) == [other]


def test_plan_shows_every_kind_of_fault(tmp_path: Path) -> None:
    """Toxics, answers, processes, budgets and repetitions are all told in the plan's timeline, and Redis as a part."""
    scenario = tmp_path / "kinds.yaml"
    scenario.write_text(
        """\
version: 1
title: One fault of each kind
arenas: [wire]
system: {workers: 2, settings: {BUDGET_STORE: redis}}
load: {executor: constant-arrival-rate, rate: 10/s, duration: 60s}
faults:
  - {id: slow, at: 5s, duration: 3s, every: 20s, target: redis, toxic: {type: latency, attributes: {latency: 300}}}
  - {id: dead, at: 10s, target: gateway, process: kill, restart_after: 2s}
  - {id: poor, at: 15s, duration: 2s, target: budget, remaining: 0.10 USD}
  - {id: some, at: 30s, duration: 5s, target: claude, respond: {status: 429, retry_after: 5s}, injection_rate: 50%}
"""
    )
    code, output, problem = _seawall("run", str(scenario), "--plan")
    assert code == 0, problem
    for words in (
        "5.0 s  fault slow at redis: toxic latency (latency 300, downstream)",
        "25.0 s  fault slow at redis",
        "45.0 s  fault slow at redis",
        "10.0 s  fault dead at gateway: process: kill",
        "12.0 s  fault dead heals",
        "15.0 s  fault poor at budget: only 0.1 USD of the day's limit left",
        "30.0 s  fault some at claude: answers with status 429, retry_after 5s, 50% of requests",
        "with 2 workers",
        "Redis",
    ):
        assert words in output


def test_scenario_for_another_arena_is_refused(tmp_path: Path) -> None:
    """A scenario that does not run on the wire is refused by name with exit code 2, and started by nobody."""
    scenario = tmp_path / "simulated.yaml"
    scenario.write_text(SHORT.read_text().replace("arenas: [wire]", "arenas: [simulation]"))
    code, _, problem = _seawall("run", str(scenario))
    assert code == 2
    assert "simulation only, not on the wire" in problem

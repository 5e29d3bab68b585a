"""What a CI server is told: annotations at the line that asked, the summary, exit codes, and the action itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from played import play, play_pair
from ruamel.yaml import YAML

from reports.annotations import annotations_of, file_of, lines_of
from reports.render import render, view_in
from seawall.cli import main
from seawall.commands.parser import parse
from seawall.suite import RUNS_FILE

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """\
version: 1
title: Gemini falls silent, and that is said at its line
seed: 7
system: {gateway: seawall}
load: {executor: constant-arrival-rate, rate: 25/s, duration: 12s}
steady_state:
  window: 3s
  latency_p99: "< 1ms"
faults:
  - {id: far, at: 5s, duration: 3s, target: openai, toxic: {type: timeout, attributes: {timeout: 0}}}
expect:
  sometimes:
    - {served_by: gemini, requests: ">= 1"}
    - {served_by: local, requests: ">= 5"}
  thresholds:
    - {metric: success_rate, limit: ">= 10%"}
    - {metric: latency_p50, limit: "< 1ms"}
    - {metric: latency_p99, limit: "< 1ms", severity: advisory}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that failed in several ways, with its scenario file in a workspace beside it."""
    root = tmp_path_factory.mktemp("ci")
    (root / "workspace" / "chaos").mkdir(parents=True)
    (root / "workspace" / "chaos" / "played.yaml").write_text(SCENARIO)
    return play(SCENARIO, root / "run")


def line_of(words: str) -> int:
    """Return the line of the scenario that holds `words`."""
    return 1 + next(n for n, line in enumerate(SCENARIO.splitlines()) if words in line)


def test_each_annotation_stands_at_the_line_that_asked(run: Path) -> None:
    """Expectations at their own lines, steady state at its limit, a fault that nobody met at the fault."""
    found = annotations_of(view_in(run), run.parent / "workspace")
    told = {int(match[1]) for line in found if (match := re.search(r"file=chaos/played\.yaml,line=(\d+)", line))}
    assert {line_of("served_by: local"), line_of('latency_p99: "< 1ms"'), line_of("id: far")} <= told
    assert line_of("served_by: gemini") not in told
    warnings = [line for line in found if line.startswith("::warning")]
    assert len(warnings) == 1
    assert f"line={line_of('severity: advisory')}," in warnings[0]
    assert all("seawall run --arena simulation played --seed 7" in line for line in found)


def test_a_file_is_named_only_when_it_is_the_one_that_was_run(run: Path, tmp_path: Path) -> None:
    """A changed file, or none, gives annotations without a place, not ones at wrong lines."""
    workspace = run.parent / "workspace"
    assert file_of("played", SCENARIO, workspace) == "chaos/played.yaml"
    assert file_of("played", SCENARIO + "\n", workspace) is None
    assert file_of("../chaos/played", SCENARIO, workspace) is None
    assert not [line for line in annotations_of(view_in(run), tmp_path) if "file=" in line]
    assert lines_of("no: [scenario", view_in(run).checks) == {}


def test_our_own_scenarios_are_found() -> None:
    """A scenario that comes with Seawall is annotated in the checkout."""
    text = (ROOT / "scenarios" / "primary-dark.yaml").read_text(encoding="utf-8")
    assert file_of("primary-dark", text, ROOT) == "scenarios/primary-dark.yaml"


def test_report_tells_github(run: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """`--github` prints the annotations and appends the summary; the exit code is the verdict's."""
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(run.parent / "workspace"))
    assert main(["report", str(run), "--github"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("::error file=chaos/played.yaml,line=")]
    assert summary.read_text().startswith("before\n## 🛑 fail: ")


def test_compare_fails_ci_on_a_regression(tmp_path: Path, capsys: Any) -> None:
    """0 when nothing is worse, 1 when something is, 2 for a wrong call, of runs and of suites."""
    good, bad = play_pair(tmp_path)
    for name, runs in (("a", [good]), ("b", [bad])):
        (tmp_path / name).mkdir()
        (tmp_path / name / RUNS_FILE).write_text(f'["../{runs[0].name}"]')
    assert main(["report", "compare", str(good), str(good), "--budget", "success_rate=-0.1%"]) == 0
    assert main(["report", "compare", str(good), str(bad), "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out" / "compare.html").is_file()
    assert main(["report", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "REGRESSION primary-dark (simulation): The verdict was pass and is fail" in capsys.readouterr().out
    for wrong in (
        ["compare", str(good)],
        ["compare", str(good), str(tmp_path / "nowhere")],
        ["compare", str(good), str(bad), "--budget", "success_rat=-1%"],
        [str(good), str(bad)],
        [str(good), "--budget", "success_rate=-1%"],
        [str(good), "--baseline", str(tmp_path / "nowhere")],
        [str(tmp_path / "a"), "--baseline", str(bad)],
    ):
        assert main(["report", *wrong]) == 2, wrong
    assert main(["report", str(bad), "--baseline", str(good)]) == 1


def test_report_opens_the_page(tmp_path: Path, monkeypatch: Any) -> None:
    """`--open` hands the page's address to the system's browser."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    folder, _ = play_pair(tmp_path)
    assert main(["report", str(folder), "--open"]) == 0
    assert opened == [(folder / "index.html").resolve().as_uri()]


def test_a_journal_that_cannot_be_read_is_invalid(tmp_path: Path, capsys: Any) -> None:
    """It is said in one line, without a traceback."""
    (tmp_path / "journal.jsonl").write_text("nonsense\n")
    assert main(["report", str(tmp_path)]) == 3
    assert main(["report", "compare", str(tmp_path), str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_junit_says_why_a_case_was_skipped(run: Path) -> None:
    """A missed advisory limit is skipped with its reason; failures and errors are the verdicts'."""
    render(run)
    text = (run / "junit.xml").read_text()
    assert re.search(r'<skipped message="advisory: latency_p99 is [^"]+"', text)
    assert "<failure" in text
    assert "<error" in text


def test_the_action_calls_what_there_is() -> None:
    """Every `seawall` call of action.yml parses, and no input of a user is pasted into a script."""
    action = YAML(typ="safe", pure=True).load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    calls = [line.strip() for script in scripts for line in script.splitlines() if line.strip().startswith("seawall ")]
    assert len(calls) >= 3
    for call in calls:
        plain = call.partition("||")[0].replace("$ARENA", "wire").replace('"${budget[@]}"', "")
        parse(re.sub(r'"[^"]*\$[^"]*"', "x", plain).replace('"', "").split()[1:])
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert step.get("shell") == "bash" if "run" in step else "uses" in step
    for step in action["runs"]["steps"]:
        for value in step.get("env", {}).values():
            for name in re.findall(r"inputs\.([\w-]+)", str(value)):
                assert name in action["inputs"]

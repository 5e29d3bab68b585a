"""`seawall run --arena simulation`, as people use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in the checkout and return what it said."""
    argv = [sys.executable, "-m", "seawall", "run", *arguments, "--out", str(out)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_scenarios_run_and_report(tmp_path: Path) -> None:
    """Two scenarios give two reports and a table, without a process being started or an undo file being left."""
    done = run("primary-dark", "worker-killed", "--arena", "simulation", "--seed", "3", out=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in the simulation, seed 3" in done.stdout
    assert "fault dark: active, proven by silent" in done.stdout
    folders = [path for path in tmp_path.iterdir() if path.name.startswith(("primary-dark-", "worker-killed-"))]
    assert len(folders) == 2
    for folder in folders:
        again = f"seawall run --arena simulation {folder.name.rsplit('-', 3)[0]} --seed 3"
        assert again in (folder / "index.html").read_text(), "what a simulation showed is shown again by one"
        assert (folder / "junit.xml").is_file()
        assert msgspec.json.decode((folder / "verdict.json").read_bytes())["verdict"] == "pass"
        assert not [*folder.glob("*.log")]


def test_a_bad_setting_is_bad_usage(tmp_path: Path) -> None:
    """What the router refuses to be set to ends with exit code 2 and its own words."""
    scenario = tmp_path / "bad.yaml"
    scenario.write_text(
        "version: 1\ntitle: t\narenas: [simulation]\nsystem: {settings: {AIRGAP_ALLOW: 'a@b'}}\n"
        "load: {executor: constant-arrival-rate, rate: 20/s, duration: 10s}\n"
    )
    done = run(str(scenario), "--arena", "simulation", out=tmp_path / "out")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "AIRGAP_ALLOW" in done.stdout + done.stderr


def test_a_scenario_of_the_wire_only_is_refused(tmp_path: Path) -> None:
    """A scenario that does not name the arena is refused by name with exit code 2."""
    scenario = tmp_path / "wired.yaml"
    scenario.write_text(
        "version: 1\ntitle: t\narenas: [wire]\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 10s}\n"
    )
    done = run(str(scenario), "--arena", "simulation", out=tmp_path / "out")
    assert done.returncode == 2
    assert "wire only, not in the simulation" in done.stderr


def test_brief_prints_verdicts_only(tmp_path: Path) -> None:
    """With `--brief` a scenario that passes is two lines, and one that fails is told in full."""
    failing = tmp_path / "never.yaml"
    failing.write_text(
        "version: 1\ntitle: t\narenas: [simulation]\n"
        "load: {executor: constant-arrival-rate, rate: 20/s, duration: 10s}\n"
        "expect: {sometimes: [{breaker: gemini, reaches: open}]}\n"
    )
    done = run("claude-dark", str(failing), "--arena", "simulation", "--brief", out=tmp_path / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    passed, failed = done.stdout.split("▶ never")
    assert [line.split(":")[0] for line in passed.splitlines()] == ["PASS claude-dark", "  report"]
    assert "in the simulation, seed" in failed
    assert "fail sometimes: the breaker of gemini reaches open" in failed

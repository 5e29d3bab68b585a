"""The pytest plugin in a project that is not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_project import run_pytest

HEAVY = {"anyio", "asyncio", "faults", "httpx", "msgspec", "pydantic", "router", "ruamel", "seawall.simulation"}
PASSED = (
    "test_fixture",
    "test_in_virtual_time",
    "test_marked",
    "test_method[300]",
    "test_two_runs",
    "test_unchecked",
)
FAILED = {
    "test_a_router_with_settings_of_its_own": "was given: CIRCUIT_BREAKER_FAILURE_THRESHOLD; pass yours as settings",
    "test_a_setting_that_is_none": "`NO_SUCH_SETTING` is no setting of the gateway",
    "test_broken_file": "broken.yaml:8:",
    "test_never_opens": "the breaker of gemini reaches open",
    "test_no_such_file": "there is no such scenario",
}


@pytest.fixture(scope="module")
def said(project: Path) -> str:
    """Return what pytest said of the project's suite."""
    done = run_pytest(project, "-rA")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def section_of(said: str, name: str) -> str:
    """Return what pytest said of one failure."""
    return said.split(f"_ {name} _", 1)[1].split("\n____", 1)[0]


@pytest.mark.parametrize("name", PASSED)
def test_what_holds_passes(name: str, said: str) -> None:
    """Marked tests, the fixture, schedules and async bodies pass where the router holds."""
    assert re.search(rf"^PASSED \S*{re.escape(name)}$", said, re.MULTILINE), said


@pytest.mark.parametrize(("name", "words"), FAILED.items())
def test_what_does_not_hold_fails_in_words(name: str, words: str, said: str) -> None:
    """A failure says what is wrong in words, and shows no code of Seawall's."""
    assert re.search(rf"^FAILED \S*{name} ", said, re.MULTILINE), said
    section = section_of(said, name)
    assert words in section
    assert "Traceback" not in section
    assert "seawall/simulation" not in section


def test_a_failure_shows_the_table_and_the_report(project: Path, said: str) -> None:
    """The first violation stands first, with figure, limit and reason; the report is there, and the way to it again."""
    section = section_of(said, "test_never_opens")
    lines = [line for line in section.splitlines() if line.strip()]
    assert lines[1].startswith("FAIL dark (seed 7): sometimes: the breaker of gemini reaches open: 0 times")
    assert re.split(r" {2,}", lines[2]) == ["verdict", "check", "figure", "limit"]
    assert re.split(r" {2,}", lines[3]) == ["fail", "sometimes: the breaker of gemini reaches open", "0 times", ">= 1"]
    assert re.search(r"^\d+ other checks passed$", section, re.MULTILINE)
    page = re.search(r"^report: (.+)$", section, re.MULTILINE)
    assert page is not None
    assert Path(page.group(1)).is_relative_to(project / "seawall-reports")
    assert "CIRCUIT_BREAKER_FAILURE_THRESHOLD" in Path(page.group(1)).read_text()
    assert "again: pytest 'test_mine.py::test_never_opens' --seawall-seed 7" in section


def test_only_failures_leave_reports(project: Path, said: str) -> None:
    """What passed, and what was not to be checked, writes nothing."""
    assert "report:" in said
    assert len([*(project / "seawall-reports").iterdir()]) == 1


def test_another_loop_for_async_tests_is_no_matter(project: Path) -> None:
    """Where pytest-asyncio takes every async test, those that are marked run in virtual time all the same."""
    done = run_pytest(project, "-o", "asyncio_mode=auto", "-k", "virtual or method")
    assert "2 passed" in done.stdout, done.stdout


def test_seed_and_folder_are_options(project: Path, tmp_path: Path) -> None:
    """`--seawall-seed` is every run's seed and `--seawall-out` the place of reports; `-v` shows the passes too."""
    done = run_pytest(project, "-v", "-k", "never_opens", "--seawall-seed", "41", "--seawall-out", str(tmp_path))
    assert "FAIL dark (seed 41)" in done.stdout, done.stdout
    assert f"report: {tmp_path}" in done.stdout
    assert "pass     invariant: " in done.stdout


def test_the_mark_is_documented(project: Path) -> None:
    """`pytest --markers` tells what there is."""
    assert "@pytest.mark.seawall(*scenarios, seed=None" in run_pytest(project, "--markers").stdout


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    """pytest loads the plugin at every start, so that brings in nothing but the plugin itself."""
    code = (
        "import sys, pytest; before = set(sys.modules); import seawall.pytest_plugin; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "seawall.pytest_plugin" in loaded
    assert loaded <= {"seawall", "seawall.pytest_plugin", "__future__", "inspect"}, loaded
    assert not loaded & HEAVY

"""Several scenarios in one command: side by side, alone, once more, stopped; the table, the page, the exit code."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from command_harness import Harness, until, wait_for

from seawall.run import Exit
from seawall.suite import LATE, worst_exit
from seawall.verdicts import validity

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SHORT = Path(__file__).with_name("short.yaml")
TINY = """\
version: 1
title: A second of load in fair weather
arenas: [wire]
load: {executor: constant-arrival-rate, rate: 10/s, duration: 1s}
expect: {sometimes: [{served_by: gemini, requests: ">= 5"}]}
"""


def _scenario(harness: Harness, name: str, text: str) -> str:
    path = harness.tmp_path / f"{name}.yaml"
    path.write_text(text)
    return str(path)


def _row(output: str, name: str) -> list[str]:
    """Return the cells of a scenario's row in the closing table."""
    table = output[output.index("scenario  ") :]
    return next(line.split() for line in table.splitlines() if line.startswith(f"{name} "))


def test_worst_exit_wins() -> None:
    """What is not undone outranks an interruption, that a failure, that what was stopped, that what proves nothing."""
    rising = [Exit.PASS, Exit.INVALID, Exit.STOPPED, Exit.FAIL, Exit.INTERRUPTED, Exit.NOT_UNDONE]
    for n in range(1, len(rising) + 1):
        assert worst_exit(rising[:n]) is rising[n - 1]
        assert worst_exit(rising[:n][::-1]) is rising[n - 1]


def test_late_is_the_name_that_verdicts_use() -> None:
    """The check that lets a run be repeated has the name under which verdicts know it."""
    assert f'"{LATE}"' in Path(validity.__file__).read_text()


def test_two_side_by_side_and_one_alone(harness: Harness) -> None:
    """Each run's lines come in one piece, the exclusive one runs after the others, the worst exit code counts."""
    names = [
        _scenario(harness, "one", TINY),
        _scenario(harness, "red", TINY.replace('">= 5"', '">= 5000"')),
        _scenario(harness, "alone", TINY.replace("title: A", "exclusive: true\ntitle: A")),
    ]
    code, output = harness.run_scenarios(*names)
    lines = output.splitlines()
    assert code == 1, output
    assert _row(output, "red")[:3] == ["red", "fail", "10"]
    assert [line for line in lines if line.startswith("started ")] == [
        "started one (1 of 2, 2 at a time)",
        "started red (2 of 2, 2 at a time)",
    ]
    titles = [line for line in lines if line.startswith("▶ ")]
    assert titles[2].startswith("▶ alone")
    failure = next(line for line in lines if line.startswith("FAIL red"))
    assert "sometimes" in failure
    assert "5000" in failure
    page = (harness.out / "latest").resolve()
    assert page.name.startswith("suite-")
    assert f"all runs: {page.relative_to(harness.tmp_path) / 'index.html'}" in output
    assert harness.undo_files() == []
    # All can be judged again, with the same outcome.
    assert harness.run("report", str(harness.out / "latest"))[0] == 1


def test_fail_fast_begins_no_other(harness: Harness) -> None:
    """After the first that does not pass no other begins, and the table says which were not run."""
    names = [_scenario(harness, "red", TINY.replace('">= 5"', '">= 5000"')), _scenario(harness, "never", TINY)]
    code, output = harness.run_scenarios(*names, "--jobs", "1", "--fail-fast")
    assert code == 1, output
    assert "▶ never" not in output
    assert _row(output, "never") == ["never", "not", "run", "–", "–"]


def test_late_load_is_repeated_alone(harness: Harness) -> None:
    """A run that only a busy machine made invalid is run again, once, with the reason in plain words."""
    scenario = _scenario(harness, "tiny", TINY)
    process = harness.start("run", scenario, "--out", str(harness.out))
    wait_for(lambda: any(harness.out.glob("*/load-status.json")), 60)
    load = harness.child(process, "locust")
    status = json.loads(next(harness.out.glob("*/load-status.json")).read_text())
    time.sleep(max(0.0, status["t0_ns"] / 1e9 + 0.25 - time.monotonic()))
    load.suspend()
    time.sleep(0.4)
    load.resume()
    output, _ = process.communicate(timeout=90)
    code = process.returncode
    assert "the machine was too busy" in output, output
    assert "running it again alone" in output
    assert output.count("▶ tiny") == 2
    assert code in (0, 3), output  # the second may be late as well, where the machine really is busy
    assert len([path for path in harness.out.iterdir() if not path.is_symlink()]) == 2
    assert (harness.out / "latest").resolve() == harness.folder("tiny")


def test_signal_stops_all_of_them(harness: Harness) -> None:
    """A terminal that closes (SIGHUP) ends every run under way, each undone and reported, and begins no other."""
    names = [_scenario(harness, name, SHORT.read_text()) for name in ("a", "b", "c")]
    process = harness.start("run", *names, "--no-repeat", "--out", str(harness.out))
    until(process, "started b")
    wait_for(lambda: len(list(harness.out.glob("*/load-status.json"))) == 2, 30)
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130, output
    assert _row(output, "c")[1:3] == ["not", "run"]
    for name in ("a", "b"):
        assert harness.verdict(name)["undone"] is not False
        assert (harness.folder(name) / "index.html").stat().st_size > 0
    wait_for(lambda: not harness.processes(), 10)
    assert harness.undo_files() == []

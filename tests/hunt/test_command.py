"""`seawall hunt`: its words, its exit codes, its files, and its end by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seawall.cli import main

BROKEN = """
from router.hybrid import HybridRouter
from router.errors import AllCloudsDownError


class Hasty(HybridRouter):
    async def complete(self, request):
        reply = await super().complete(request)
        if len(reply.attempts) > 1:
            raise AllCloudsDownError("the first provider failed", attempts=list(reply.attempts))
        return reply


make_router = Hasty
"""


def test_nothing_found_is_exit_code_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It says what it hunts, the seed, and how much was searched."""
    assert main(["hunt", "--seed", "3", "--schedules", "5", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "seed 3" in said
    assert "nothing found: 5 schedules" in said
    assert not list(tmp_path.iterdir())


def test_a_find_is_exit_code_1_and_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check, its first evidence, the file and how to play it again are told."""
    (tmp_path / "broken_router.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "finds"
    words = ["hunt", "--seed", "4", "--schedules", "200", "--out", str(out), "--router", "broken_router:make_router"]
    assert main(words) == 1
    said = capsys.readouterr().out
    (file,) = out.iterdir()
    assert "FOUND" in said
    assert f"seawall run --arena simulation {file}" in said or file.name in said
    assert "1 fault, 1 request" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "5"], "is not a duration"),
        (["--jobs", "0"], "at least 1"),
        (["--schedules", "0"], "at least 1"),
        (["--set", "NOPE=1"], "is not a setting"),
        (["--set", "MIDSTREAM"], "NAME=VALUE"),
        (["--set", "TOTAL_TIMEOUT=never"], "TOTAL_TIMEOUT"),
        (["--router", "no_such_module:x"], "no_such_module"),
    ],
)
def test_what_cannot_be_used_is_exit_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip is told in one line, and nothing is searched."""
    assert main(["hunt", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.real
def test_searches_side_by_side_add_up(tmp_path: Path) -> None:
    """Two processes play their share each, and end."""
    words = [sys.executable, "-m", "seawall", "hunt", "--seed", "3", "--schedules", "8", "--jobs", "2"]
    done = subprocess.run(
        [*words, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False, env=_plain()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found: 8 schedules" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


@pytest.mark.real
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_is_exit_code_130_and_leaves_nothing(jobs: str, tmp_path: Path) -> None:
    """It ends at once with every process of its own, without a traceback and without a file."""
    words = [sys.executable, "-m", "seawall", "hunt", "--budget", "5m", "--jobs", jobs, "--out", str(tmp_path)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=_plain()
    )
    assert process.stdout is not None
    while "schedules (" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (130, False), errors
    assert not list(tmp_path.iterdir())
    deadline_s = time.monotonic() + 30
    while _is_there(process.pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _plain() -> dict[str, str]:
    return {**os.environ, "CI": "1", "NO_COLOR": "1"}


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

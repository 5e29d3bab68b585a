"""The examples of docs/how-to/pytest.md, as they stand, in a project that is not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from plugin_project import run_pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pytest.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
TESTS = [text for text in EXAMPLES if "def test_" in text]
PROGRAMS = [text for text in EXAMPLES if "def test_" not in text]


def test_the_tests_of_the_page_pass(project: Path, tmp_path: Path) -> None:
    """Every test on the page passes where it is copied to."""
    (tmp_path / "pytest.ini").write_text((project / "pytest.ini").read_text())
    for number, text in enumerate(TESTS):
        (tmp_path / f"test_example_{number}.py").write_text(text)
    done = run_pytest(tmp_path, "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TESTS)} passed" in done.stdout
    assert len(TESTS) == 4


def test_the_programs_of_the_page_run(tmp_path: Path) -> None:
    """What needs no pytest runs as it stands."""
    for text in PROGRAMS:
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len(PROGRAMS) == 1

"""The tests of this room run a pytest of its own in a project that is not ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plugin_project import SCENARIO, SUITE


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of somebody's own, with scenarios and a suite."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"  # ours has pytest-asyncio, which warns without
    )
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "dark.yaml").write_text(SCENARIO)
    (folder / "scenarios" / "broken.yaml").write_text(SCENARIO.replace("duration: 4s", "duration: 4"))
    (folder / "dark.yaml").write_text(SCENARIO)
    (folder / "test_mine.py").write_text(SUITE)
    return folder

"""The command with folders of its own, and where the tests of several rooms share their helpers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from command_harness import Harness  # noqa: E402 - only now can it be found


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    """The `seawall` command with folders of its own."""
    return Harness(tmp_path)

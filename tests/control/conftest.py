"""What the tests of the control API share: the command with folders of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from command_harness import Harness  # noqa: E402 - only now can it be found


@pytest.fixture
def harness(tmp_path: Path, toxiproxy_binary: Path) -> Harness:
    """Return a harness; Toxiproxy is there already."""
    return Harness(tmp_path)

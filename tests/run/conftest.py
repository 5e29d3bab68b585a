"""What the tests of whole runs share: the command with folders of its own, and a Toxiproxy of somebody else's."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from faults.toxiproxy import Toxiproxy

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from command_harness import Harness, others_server  # noqa: E402 - only now can it be found


@pytest.fixture
def harness(tmp_path: Path, toxiproxy_binary: Path) -> Harness:
    """Return a harness; Toxiproxy is there already."""
    return Harness(tmp_path)


@pytest.fixture
def others_toxiproxy(toxiproxy_binary: Path) -> Generator[Toxiproxy]:
    """Start a Toxiproxy that is somebody else's, with a proxy and a toxic of theirs."""
    with others_server(toxiproxy_binary) as server:
        yield server

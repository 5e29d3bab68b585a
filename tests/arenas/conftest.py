"""What the tests of the wire arena share: the command with folders of its own, and parts without a whole run."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.undo import UndoFile
from seawall.arenas.parts import Launcher
from seawall.arenas.proxies import OwnProxies
from seawall.processes import Processes

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from command_harness import Harness  # noqa: E402 - only now can it be found


class Bench(NamedTuple):
    """What starts parts, what they did, and the run's undo file and proxies."""

    launcher: Launcher
    events: list[tuple[str, str, int, int | None]]
    undo: UndoFile
    proxies: OwnProxies


@pytest.fixture
def harness(tmp_path: Path, toxiproxy_binary: Path) -> Harness:
    """Return a harness; Toxiproxy is there already."""
    return Harness(tmp_path)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Return what starts parts; all that it has started ends with the test."""
    events: list[tuple[str, str, int, int | None]] = []
    undo = UndoFile.create(tmp_path / "undo", "a-run")
    async with Processes(on_event=lambda *event: events.append(event)) as processes:
        yield Bench(Launcher(tmp_path, processes), events, undo, OwnProxies("a-run", undo, print))
    undo.close()

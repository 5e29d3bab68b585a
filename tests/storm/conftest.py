"""Runs the storm table once for all its tests, and prints it at the end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

from storm_checks import table  # noqa: E402 - only now can it be found
from storm_runs import Cell, Storm, Variant  # noqa: E402

REQUESTS = "STORM_REQUESTS"
"""How many requests a burst has; set, it also has every throttled cell wait out its 30 s. `nox -s storm` sets 200."""
_lines: list[str] = []


@pytest.fixture(scope="session")
def storm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the processes of the storm leave their records."""
    return tmp_path_factory.mktemp("storm")


@pytest.fixture(scope="session")
def storm(storm_folder: Path) -> list[Cell]:
    """Return every cell of the table."""
    told = os.environ.get(REQUESTS)

    def requests(variant: Variant) -> int:
        return int(told) if told else max(40, 2 * variant.clients)

    cells = asyncio.run(Storm(storm_folder, requests, full=told is not None).run())
    _lines.extend(table(cells))
    return cells


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None] | None:
    """Print the table."""
    if _lines:
        terminalreporter.section("storm")
        for line in _lines:
            terminalreporter.write_line(line)

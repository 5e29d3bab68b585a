"""Has the control plane built before the first test that needs it: that takes longer than a test may."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.cluster import Access
from seawall.cluster.background import down, up
from seawall.toolchain import ToolchainError, controlplane, resolve

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # for the helpers beside the tests


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is not built. With what is cached this takes milliseconds."""
    needed = any(item.path.is_relative_to(HERE) and item.get_closest_marker("real") for item in session.items)
    if session.config.option.collectonly or not needed:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tell = reporter.write_line if reporter is not None else print
    try:
        if controlplane.find() is None:
            controlplane.build(progress=tell)
        resolve("kubectl", progress=tell)
    except ToolchainError as error:  # the tests that need it say so again, each as an error
        tell(str(error))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Start a cluster that a module's tests share, and end it after the last of them."""
    state = tmp_path_factory.mktemp("cluster") / "state"
    up(state, tell=print)
    yield Access.load(state)
    down(state, tell=print)


@pytest.fixture(scope="session")
def cluster_with_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """Start a cluster that runs pods, for all tests that leave nothing behind in it, and end it at the very end."""
    state = tmp_path_factory.mktemp("nodes") / "cluster"  # where a command with this state folder looks for it
    up(state, nodes=3, tell=print)
    yield Access.load(state)
    down(state, tell=print)

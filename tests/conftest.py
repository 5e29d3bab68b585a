"""What all tests share: in CI a skip is a failure, and no test may leave a process behind."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest

from seawall.toolchain import ToolchainError, resolve

# A skip whose reason begins so is a fact about the machine that CI states on its own: `.ci/run` lists what is absent.
SKIPS_ALLOWED_IN_CI = ("interpreter ",)
# Helpers of the standard library that live as long as this Python does.
LASTING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
MARK = "PYTEST_PROCESS_MARK"
GRACE_S = 3.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport]:
    """Turn the skip of a test into a failure when CI is set."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure when CI is set."""
    report = yield
    if report.skipped:
        _fail_skip(report)
    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have Toxiproxy ready before the first test: a first build takes longer than a test may."""
    if session.config.option.collectonly or not any(item.get_closest_marker("real") for item in session.items):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tell = reporter.write_line if reporter is not None else print
    try:
        resolve("toxiproxy", progress=tell)
    except ToolchainError as error:  # the tests that need it say so again, each as an error
        tell(str(error))


@pytest.fixture(scope="session")
def toxiproxy_binary() -> Path:
    """Return the program `toxiproxy-server`. Raises ToolchainError when it cannot be had."""
    found = resolve("toxiproxy")
    if found.path is None:
        pytest.fail("the tests start Toxiproxy servers of their own; unset SEAWALL_TOXIPROXY_URL")
    return found.path


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    Fail a test after which a process that it started still runs; end that process.

    Every test is watched for children. A test marked `real` is also watched for their descendants, orphans too: these
    carry a mark in their environment.
    """
    real = request.node.get_closest_marker("real") is not None
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    before = set(_children())
    yield
    deadline = time.monotonic() + GRACE_S
    left = _left(before, mark, real=real)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = _left(before, mark, real=real)
    if left:
        told = [_describe(process) for process in left]
        for process in left:
            _end(process)
        pytest.fail(f"left {len(told)} running: {'; '.join(told)}", pytrace=False)


def _fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if os.environ.get("CI") and not reason.startswith(SKIPS_ALLOWED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI takes no skips: {reason}"


def _children() -> list[int]:
    """Return the ids of this process's children; cheap where the kernel lists them (Linux)."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:
        return [child.pid for child in psutil.Process().children()]
    found: list[int] = []
    for path in lists:
        try:
            found += [int(pid) for pid in path.read_text(encoding="ascii").split()]
        except FileNotFoundError:  # a thread that has just ended
            continue
    return found


def _left(before: set[int], mark: str, *, real: bool) -> list[psutil.Process]:
    found = {pid: process for pid in set(_children()) - before if (process := _process(pid)) is not None}
    if real:
        for process in psutil.process_iter():
            if process.pid != os.getpid() and _carries(process, mark):
                found[process.pid] = process
    return [process for process in found.values() if _runs(process)]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):  # gone, or another user's
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return not zombie and not any(name in " ".join(process.cmdline()) for name in LASTING)
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline())[:200]})"
    except psutil.Error:
        return str(process.pid)


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(timeout=GRACE_S)
    except psutil.Error:
        pass

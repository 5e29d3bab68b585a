"""A project that is not ours, and a pytest run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["SCENARIO", "SUITE", "run_pytest"]

SUITE = '''
import asyncio
import time

import msgspec
import pytest

from router import HybridRouter
from seawall.builders import Schedule, latency, outage

class Mine(HybridRouter):
    """A router of somebody's own."""
    requests = 0

    async def complete(self, request):
        Mine.requests += 1
        return await super().complete(request)

SHORT = Schedule("Gemini is gone for a while").at(3, outage("gemini"), for_s=4)

@pytest.mark.seawall("scenarios/dark.yaml")
def test_marked():
    pass

@pytest.mark.seawall("dark.yaml", settings={"CIRCUIT_BREAKER_FAILURE_THRESHOLD": 10000}, router=Mine)
def test_never_opens(seawall):
    pytest.fail("the body of a test whose scenario failed must not run")

def test_fixture(seawall):
    run = seawall(SHORT.load(rate=20, duration_s=15), router=Mine)
    assert Mine.requests > 100
    assert run.figures["success_rate"] == 1.0
    assert seawall.run is run
    assert run.folder is None

@pytest.mark.seawall(SHORT)
def test_two_runs(seawall):
    seawall("claude-dark")
    assert [run.name for run in seawall.runs] == ["schedule", "claude-dark"]

def test_unchecked(seawall):
    run = seawall(SHORT.expect(sometimes=[{"breaker": "openai", "reaches": "open"}]), check=False)
    assert not run.passed

@pytest.mark.seawall(settings={"CIRCUIT_BREAKER_FAILURE_THRESHOLD": 1}, router=Mine)
async def test_in_virtual_time(seawall):
    began_s = time.monotonic()
    assert isinstance(seawall.router, Mine)
    with outage("gemini") as block:
        assert (await seawall.router.route_request("Hello?")).startswith("claude")
    assert block.met
    assert seawall.router.status()["gemini"]["breaker"] == "open"
    await asyncio.sleep(3600)
    assert (await seawall.router.route_request("Hello?")).startswith("gemini")
    assert time.monotonic() - began_s < 30

@pytest.mark.seawall("scenarios/missing.yaml")
def test_no_such_file():
    pass

@pytest.mark.seawall("scenarios/broken.yaml")
def test_broken_file():
    pass

def test_a_setting_that_is_none(seawall):
    seawall("scenarios/dark.yaml", settings={"NO_SUCH_SETTING": 3})

def test_a_router_with_settings_of_its_own(seawall):
    def make(settings, **parts):
        return HybridRouter(msgspec.structs.replace(settings, circuit_breaker_failure_threshold=7), **parts)

    seawall("scenarios/dark.yaml", router=make)

class TestOfAClass:
    @pytest.mark.seawall
    @pytest.mark.parametrize("ms", [300])
    async def test_method(self, seawall, ms):
        with latency("gemini", ms):
            began_s = asyncio.get_running_loop().time()
            await seawall.router.route_request("Hello?")
            assert asyncio.get_running_loop().time() - began_s > 0.3
'''
SCENARIO = """
version: 1
title: Gemini goes dark
arenas: [simulation]
seed: 7
system: {settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s, first_byte_timeout: 500ms}}
load: {executor: constant-arrival-rate, rate: 20/s, duration: 15s}
faults: [{id: dark, at: 3s, duration: 4s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}]
expect: {sometimes: [{breaker: gemini, reaches: open}]}
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder` as its owner would: nothing of this run's options or environment is left."""
    hidden = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False)

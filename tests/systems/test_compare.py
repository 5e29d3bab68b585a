"""A comparison for real: systems that work, and one for each way in which another one may not."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reports.render import render
from seawall.compare import engine
from seawall.compare.engine import CELLS_FILE, Options, run_compare
from seawall.compare.model import Comparison, cells_of
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.screen import Screen
from seawall.systems import system_named
from seawall.systems.base import Launch
from seawall.systems.foreign import ForeignSystem, compatible
from seawall.toolchain import Progress

pytestmark = [pytest.mark.real, pytest.mark.timeout(280)]

STANDIN = Path(__file__).with_name("standin.py")
SHORT = """
version: 1
title: Gemini answers 500
arenas: [wire]
seed: 3
load: {executor: constant-arrival-rate, rate: 10/s, duration: 3s, deadline: 6s}
faults:
  - {id: storm, at: 520ms, duration: 2s, target: gemini, respond: {status: 500}}
expect: {thresholds: [{metric: success_rate, limit: ">= 99%"}]}
"""


class Standin(ForeignSystem):
    """The stand-in in one of its modes, which is its config."""

    name: ClassVar[str] = "standin"

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    @property
    def label(self) -> str:
        """See SystemUnderTest."""
        return self.mode

    def install(self, progress: Progress) -> None:
        """See SystemUnderTest: it is here."""

    def version(self) -> str:
        """See SystemUnderTest."""
        return "1"

    def render(
        self, scenario: Scenario, upstreams: Mapping[str, str], *, port: int = 0, shared: bool = False
    ) -> Launch:
        """See SystemUnderTest."""
        urls = [url.removesuffix("/v1").removesuffix("/v1beta/openai") for url in compatible(upstreams).values()]
        return Launch(
            argv=(sys.executable, str(STANDIN), self.mode, *urls), start_limit_s=3.0 if self.mode == "deaf" else 15.0
        )


def compared(systems: tuple[str, ...], out: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Compare these over one short scenario."""
    modes = ("good", "stubborn", "leaves", "crash", "deaf")
    monkeypatch.setattr(engine, "system_named", lambda word: Standin(word) if word in modes else system_named(word))
    options = Options(systems=systems, scenarios=(load_text(SHORT, "short"),), cost_seconds=0)
    monkeypatch.setenv("SEAWALL_STATE", str(out / "state"))
    return asyncio.run(run_compare(options, out, screen=Screen(), stop=asyncio.Event(), render=render))


def alive(text: str) -> list[str]:
    """Return the command lines of processes that hold `text`."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            found += [folder.name] if text.encode() in environment else []
    return found


def test_every_kind_of_system_gets_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    One that works passes; one that cannot fail over, crashes or never gets ready is told as such and stops nobody.

    What it leaves behind is ended and told. What was run is kept, and not run again when the same is begun again.
    """
    systems = ("seawall", "leaves", "stubborn", "crash", "deaf", "direct")
    made = compared(systems, tmp_path, monkeypatch)
    problems = {info.label: info.problem for info in made.systems}
    assert (problems["seawall"], problems["leaves"], problems["direct"]) == ("", "", "")
    assert problems["stubborn"].startswith("not configured: ")
    assert problems["crash"].startswith("did not start: ")
    assert problems["deaf"].startswith("did not start: ")
    cells = cells_of(made)
    states = {system: cells["short", system].state for system in ("seawall", "leaves", "direct")}
    assert states["direct"] == "fail"
    # A busy machine may make a run prove nothing; it makes none fail.
    assert {states["seawall"], states["leaves"]} <= {"pass", "partial", "invalid"}
    left = next(each for each in made.outcomes if each.system == "leaves")
    assert left.left_behind == 1
    assert alive(f"SEAWALL_EVENTS={tmp_path}") == []
    lines = (tmp_path / CELLS_FILE).read_bytes()
    again = compared(("seawall", "leaves", "direct"), tmp_path, monkeypatch)
    assert (tmp_path / CELLS_FILE).read_bytes() == lines
    assert {each.system: each.report for each in again.outcomes} == {each.system: each.report for each in made.outcomes}


def test_a_run_takes_another_system_by_name(harness: Any) -> None:
    """`seawall run --system` runs a scenario against another system, and says what it cannot do."""
    scenario = harness.tmp_path / "short.yaml"
    scenario.write_text(SHORT, encoding="utf-8")
    code, output = harness.run_scenarios(str(scenario), "--system", "direct")
    assert code in (1, 3), output
    assert "direct" in output
    scenario.write_text(SHORT.replace("seed: 3", "seed: 3\nsystem: {settings: {MIDSTREAM: error}}"), encoding="utf-8")
    code, output = harness.run_scenarios(str(scenario), "--system", "litellm", "--plan")
    assert (code, "unsupported by litellm" in output) == (2, True), output

"""The scenarios that come with Seawall: sound, and such that what they expect can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.paths import scenarios_dir
from seawall.plan import duration_of
from seawall.scenario import Scenario, load_scenario

FILES = sorted(scenarios_dir().glob("*.yaml"))


def scenario_of(name: str) -> Scenario:
    return load_scenario(scenarios_dir() / f"{name}.yaml").scenario


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenarios_load_without_a_warning(path: Path) -> None:
    """Ours are examples: nothing in them is doubtful."""
    assert load_scenario(path).warnings == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenarios_say_why_they_exist(path: Path) -> None:
    """Each links the real bug or incident behind it, and names its schema for editors."""
    scenario = load_scenario(path).scenario
    assert (scenario.motivation or "").startswith("https://")
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=./schema.json\n")


@pytest.mark.parametrize(("name", "seconds_max"), [("primary-dark", 60), ("throttled", 25), ("all-down", 25)], ids=str)
def test_scenarios_of_ci_are_short(name: str, seconds_max: float) -> None:
    """What runs on every change takes less than a minute, in simulation and on the wire."""
    scenario = scenario_of(name)
    assert "ci" in scenario.tags
    assert set(scenario.arenas) == {"simulation", "wire"}
    assert duration_of(scenario.load.plan(scenario.seed)) <= seconds_max


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_must_happen_after_a_fault_has_the_time_to(path: Path) -> None:
    """`within` covers an open time with jitter, a failed probe and a share's window, or a cooldown that outlasts it."""
    scenario = load_scenario(path).scenario
    recovery_s = float(str(scenario.system.settings["CIRCUIT_BREAKER_RECOVERY_TIMEOUT"]).removesuffix("s")) * 1.1
    patience_s = float(str(scenario.system.settings["first_byte_timeout"]).removesuffix("s"))
    for late in scenario.expect.eventually:
        fault = next(fault for fault in scenario.faults if fault.id == late.after)
        asked_s = fault.respond.retry_after if fault.respond is not None else None
        # Without a rate the first request meets the 429, and nobody asks again before the cooldown is over.
        from_s = -fault.duration if fault.injection_rate == 1 else 0.0
        waits_s = recovery_s + patience_s if asked_s is None else from_s + asked_s
        window_s = 1.0 if late.served_by else 0.0
        assert late.within >= waits_s + window_s + 0.5, late

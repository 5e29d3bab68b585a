"""The scenarios that come with Seawall: sound, and such that what they expect can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.budget import micro_usd
from router.catalogue import default_catalogue
from router.models import Message, ModelType
from router.pricing import price_of, prompt_tokens_max, reservation_micro_usd
from router.settings import Settings
from seawall.paths import scenarios_dir
from seawall.plan import arrivals
from seawall.scenario import PROVIDERS, Scenario, load_scenario
from seawall.scenario.words import PARTS

# Those of pods have arenas and times of their own, and are tested in tests/cluster.
FILES = [path for path in sorted(scenarios_dir().glob("*.yaml")) if load_scenario(path).scenario.cluster is None]
CI = [path.stem for path in FILES if "ci" in load_scenario(path).scenario.tags]


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


def test_scenarios_are_about_different_things() -> None:
    """No two have the same title, seed or motivation, so each of them shows something that no other does."""
    scenarios = [load_scenario(path).scenario for path in FILES]
    for told in ("title", "seed", "motivation"):
        values = [getattr(scenario, told) for scenario in scenarios]
        assert len(set(values)) == len(values), told


@pytest.mark.parametrize("name", CI)
def test_scenarios_of_ci_are_short(name: str) -> None:
    """What runs on every change sends for 20 s at most, in which nothing may go wrong before its first second."""
    scenario = scenario_of(name)
    assert scenario.load_end_s <= 20
    assert all(at_s >= 1 for at_s in scenario.fault_starts().values())


def test_eight_scenarios_are_of_ci() -> None:
    """The tag is on those that tell most, and on no more than a change has the time for."""
    assert len(CI) == 8
    assert {"primary-dark", "throttled", "all-down", "slow-primary", "budget-burst"} <= set(CI)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_faults_that_a_simulation_can_make_are_made_there_too(path: Path) -> None:
    """Every fault but those of parts that are not simulated is one of both arenas, and so is every scenario."""
    scenario = load_scenario(path).scenario
    both = all(fault.target not in PARTS for fault in scenario.faults)
    assert scenario.arenas == (("simulation", "wire") if both else ("wire",))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_must_happen_after_a_fault_has_the_time_to(path: Path) -> None:
    """`within` covers an open time with jitter, a failed probe and a share's window, or a cooldown that outlasts it."""
    scenario = load_scenario(path).scenario
    settings = Settings.from_mapping(dict(scenario.system.settings))
    recovery_s = settings.circuit_breaker_recovery_timeout * 1.1
    for late in scenario.expect.eventually:
        fault = next(fault for fault in scenario.faults if fault.id == late.after)
        respond = fault.respond
        waits_s = recovery_s + settings.first_byte_timeout
        if fault.target not in PROVIDERS:
            waits_s = 0.0  # no breaker is in it
        elif respond is not None and respond.retry_after is not None:
            # Without a rate the first request meets the 429, and nobody asks again before the cooldown is over.
            waits_s = respond.retry_after - (fault.duration if fault.injection_rate == 1 else 0.0)
        elif respond is not None and respond.first_token is not None:
            waits_s = recovery_s + respond.first_token  # one measuring call, begun just before the end
        elif respond is not None and not respond.hang:
            waits_s = recovery_s  # a probe fails at once
        window_s = max(1.0, 20 / scenario.load.rate) if late.served_by and scenario.load.rate else 0.0
        assert late.within >= waits_s + window_s + 0.5, late


def test_the_reservation_that_budget_burst_counts_with_is_the_routers_own() -> None:
    """20 reservations are within the limit and 21 are not: the arithmetic in the file's comment."""
    scenario = scenario_of("budget-burst")
    arrival = next(arrivals(scenario.load.plan(scenario.seed)))
    tokens = prompt_tokens_max([Message(role="user", content=arrival.prompt)])
    table = default_catalogue()
    price = price_of(ModelType.GEMINI, table.model_at(ModelType.GEMINI, table.resolve("gemini", "llama3"), "llama3"))
    each = reservation_micro_usd(price, tokens, arrival.max_tokens)
    limit = micro_usd(float(scenario.system.settings["DAILY_SPEND_LIMIT_USD"]))
    assert (each, limit // each) == (173, 20)

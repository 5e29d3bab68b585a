"""What is judged of pods and of what scales them, on simulated runs: each verdict holds, and can be turned red."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import pytest

from seawall.journal.view import Journal
from seawall.paths import scenarios_dir
from seawall.scenario import Scenario, ScenarioError, load_scenario, load_text
from seawall.simulation import simulate
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import Check, Verdict
from seawall.verdicts.scaling import follows_the_metrics, keeps_its_window, stays_within_bounds

BURST = (scenarios_dir() / "hpa-burst.yaml").read_text("utf-8")
KILL = """
version: 1
title: one pod is killed
arenas: [simulation]
cluster: {replicas: 3, forced_deletion: at-once}
load: {executor: constant-arrival-rate, rate: 20/s, duration: 20s, stream: 50%}
faults:
  - id: kill
    at: 5s
    duration: 5s
    target: backend
    chaos_mesh: {kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {app: backend}}}}
expect:
  scaling:
    - {replicas: backend, back: true, within: 5s, after: kill}
    - {replicas: backend, stays: ">= 2"}
"""


def scenario_of(text: str, *changes: tuple[str, str]) -> Scenario:
    """Return the scenario of a text with changes to it."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return load_text(text, "changed.yaml").scenario


@cache
def burst() -> tuple[Scenario, Journal]:
    """Return the burst and its journal."""
    scenario = scenario_of(BURST)
    return scenario, simulate(scenario)


def judged(text: str, *changes: tuple[str, str]) -> tuple[Verdict, list[Check]]:
    """Return the verdict of a changed scenario, and what did not pass."""
    scenario = scenario_of(text, *changes)
    verdict = judge_scenario(simulate(scenario), scenario)
    return verdict.verdict, [check for check in verdict.checks if check.verdict is not Verdict.PASS]


def bent(bend: Callable[[Any], Any]) -> tuple[list[Check], Scenario]:
    """Return the checks that fail when the states of the HPA in the burst's journal are bent."""
    scenario, journal = burst()
    hpas = [msgspec.structs.replace(timed, event=bend(timed.event)) for timed in journal.hpas]
    verdict = judge_scenario(msgspec.structs.replace(journal, hpas=hpas), scenario)
    return [check for check in verdict.checks if check.verdict is Verdict.FAIL], scenario


def names_of(*functions: Callable[..., Check]) -> set[str]:
    """Return the names of invariants."""
    from seawall.verdicts.case import Case

    scenario, journal = burst()
    return {function(Case(journal, scenario)).name for function in functions}


def test_a_burst_passes_and_every_invariant_of_scaling_had_something_to_examine() -> None:
    """Bounds, needs and windows were examined in a run in which pods came and went."""
    scenario, journal = burst()
    verdict = judge_scenario(journal, scenario)
    assert verdict.verdict is Verdict.PASS, verdict.why
    wanted = names_of(stays_within_bounds, follows_the_metrics, keeps_its_window)
    assert {check.name for check in verdict.checks if check.examined and check.name in wanted} == wanted


def test_too_low_a_maximum_fails() -> None:
    """With `max_replicas: 2` a load for three pods never gets them."""
    verdict, bad = judged(BURST, ("max_replicas: 6", "max_replicas: 2"))
    assert verdict is Verdict.FAIL
    assert [check.name for check in bad] == ["ready pods of backend reach >= 3 from 6 s on"]


def test_replicas_outside_their_bounds_fail() -> None:
    """An HPA that wants more than its maximum is told."""
    bad, _ = bent(lambda hpa: msgspec.structs.replace(hpa, max_replicas=2))
    assert names_of(stays_within_bounds) <= {check.name for check in bad}


def test_replicas_that_no_metric_asked_for_fail() -> None:
    """An HPA that wants twice of what its metrics ask for is told."""
    bad, _ = bent(lambda hpa: msgspec.structs.replace(hpa, desired=hpa.desired * 2 if hpa.desired > 1 else 1))
    assert names_of(follows_the_metrics) <= {check.name for check in bad}


def test_pods_taken_away_before_the_window_is_over_fail() -> None:
    """Scaling down is held against the window that the object has, by what the metrics asked for within it."""
    bad, _ = bent(lambda hpa: msgspec.structs.replace(hpa, stabilization_s=20.0))
    assert names_of(keeps_its_window) <= {check.name for check in bad}


def test_a_killed_pod_is_replaced_and_its_clients_are_told_apart() -> None:
    """A kill at once cuts what is under way: that is explained by the fault, and the pod is back in time."""
    verdict, bad = judged(KILL)
    assert verdict is Verdict.PASS, bad


def test_a_pod_that_is_back_too_late_fails() -> None:
    """With a start that takes longer than is allowed the check names the time."""
    verdict, bad = judged(KILL, ("replicas: 3,", "replicas: 3, pod_start: 7s,"))
    assert verdict is Verdict.FAIL
    assert [check.figure for check in bad] == ["7.0 s"]


def test_a_selector_that_matches_nothing_is_invalid() -> None:
    """Nobody was harmed, so the run proves nothing."""
    verdict, bad = judged(KILL, ("app: backend}}}", "app: nobody}}}"))
    assert verdict is Verdict.INVALID
    assert "fault kill was in force and met" in {check.name for check in bad}


def test_a_simulation_of_pods_is_the_same_each_time() -> None:
    """The same scenario and seed give the same events."""
    scenario = scenario_of(KILL)
    first, second = simulate(scenario), simulate(scenario)
    assert msgspec.json.encode(first.pods) == msgspec.json.encode(second.pods)
    assert list(first.requests) == list(second.requests)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("cluster: {replicas: 3, forced_deletion: at-once}\n", ""), "aimed at pods, and the scenario has none"),
        (("replicas: 3,", 'replicas: 3, cpu_request: "0.2",'), "200m"),
        (("replicas: 3,", "replicas: 3, grace: 1500ms,"), "whole seconds"),
        (("kind: PodChaos", "kind: NetworkChaos"), "the arena simulation does not take"),
        (("back: true, within: 5s", "back: true"), "write within"),
    ],
)
def test_slips_in_the_words_of_pods_are_told(change: tuple[str, str], told: str) -> None:
    """Each mistake in a scenario is told before anything runs."""
    with pytest.raises(ScenarioError) as caught:
        scenario_of(KILL, change)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["hpa-metrics-outage", "hpa-start-up", "hpa-pod-kill"])
def test_the_shipped_scenarios_of_scaling_pass_in_the_simulation(name: str) -> None:
    """They hold on the model everywhere, with no cluster."""
    scenario = load_scenario(scenarios_dir() / f"{name}.yaml").scenario
    verdict = judge_scenario(simulate(scenario), scenario)
    assert verdict.verdict is Verdict.PASS, verdict.why

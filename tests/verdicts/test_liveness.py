"""What must happen is judged: a sound router does it, and one that leaves it undone is told by its own invariant."""

from __future__ import annotations

import pytest
from verdict_liveness import ALL, HEAD, LAZY, LIVENESS, PRIMARY, Lazy

from seawall.scenario import load_text
from seawall.simulation import simulate
from seawall.verdicts.case import Case
from seawall.verdicts.invariants import check_invariants
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import Check, Verdict


def checks_of(text: str, **chosen: object) -> dict[str, Check]:
    """Play a scenario and return its invariants by name."""
    scenario = load_text(text, "liveness.yaml").scenario
    return {check.name: check for check in check_invariants(Case(simulate(scenario, **chosen), scenario))}  # type: ignore[arg-type]


@pytest.mark.parametrize("lazy", LAZY.values(), ids=LAZY)
def test_what_is_left_undone_is_told(lazy: Lazy) -> None:
    """Exactly the invariants on it fail, of those that say that something must happen, each with a request."""
    found = checks_of(lazy.scenario, make_router=lazy.make_router)
    assert {name for name in LIVENESS if found[name].verdict is Verdict.FAIL} == lazy.red
    assert all(found[name].evidence[0].request_id is not None for name in lazy.red)


@pytest.mark.parametrize("text", [PRIMARY, ALL])
def test_our_router_does_it_all(text: str) -> None:
    """Nothing of it fails, and what the scenario can show has been looked at."""
    found = checks_of(text)
    assert {name for name in LIVENESS if found[name].verdict is Verdict.FAIL} == set()
    assert found["all is well again after the last fault"].examined == 2


def test_a_refusal_that_the_scenario_allows_is_none_of_it() -> None:
    """Where all may be down, a refusal is clean, and the run safe at the worst."""
    text = ALL.replace("faults:", "allow_refusal: [all_down]\nfaults:")
    scenario = load_text(text, "liveness.yaml").scenario
    assert judge_scenario(simulate(scenario), scenario).verdict in (Verdict.SAFE, Verdict.INVALID)


def test_a_wrong_request_is_nobodys_failure() -> None:
    """What a provider calls wrong is not asked elsewhere, though others are well."""
    load = "load: {executor: arrivals, arrivals: [{at: 0s}, {at: 11s}]}\n"
    fault = "faults: [{id: f1, at: 0s, duration: 10s, target: gemini, respond: {status: 400}}]\n"
    assert checks_of(HEAD + load + fault)["a provider that is well answers"].verdict is Verdict.PASS

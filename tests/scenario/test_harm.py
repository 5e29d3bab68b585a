"""Faults as they are written: each kind and target, how often they start, and what a run needs for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faults.criteria import probe_plan
from faults.toxic import ATTRIBUTES
from seawall.scenario import Scenario, load_text
from seawall.scenario.harm import FAULT_ARENAS, FAULT_TARGETS, OCCURRENCES_MAX, RESPOND_KINDS, FaultKind, FaultSpec
from seawall.scenario.toxics import TOXIC_ATTRIBUTES, ToxicSpec
from seawall.scenario.words import PARTS

HARM: dict[str, Any] = {
    "toxic": {"type": "timeout"},
    "respond": {"status": 503},
    "process": "kill",
    "remaining": "0.10 USD",
    "clock_skew": "-5s",
    "chaos_mesh": {"kind": "PodChaos", "spec": {"action": "pod-kill", "mode": "one"}},
    "rollout": "restart",
    "metrics_outage": "empty",
}
RESPONDS: dict[str, Any] = {
    "status": 503,
    "first_token": "2s",
    "dribble": "200ms",
    "cut_after_chunks": 3,
    "content_type": "text/html; charset=utf-8",
}
TOXICS: dict[str, dict[str, int]] = {
    "latency": {"latency": 300, "jitter": 20},
    "bandwidth": {"rate": 10},
    "slow_close": {"delay": 500},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 100},
    "slicer": {"average_size": 32, "size_variation": 8, "delay": 20_000},
    "limit_data": {"bytes": 500},
    "down": {},
}


def fault(**keys: Any) -> FaultSpec:
    """Return a fault as a file would write it."""
    kinds: list[FaultKind] = [kind for kind in FAULT_ARENAS if keys.get(kind) is not None]
    kind: FaultKind = kinds[0] if kinds else "respond"
    base = {"id": "f", "at": "10s", "duration": "5s", "target": FAULT_TARGETS[kind][0], kind: HARM[kind]}
    return FaultSpec.model_validate(base | keys)


def scenario(text: str) -> Scenario:
    """Return the scenario of a minute at 20/s with these lines more."""
    head = "version: 1\ntitle: t\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 60s}\n"
    return load_text(head + text, "made").scenario


@pytest.mark.parametrize("kind", FAULT_ARENAS)
def test_each_kind_is_taken_at_its_targets_and_refused_at_others(kind: FaultKind) -> None:
    """A pair of kind and target is either legal or told, and a fault knows its kind and its arenas."""
    for target in {target for targets in FAULT_TARGETS.values() for target in targets}:
        if target in FAULT_TARGETS[kind]:
            made = fault(target=target, **{kind: HARM[kind]})
            assert made.kind == kind
            assert made.arenas == (("wire",) if target in PARTS else FAULT_ARENAS[kind])
        else:
            with pytest.raises(ValidationError, match=f"has no effect at {target}"):
                fault(target=target, **{kind: HARM[kind]})


@pytest.mark.parametrize("kind", RESPOND_KINDS)
def test_each_behaviour_is_one_thing(kind: str) -> None:
    """Every key of `respond` stands alone, and no two stand together."""
    made = fault(respond={kind: RESPONDS.get(kind, True)}).respond
    assert made is not None
    assert made.kind == kind
    other = "hang" if kind != "hang" else "empty"
    with pytest.raises(ValidationError, match="respond does exactly one thing"):
        fault(respond={kind: RESPONDS.get(kind, True), other: True})


@pytest.mark.parametrize("kind", TOXIC_ATTRIBUTES)
def test_each_toxic_is_taken_and_can_be_proven(kind: str) -> None:
    """Every toxic with sensible attributes is legal, is known to the injector by the same names, and shows itself."""
    made = ToxicSpec.model_validate({"type": kind, "attributes": TOXICS[kind]})
    assert probe_plan(made.type, made.stream, made.attributes).provable
    assert set(TOXIC_ATTRIBUTES[kind]) == set(ATTRIBUTES.get(kind, {}))


@pytest.mark.parametrize(("process", "word"), [("kill", "restart_after"), ("restart", "restart_after")])
def test_restart_after_stands_for_duration(process: str, word: str) -> None:
    """A fault has a duration whichever word it was written with, and survives being dumped and read again."""
    made = FaultSpec.model_validate({"id": "f", "at": "1s", word: "2s", "target": "gateway", "process": process})
    assert made.duration == 2.0
    again = FaultSpec.model_validate(made.model_dump(mode="json", exclude_unset=True))
    assert again.duration == 2.0


@given(
    first_s=st.floats(0, 100),
    every_s=st.floats(0.5, 50),
    share=st.floats(0.01, 0.99),
    end_s=st.floats(1, 200),
)
def test_a_fault_starts_as_often_as_it_fits(first_s: float, every_s: float, share: float, end_s: float) -> None:
    """Starts are `every` apart, each but the first ends within the load, one more would not, and there is a cap."""
    made = FaultSpec.model_construct(id="f", at=first_s, duration=every_s * share, every=every_s, target="gemini")
    starts_s = made.starts_from(first_s, end_s)
    assert starts_s == tuple(first_s + n * every_s for n in range(len(starts_s)))
    assert all(start_s + made.duration <= end_s + 1e-6 for start_s in starts_s[1:])
    assert len(starts_s) <= OCCURRENCES_MAX + 1
    if len(starts_s) <= OCCURRENCES_MAX:
        assert starts_s[-1] + every_s + made.duration > end_s - 1e-6


def test_occurrences_and_followers_are_planned_from_the_load() -> None:
    """A fault that repeats starts until the load ends; what follows it starts after the last time."""
    found = scenario("""faults:
  - {id: flap, at: 10s, duration: 2s, every: 10s, target: gemini, respond: {status: 503}}
  - {id: once, follows: flap, delay: 1s, duration: 2s, target: claude, respond: {status: 503}}
""")
    assert found.occurrences("flap") == (10.0, 20.0, 30.0, 40.0, 50.0)
    assert found.occurrences("once") == (53.0,)
    assert found.fault_starts() == {"flap": 10.0, "once": 53.0}


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", False),
        ("system: {settings: {BUDGET_STORE: memory}}\n", False),
        ("system: {settings: {budget_store: redis}}\n", True),
    ],
)
def test_redis_is_needed_when_something_uses_it(text: str, needed: bool) -> None:
    """The setting says so in any case; a fault at Redis or the budget is refused without it."""
    assert scenario(text).needs_redis is needed


def test_what_remains_is_counted_in_micro_dollars() -> None:
    """`remaining` is dollars as written and whole micro-dollars for the store; without it both are nothing."""
    made = fault(remaining="0.1 USD", target="budget")
    assert (made.remaining_usd, made.remaining_micro_usd) == (0.1, 100_000)
    assert fault(remaining="0 USD", target="budget").kind == "remaining"
    assert fault().remaining_micro_usd == 0

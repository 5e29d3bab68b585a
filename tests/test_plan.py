"""The plan of a load: when requests arrive, who sends them, and what they ask for."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.answers import request_id_of
from seawall.plan import ArrivalSpec, LoadPlan, RateStage, arrivals, count_of, duration_of

rates = st.just(0.0) | st.floats(0.1, 60)
stage_lists = st.lists(
    st.builds(RateStage, duration_s=st.floats(0.1, 8), start_rate=rates, end_rate=rates), min_size=1, max_size=4
).map(tuple)
spec_lists = st.lists(
    st.builds(
        ArrivalSpec,
        at_s=st.floats(0, 60),
        count=st.integers(1, 4),
        stream=st.booleans(),
        prompt=st.sampled_from(["short", "long", "Hi"]),
    ),
    max_size=30,
).map(tuple)


def ramping(stages: tuple[RateStage, ...], **more: Any) -> LoadPlan:
    """Return a plan of stages."""
    return LoadPlan(executor="ramping-arrival-rate", seed=more.pop("seed", 7), stages=stages, **more)


plans = st.builds(ramping, stage_lists) | st.builds(
    lambda specs: LoadPlan(executor="arrivals", seed=7, arrivals=specs), spec_lists
)


def owed(stages: tuple[RateStage, ...], at_s: float) -> float:
    """Return the integral of the rate up to `at_s`, written independently of the planner."""
    total, start_s = 0.0, 0.0
    for stage in stages:
        spent = min(max(at_s - start_s, 0.0), stage.duration_s)
        rate_then = stage.start_rate + (stage.end_rate - stage.start_rate) * spent / stage.duration_s
        total += (stage.start_rate + rate_then) / 2 * spent
        start_s += stage.duration_s
    return total


@given(plans)
def test_arrivals_are_in_order_and_inside_the_load(plan: LoadPlan) -> None:
    """Times never go back, begin at 0 or later and end with the load; numbers and ids count up."""
    found = list(arrivals(plan))
    times = [arrival.at_s for arrival in found]
    assert all(a <= b for a, b in pairwise(times))
    assert all(-1e-9 <= at_s <= duration_of(plan) + 1e-6 for at_s in times)
    assert [arrival.n for arrival in found] == list(range(len(found))) == [int(arrival.request_id) for arrival in found]
    assert len(found) == count_of(plan)


@given(stage_lists)
def test_the_rate_is_kept_at_every_moment(stages: tuple[RateStage, ...]) -> None:
    """By any time as many have arrived as the integral of the rate owes by then, within one."""
    times = [arrival.at_s for arrival in arrivals(ramping(stages))]
    assert abs(len(times) - owed(stages, duration_of(ramping(stages)))) <= 1 + 1e-6
    for n, at_s in enumerate(times):
        assert abs(owed(stages, at_s) - n) <= 1e-4


@given(rate=st.floats(1, 500), slope=st.floats(-1e-6, 1e-6))
def test_a_ramp_that_hardly_rises_is_like_a_constant_rate(rate: float, slope: float) -> None:
    """A tiny difference between the rates of a stage moves arrivals by two microseconds at most."""
    ramp = ramping((RateStage(duration_s=2.0, start_rate=rate, end_rate=rate + slope),))
    for arrival in arrivals(ramp):
        assert abs(arrival.at_s - arrival.n / rate) < 2e-6


@given(plan=plans, workers=st.integers(1, 7))
def test_workers_share_the_arrivals_exactly(plan: LoadPlan, workers: int) -> None:
    """Each arrival belongs to one worker, unchanged by how many there are, and shares differ by one at most."""
    shares = [list(arrivals(plan, worker, workers)) for worker in range(workers)]
    assert sorted((a for share in shares for a in share), key=lambda arrival: arrival.n) == list(arrivals(plan))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(spec_lists)
def test_written_arrivals_are_kept_as_written(specs: tuple[ArrivalSpec, ...]) -> None:
    """Explicit arrivals keep what they say; a prompt is one of ours by name or stands for itself."""
    found = list(arrivals(LoadPlan(executor="arrivals", seed=1, arrivals=specs)))
    ordered = [spec for spec in sorted(specs, key=lambda spec: spec.at_s) for _ in range(spec.count)]
    assert [(a.at_s, a.stream, a.max_tokens) for a in found] == [(s.at_s, s.stream, s.max_tokens) for s in ordered]
    for arrival, spec in zip(found, ordered, strict=True):
        assert request_id_of(arrival.prompt) == arrival.request_id
        assert arrival.prompt.endswith(" Hi") is (spec.prompt == "Hi")


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_the_share_of_streams(seed: int, share: float) -> None:
    """About the planned share are streams: within five standard deviations of it over 1000 requests."""
    stages = (RateStage(duration_s=10, start_rate=100, end_rate=100),)
    streams = sum(arrival.stream for arrival in arrivals(ramping(stages, seed=seed, stream_share=share)))
    assert abs(streams - 1000 * share) <= 5 * (1000 * share * (1 - share)) ** 0.5 + 1e-6


@given(stages=stage_lists, changed=stage_lists, seed=st.integers(0, 100))
def test_who_streams_depends_on_the_seed_alone(
    stages: tuple[RateStage, ...], changed: tuple[RateStage, ...], seed: int
) -> None:
    """Changing rates, prompts, tokens or the model leaves the n-th request a stream or not, as it was."""
    plan = ramping(stages, seed=seed, stream_share=0.4)
    other = msgspec.structs.replace(plan, stages=changed, prompts="long", max_tokens=9, model="gpt-4o", deadline_s=3.0)
    pairs = zip(arrivals(plan), arrivals(other), strict=False)
    assert all(one.stream == two.stream for one, two in pairs)


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_only_adds_streams(low: float, high: float) -> None:
    """Raising the share turns no stream back into JSON: shrinking a plan changes one thing at a time."""
    stages = (RateStage(duration_s=1, start_rate=80, end_rate=80),)
    less, more = (
        {a.n for a in arrivals(ramping(stages, stream_share=share)) if a.stream} for share in sorted((low, high))
    )
    assert less <= more


@given(plans)
def test_a_plan_survives_its_way_to_another_process(plan: LoadPlan) -> None:
    """Written as JSON and read again, a plan lists the very same arrivals."""
    there = msgspec.json.decode(msgspec.json.encode(plan), type=LoadPlan)
    assert there == plan
    assert list(arrivals(there)) == list(arrivals(plan))


def test_arrivals_are_made_lazily() -> None:
    """The first arrivals of a load of a year are there at once."""
    plan = ramping((RateStage(duration_s=365 * 86400, start_rate=1000, end_rate=1000),))
    assert [round(arrival.at_s, 6) for arrival in islice(arrivals(plan), 3)] == [0.0, 0.001, 0.002]

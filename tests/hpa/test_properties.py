"""What holds of the HPA's algorithm whatever the load, the pods and the rules."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.hpa import Behavior, ControllerOptions, HpaSpec, Memory, PodView, Policy, ScalingRules, sync

REQUEST_MILLI = 200
OPTIONS = ControllerOptions(sync_period_s=2, downscale_stabilization_s=10)

policies = st.lists(
    st.builds(
        Policy,
        type=st.sampled_from(["Pods", "Percent"]),
        value=st.integers(1, 200),
        period_s=st.integers(1, 60),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
rules = st.builds(
    ScalingRules,
    policies=policies,
    select_policy=st.sampled_from(["Max", "Min", "Disabled"]),
    stabilization_window_s=st.none() | st.integers(0, 60),
)
specs = st.builds(
    lambda low, more, target, behavior: HpaSpec(
        min_replicas=low, max_replicas=low + more, target_utilization=target, behavior=behavior
    ),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(10, 150),
    st.none() | st.builds(Behavior, scale_up=rules, scale_down=rules),
)


def running(replicas: int, load_milli: int, now_s: float) -> list[PodView]:
    """Return ready pods that share a load evenly, as far as a pod can burn (one core)."""
    each = min(1000, load_milli // max(1, replicas))
    return [
        PodView(
            name=f"p{n}",
            request_milli=REQUEST_MILLI,
            usage_milli=each,
            sampled_at_s=now_s,
            window_s=1,
            started_at_s=-1000,
            ready=True,
            ready_changed_at_s=-900,
        )
        for n in range(replicas)
    ]


def history(spec: HpaSpec, loads_milli: list[int], start: int) -> list[int]:
    """Return the replicas after each round when every decision takes effect at once."""
    memory, replicas, found = Memory(), start, []
    for n, load_milli in enumerate(loads_milli):
        now_s = n * OPTIONS.sync_period_s
        decision = sync(spec, OPTIONS, memory, replicas, running(replicas, load_milli, now_s), now_s)
        memory, replicas = decision.memory, decision.desired
        found.append(replicas)
    return found


@given(spec=specs, loads=st.lists(st.integers(0, 20_000), min_size=1, max_size=30), start=st.integers(1, 20))
def test_replicas_stay_within_the_bounds(spec: HpaSpec, loads: list[int], start: int) -> None:
    """After every round, whatever the start, the replicas are from the minimum to the maximum."""
    assert all(spec.min_replicas <= replicas <= spec.max_replicas for replicas in history(spec, loads, start))


@given(spec=specs, current=st.integers(1, 16), low=st.integers(0, 20_000), more=st.integers(0, 20_000))
def test_more_load_never_means_fewer_replicas(spec: HpaSpec, current: int, low: int, more: int) -> None:
    """In one round from the same state, desired grows with the load."""
    less, full = (
        sync(spec, OPTIONS, Memory(), current, running(current, load, 0.0), 0.0).desired for load in (low, low + more)
    )
    assert less <= full


@settings(max_examples=200)
@given(spec=specs, load=st.integers(0, 20_000), start=st.integers(1, 16))
def test_constant_load_does_not_oscillate(spec: HpaSpec, load: int, start: int) -> None:
    """Under a constant load the replicas turn at most once."""
    replicas = [start, *history(spec, [load] * 80, start)]
    steps = [after - before for before, after in pairwise(replicas) if after != before]
    turns = sum((one > 0) != (two > 0) for one, two in pairwise(steps))
    assert turns <= 1, replicas


@given(
    window_s=st.integers(0, 40),
    loads=st.lists(st.integers(0, 4000), min_size=2, max_size=40),
)
def test_scaling_down_honours_the_window(window_s: int, loads: list[int]) -> None:
    """Replicas fall below a recommendation only when it is as old as the window."""
    down = ScalingRules(policies=(Policy(type="Percent", value=100, period_s=1),), stabilization_window_s=window_s)
    spec = HpaSpec(max_replicas=20, target_utilization=50, behavior=Behavior(scale_down=down))
    memory, replicas = Memory(), 10
    told: list[tuple[float, int]] = []
    for n, load in enumerate(loads):
        now_s = n * OPTIONS.sync_period_s
        decision = sync(spec, OPTIONS, memory, replicas, running(replicas, load, now_s), now_s)
        if decision.desired < replicas:
            recent = [count for at_s, count in told if now_s - at_s < window_s]
            assert decision.desired >= min(max(recent, default=1), replicas)
        assert decision.recommended is not None
        told.append((now_s, decision.recommended))
        memory, replicas = decision.memory, decision.desired


@given(spec=specs, current=st.integers(1, 16), start_cpu=st.integers(0, 5000))
def test_start_up_cpu_never_scales_up(spec: HpaSpec, current: int, start_cpu: int) -> None:
    """With the controller's guard at its default, what pods burn before they are ready changes nothing."""
    current = min(max(current, spec.min_replicas), spec.max_replicas)
    starting = [
        PodView(
            name=f"p{n}",
            request_milli=REQUEST_MILLI,
            usage_milli=start_cpu,
            sampled_at_s=5.0,
            window_s=4,
            started_at_s=2.0,
            ready=True,
            ready_changed_at_s=4.0,
        )
        for n in range(current)
    ]
    decision = sync(spec, OPTIONS, Memory(), current, starting, 5.0)
    assert (decision.desired, decision.held) == (current, "FailedGetResourceMetric")

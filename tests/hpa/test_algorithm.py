"""The HPA's decisions, each against figures worked out by hand from the controller's documentation and source."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seawall.hpa import Behavior, ControllerOptions, HpaSpec, Memory, PodView, Policy, ScalingRules, sync
from seawall.hpa.model import Recommendation

OPTIONS = ControllerOptions(sync_period_s=2, downscale_stabilization_s=10)
PLAIN = HpaSpec(max_replicas=10, target_utilization=50)
NOW_S = 1000.0


def pods(*usage_milli: int | None, request_milli: int = 200, **changes: Any) -> list[PodView]:
    """Return ready pods, long started, with this much CPU each."""
    pod = PodView(
        name="",
        request_milli=request_milli,
        sampled_at_s=NOW_S - 1,
        window_s=4,
        started_at_s=NOW_S - 600,
        ready=True,
        ready_changed_at_s=NOW_S - 590,
    )
    pod = msgspec.structs.replace(pod, **changes)
    return [msgspec.structs.replace(pod, name=f"p{n}", usage_milli=usage) for n, usage in enumerate(usage_milli)]


def desired(spec: HpaSpec, current: int, seen: list[PodView] | None, memory: Memory | None = None) -> int:
    """Return the replicas that one round decides on."""
    return sync(spec, OPTIONS, memory or Memory(), current, seen, NOW_S).desired


@pytest.mark.parametrize(
    ("usage", "current", "expected"),
    [
        ([100], 1, 1),  # 50 % is the target
        ([110], 1, 1),  # 55 %: within the tolerance of 10 %
        ([112], 1, 2),  # 56 %: 1.12 of the target
        ([111], 1, 1),  # 55.5 %: the controller cuts to 55 % before it compares
        ([194], 1, 2),  # 97 %: 1.94, so 2
        ([402], 1, 4),  # 201 %: 4.02, so 5, but at most 4 from 1
        ([109, 109, 109, 108], 4, 4),  # 435m on 4: 54 %
        ([87, 87, 87, 87, 87], 5, 5),  # the same on 5: 43 %, that is 0.86, so 4.3, so 5
        ([0, 0, 0], 3, 1),  # idle, to the minimum
        ([4000] * 10, 10, 10),  # the maximum is the maximum
    ],
)
def test_desired_is_what_ratio_and_tolerance_say(usage: list[int], current: int, expected: int) -> None:
    """Desired = ceil(pods x utilization / target), nothing within the tolerance, at most twice as many or 4."""
    forgetful = Memory(recommendations=(Recommendation(0, NOW_S - 100),))
    assert desired(PLAIN, current, pods(*usage), forgetful) == expected


def test_the_metrics_are_away() -> None:
    """Without an answer, or with one that counts for no pod, everything stays as it is, and says why."""
    for seen in (None, [], pods(None, None)):
        decision = sync(PLAIN, OPTIONS, Memory(), 3, seen, NOW_S)
        assert (decision.desired, decision.held) == (3, "FailedGetResourceMetric")


def test_zero_replicas_switch_it_off() -> None:
    """A target scaled to zero by hand stays there."""
    decision = sync(PLAIN, OPTIONS, Memory(), 0, pods(500), NOW_S)
    assert (decision.desired, decision.held) == (0, "ScalingDisabled")


@pytest.mark.parametrize(("current", "expected", "reason"), [(14, 10, "TooManyReplicas"), (1, 2, "TooFewReplicas")])
def test_outside_the_bounds_no_metric_is_asked(current: int, expected: int, reason: str) -> None:
    """Replicas outside the bounds go to the bound at once."""
    spec = HpaSpec(min_replicas=2, max_replicas=10, target_utilization=50)
    decision = sync(spec, OPTIONS, Memory(), current, None, NOW_S)
    assert (decision.desired, decision.limited) == (expected, reason)


def test_pods_without_metrics_speak_against_the_change() -> None:
    """Scaling up they count as idle, scaling down as full."""
    old = Memory(recommendations=(Recommendation(0, NOW_S - 100),))
    # 100 % on two pods would be 4; with two more that are idle it is 50 %, the target.
    assert desired(PLAIN, 4, pods(200, 200, None, None), old) == 4
    # 10 % on two pods would be 1; with a third one full it is 40 %, 0.8, so 2.4, so 3.
    assert desired(PLAIN, 3, pods(20, 20, None), old) == 3
    # 160 % on one pod would be 4; with two that are idle it is 53 %, within the tolerance.
    assert desired(PLAIN, 3, pods(320, None, None), old) == 3
    # 5 % on one pod would be 1; with three full ones it is 76 %: the other direction, so nothing.
    assert desired(PLAIN, 4, pods(10, None, None, None), old) == 4
    # 24 % of five pods is 3: more than the 2 that are wanted now, though the load is low, so nothing.
    assert desired(PLAIN, 2, pods(10, 10, 10, 10, None), old) == 2
    # 5 % on four, one missing: 24 %, 0.48, 2.4, so 3 of 5.
    assert desired(PLAIN, 5, pods(10, 10, 10, 10, None), old) == 3


def test_pods_that_are_not_ready_do_not_run_away() -> None:
    """New pods count as idle when scaling up, and their start-up CPU not at all."""
    young = {"started_at_s": NOW_S - 2, "ready": False, "ready_changed_at_s": NOW_S - 2}
    starting = [msgspec.structs.replace(pod, name=f"new-{pod.name}") for pod in pods(2000, 2000, **young)]
    # 180 % on one pod would be 4; with two idle ones 60 %, 1.2 of three, so 4.
    assert desired(PLAIN, 3, [*pods(360), *starting]) == 4
    # 160 % on one pod would be 4; with two idle ones 53 %, within the tolerance.
    assert desired(PLAIN, 3, [*pods(320), *starting]) == 3
    # 100 % on one pod would be 2; with two idle ones 33 %: the other direction, so nothing.
    assert desired(PLAIN, 3, [*pods(200), *starting]) == 3


def test_a_sample_counts_when_its_window_lies_after_readiness() -> None:
    """Within the initialization period a sample whose window begins before the pod was ready is ignored."""
    begun = {"started_at_s": NOW_S - 10, "ready": True, "ready_changed_at_s": NOW_S - 4}
    early = pods(900, sampled_at_s=NOW_S - 1, window_s=4, **begun)
    late = pods(900, sampled_at_s=NOW_S, window_s=4, **begun)
    assert sync(PLAIN, OPTIONS, Memory(), 1, early, NOW_S).held == "FailedGetResourceMetric"
    assert desired(PLAIN, 1, late) == 4
    naive = msgspec.structs.replace(OPTIONS, cpu_initialization_period_s=1, initial_readiness_delay_s=1)
    assert sync(PLAIN, naive, Memory(), 1, early, NOW_S).desired == 4


def test_deleted_and_failed_pods_are_not_there() -> None:
    """A pod that goes or has failed counts neither as measured nor as missing."""
    gone = pods(4000, is_deleting=True)[0]
    failed = pods(4000, phase="Failed")[0]
    others = [msgspec.structs.replace(pod, name=f"left-{pod.name}") for pod in pods(100, 100)]
    assert desired(PLAIN, 2, [*others, gone, failed]) == 2


def test_scaling_down_waits_for_the_window() -> None:
    """The highest recommendation of the last 10 s holds; when it is older, the lower one is taken."""
    memory = Memory(recommendations=(Recommendation(6, NOW_S - 9.5),))
    first = sync(PLAIN, OPTIONS, memory, 6, pods(*[0] * 6), NOW_S)
    assert (first.desired, first.recommended, first.is_stabilized) == (6, 0, True)
    later = sync(PLAIN, OPTIONS, first.memory, 6, pods(*[0] * 6), NOW_S + 1)
    assert (later.desired, later.limited) == (1, "TooFewReplicas")


def behaving(**rules: ScalingRules) -> HpaSpec:
    """Return a spec with these rules."""
    return HpaSpec(max_replicas=100, target_utilization=50, behavior=Behavior(**rules))


def test_policies_bound_the_change_of_a_period() -> None:
    """Max takes the policy that allows most, Min the least, Disabled nothing; what was added lately counts."""
    policies = (Policy(type="Pods", value=4, period_s=60), Policy(type="Percent", value=10, period_s=60))
    loaded = pods(*[200] * 80)
    for select, expected in (("Max", 88), ("Min", 84), ("Disabled", 80)):
        rules: Any = ScalingRules(policies=policies, select_policy=select)
        assert desired(behaving(scale_up=rules), 80, loaded) == expected
    spec = behaving(scale_up=ScalingRules(policies=policies, select_policy="Min"))
    first = sync(spec, OPTIONS, Memory(), 80, loaded, NOW_S)
    again = sync(spec, OPTIONS, first.memory, 84, pods(*[200] * 84), NOW_S + 30)
    assert (again.desired, again.limited) == (84, "ScaleUpLimit")
    assert sync(spec, OPTIONS, again.memory, 84, pods(*[200] * 84), NOW_S + 61).desired == 88


def test_scaling_down_by_per_cent_rounds_towards_fewer() -> None:
    """10 % of 21 a minute: to 18 (18.9 cut), as the controller does."""
    rules = ScalingRules(policies=(Policy(type="Percent", value=10, period_s=60),), stabilization_window_s=0)
    decision = sync(behaving(scale_down=rules), OPTIONS, Memory(), 21, pods(*[0] * 21), NOW_S)
    assert (decision.desired, decision.limited) == (18, "ScaleDownLimit")


def test_scaling_up_waits_for_its_window() -> None:
    """With a window upwards the lowest recommendation of it holds."""
    up = ScalingRules(policies=(Policy(type="Percent", value=900, period_s=15),), stabilization_window_s=8)
    spec = behaving(scale_up=up)
    memory = Memory(recommendations=(Recommendation(2, NOW_S - 5),))
    assert desired(spec, 2, pods(400, 400), memory) == 2
    assert sync(spec, OPTIONS, memory, 2, pods(400, 400), NOW_S + 4).desired == 8


def test_tolerance_can_be_set_for_each_direction() -> None:
    """A tolerance in the behavior replaces the controller's, in its own direction only."""
    policies = (Policy(type="Pods", value=4, period_s=15),)
    up = behaving(scale_up=ScalingRules(policies=policies, tolerance=0.0))
    assert desired(up, 1, pods(104)) == 2
    assert desired(up, 10, pods(*[94] * 10), Memory(recommendations=(Recommendation(0, NOW_S - 400),))) == 10


def test_a_manifest_is_read_as_the_api_server_completes_it() -> None:
    """What `behavior` leaves out has the API's defaults; without one the older rules hold."""
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    manifest: dict[str, Any] = {"spec": {"minReplicas": 1, "maxReplicas": 10, "metrics": [cpu]}}
    assert HpaSpec.from_manifest(manifest) == PLAIN
    manifest["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 30}}
    behavior = HpaSpec.from_manifest(manifest).behavior
    assert behavior is not None
    assert behavior.scale_up == Behavior().scale_up
    assert behavior.scale_down == msgspec.structs.replace(Behavior().scale_down, stabilization_window_s=30)
    manifest["spec"]["metrics"] = [cpu, cpu]
    with pytest.raises(ValueError, match="one metric"):
        HpaSpec.from_manifest(manifest)

"""
What a HorizontalPodAutoscaler decides: the algorithm of autoscaling/v2 for CPU utilization, as a pure function.

`sync` is one round of the controller: it is handed the spec, what the controller remembers, the pods as the metrics
server and their status show them, and the time; it returns the decision and what is remembered next. Follows
kube-controller-manager 1.35, pkg/controller/podautoscaler: replica_calculator.go (ratio, tolerance, pods that are
unready or without metrics) and horizontal.go (bounds, stabilization, policies). Differences: one metric, of type
Resource, so nothing is chosen among several; the target exists and can be scaled.

    pods ─▶ grouped ─▶ ratio ─▶ recommended ─▶ stabilized ─▶ limited by policies ─▶ within bounds ─▶ desired
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from seawall.hpa.model import (
    Behavior,
    Change,
    ControllerOptions,
    Decision,
    HoldReason,
    HpaSpec,
    LimitReason,
    Memory,
    PodView,
    Policy,
    Recommendation,
    ScalingRules,
)

__all__ = ["sync"]


def sync(
    spec: HpaSpec,
    options: ControllerOptions,
    memory: Memory,
    current: int,
    pods: Sequence[PodView] | None,
    now_s: float,
) -> Decision:
    """
    Return what the controller does in a round at `now_s` with `current` replicas.

    `pods` None: the metrics API does not answer.
    """
    if not memory.recommendations:
        memory = msgspec.structs.replace(memory, recommendations=(Recommendation(current, now_s),))
    if current == 0 and spec.min_replicas != 0:
        return _held(current, "ScalingDisabled", memory)
    if current > spec.max_replicas:
        return _decided(spec, memory, current, spec.max_replicas, "TooManyReplicas", now_s)
    if current < spec.min_replicas:
        return _decided(spec, memory, current, spec.min_replicas, "TooFewReplicas", now_s)
    found = _recommended(spec, options, current, pods, now_s) if pods is not None else None
    if found is None:
        return _held(current, "FailedGetResourceMetric", memory)
    recommended, utilization = found
    if spec.behavior is None:
        stabilized = _stabilized_down(options, memory, recommended, now_s)
        desired, limited = _limited(current, stabilized, spec.min_replicas, _legacy_limit(spec, current))
        oldest_s = options.downscale_stabilization_s
    else:
        up_s, down_s = _windows(spec.behavior, options)
        stabilized = _stabilized(memory, current, recommended, now_s, up_s, down_s)
        desired, limited = _by_policies(spec, spec.behavior, memory, current, stabilized, now_s)
        oldest_s = max(up_s, down_s)
    kept = tuple(old for old in memory.recommendations if now_s - old.at_s <= oldest_s)
    memory = msgspec.structs.replace(memory, recommendations=(*kept, Recommendation(recommended, now_s)))
    decision = _decided(spec, memory, current, desired, limited, now_s)
    return msgspec.structs.replace(
        decision, recommended=recommended, utilization=utilization, is_stabilized=stabilized != recommended
    )


def _held(current: int, reason: HoldReason, memory: Memory) -> Decision:
    limited: LimitReason = "ScalingDisabled" if reason == "ScalingDisabled" else "DesiredWithinRange"
    return Decision(
        desired=current,
        recommended=None,
        utilization=None,
        held=reason,
        limited=limited,
        is_stabilized=False,
        memory=memory,
    )


def _decided(spec: HpaSpec, memory: Memory, current: int, desired: int, limited: LimitReason, now_s: float) -> Decision:
    if spec.behavior is not None and desired != current:
        rules = (*spec.behavior.scale_up.policies, *spec.behavior.scale_down.policies)
        oldest_s = max((policy.period_s for policy in rules), default=0)
        kept = tuple(change for change in memory.changes if now_s - change.at_s <= oldest_s)
        memory = msgspec.structs.replace(memory, changes=(*kept, Change(desired - current, now_s)))
    return Decision(
        desired=desired,
        recommended=None,
        utilization=None,
        held=None,
        limited=limited,
        is_stabilized=False,
        memory=memory,
    )


def _recommended(
    spec: HpaSpec, options: ControllerOptions, current: int, pods: Sequence[PodView], now_s: float
) -> tuple[int, int] | None:
    """Return (replicas, utilization), or None when no pod has a metric that counts."""
    measured, unready, missing = _grouped(pods, options, now_s)
    if not measured:
        return None
    used = {pod.name: pod.usage_milli or 0 for pod in measured}
    requests = {pod.name: pod.request_milli for pod in pods}
    utilization = _utilization(used, requests)
    ratio = utilization / spec.target_utilization
    rebalances = bool(unready) and ratio > 1
    if not rebalances and not missing:
        if _tolerates(spec, options, ratio):
            return current, utilization
        return math.ceil(ratio * len(measured)), utilization
    # Whatever is unknown is taken to speak against the change: full when scaling down, idle when scaling up.
    if ratio < 1:
        full = max(100, spec.target_utilization)
        used |= {pod.name: pod.request_milli * full // 100 for pod in missing}
    elif ratio > 1:
        used |= dict.fromkeys((pod.name for pod in missing), 0)
    if rebalances:
        used |= dict.fromkeys((pod.name for pod in unready), 0)
    again = _utilization(used, requests) / spec.target_utilization
    if _tolerates(spec, options, again) or (ratio < 1 < again) or (again < 1 < ratio):
        return current, utilization
    replicas = math.ceil(again * len(used))
    turns = (again < 1 and replicas > current) or (again > 1 and replicas < current)
    return (current if turns else replicas), utilization


def _grouped(
    pods: Iterable[PodView], options: ControllerOptions, now_s: float
) -> tuple[list[PodView], list[PodView], list[PodView]]:
    """Return the pods whose metric counts, those that are not ready for it, and those that have none."""
    measured: list[PodView] = []
    unready: list[PodView] = []
    missing: list[PodView] = []
    for pod in pods:
        if pod.is_deleting or pod.phase == "Failed":
            continue
        if pod.phase == "Pending":
            unready.append(pod)
        elif pod.usage_milli is None:
            missing.append(pod)
        elif _is_unready(pod, options, now_s):
            unready.append(pod)
        else:
            measured.append(pod)
    return measured, unready, missing


def _is_unready(pod: PodView, options: ControllerOptions, now_s: float) -> bool:
    if pod.ready is None or pod.started_at_s is None:
        return True
    if pod.started_at_s + options.cpu_initialization_period_s > now_s:
        # The guard against start-up CPU: a sample counts only when its whole window lies after the pod became ready.
        return not pod.ready or pod.sampled_at_s < pod.ready_changed_at_s + pod.window_s
    never_was = pod.started_at_s + options.initial_readiness_delay_s > pod.ready_changed_at_s
    return not pod.ready and never_was


def _utilization(used: Mapping[str, int], requests: Mapping[str, int]) -> int:
    """Return the whole per cent, rounded down as the controller does, of the requests of the pods in `used`."""
    return sum(used.values()) * 100 // sum(requests[name] for name in used)


def _tolerates(spec: HpaSpec, options: ControllerOptions, ratio: float) -> bool:
    behavior = spec.behavior
    up = behavior.scale_up.tolerance if behavior else None
    down = behavior.scale_down.tolerance if behavior else None
    lowest = 1 - (options.tolerance if down is None else down)
    highest = 1 + (options.tolerance if up is None else up)
    return lowest <= ratio <= highest


def _stabilized_down(options: ControllerOptions, memory: Memory, recommended: int, now_s: float) -> int:
    """Return the highest recommendation of the controller's own window: the rule without `behavior`."""
    cutoff_s = now_s - options.downscale_stabilization_s
    return max([recommended, *(old.replicas for old in memory.recommendations if old.at_s >= cutoff_s)])


def _windows(behavior: Behavior, options: ControllerOptions) -> tuple[float, float]:
    up_s, down_s = behavior.scale_up.stabilization_window_s, behavior.scale_down.stabilization_window_s
    return (up_s or 0.0), (options.downscale_stabilization_s if down_s is None else down_s)


def _stabilized(memory: Memory, current: int, recommended: int, now_s: float, up_s: float, down_s: float) -> int:
    """Return the replicas as near to `current` as the recommendations of both windows allow."""
    lowest, highest = recommended, recommended
    for old in memory.recommendations:
        if old.at_s > now_s - up_s:
            lowest = min(lowest, old.replicas)
        if old.at_s > now_s - down_s:
            highest = max(highest, old.replicas)
    return min(max(current, lowest), highest)


def _legacy_limit(spec: HpaSpec, current: int) -> tuple[int, LimitReason]:
    doubled = max(2 * current, 4)
    return (doubled, "ScaleUpLimit") if doubled < spec.max_replicas else (spec.max_replicas, "TooManyReplicas")


def _limited(current: int, wanted: int, lowest: int, highest: tuple[int, LimitReason]) -> tuple[int, LimitReason]:
    if wanted < lowest:
        return lowest, "TooFewReplicas"
    limit, reason = highest
    return (limit, reason) if wanted > limit else (wanted, "DesiredWithinRange")


def _by_policies(
    spec: HpaSpec, behavior: Behavior, memory: Memory, current: int, wanted: int, now_s: float
) -> tuple[int, LimitReason]:
    if wanted > current:
        # Never down again only because a limit of the past is lower now.
        limit = max(_limit_up(behavior.scale_up, memory, current, now_s), current)
        reason: LimitReason = "ScaleUpLimit" if limit < spec.max_replicas else "TooManyReplicas"
        allowed = min(limit, spec.max_replicas)
        return (allowed, reason) if wanted > allowed else (wanted, "DesiredWithinRange")
    if wanted < current:
        limit = min(_limit_down(behavior.scale_down, memory, current, now_s), current)
        reason = "ScaleDownLimit" if limit > spec.min_replicas else "TooFewReplicas"
        allowed = max(limit, spec.min_replicas)
        return (allowed, reason) if wanted < allowed else (wanted, "DesiredWithinRange")
    return wanted, "DesiredWithinRange"


def _limit_up(rules: ScalingRules, memory: Memory, current: int, now_s: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules.policies:
        before = _before(memory, current, policy, now_s)
        grown = before + policy.value if policy.type == "Pods" else math.ceil(before * (1 + policy.value / 100))
        limits.append(grown)
    return max(limits) if rules.select_policy == "Max" else min(limits)


def _limit_down(rules: ScalingRules, memory: Memory, current: int, now_s: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules.policies:
        before = _before(memory, current, policy, now_s)
        shrunk = before - policy.value if policy.type == "Pods" else int(before * (1 - policy.value / 100))
        limits.append(shrunk)
    return min(limits) if rules.select_policy == "Max" else max(limits)


def _before(memory: Memory, current: int, policy: Policy, now_s: float) -> int:
    """Return the replicas at the beginning of a policy's period."""
    return current - sum(change.replicas for change in memory.changes if change.at_s > now_s - policy.period_s)

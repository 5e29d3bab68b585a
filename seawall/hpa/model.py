"""What a HorizontalPodAutoscaler is told, what its controller sees and remembers, and what it decides. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

__all__ = [
    "Behavior",
    "Change",
    "ControllerOptions",
    "Decision",
    "HoldReason",
    "HpaSpec",
    "LimitReason",
    "Memory",
    "PodView",
    "Policy",
    "Recommendation",
    "ScalingRules",
]

SelectPolicy = Literal["Max", "Min", "Disabled"]
LimitReason = Literal[
    "DesiredWithinRange", "TooManyReplicas", "TooFewReplicas", "ScaleUpLimit", "ScaleDownLimit", "ScalingDisabled"
]
HoldReason = Literal["FailedGetResourceMetric", "ScalingDisabled"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """At most `value` pods, or per cent of the replicas, within `period_s` seconds."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: int


class ScalingRules(msgspec.Struct, frozen=True, kw_only=True):
    """
    The rules of one direction. `Max` takes the policy that allows most change, `Min` the least, `Disabled` none at all.

    Without `stabilization_window_s` scaling up has 0 s and scaling down the controller's own window; without
    `tolerance` the controller's own counts.
    """

    policies: tuple[Policy, ...]
    select_policy: SelectPolicy = "Max"
    stabilization_window_s: int | None = None
    tolerance: float | None = None


class Behavior(msgspec.Struct, frozen=True, kw_only=True):
    """Rules for both directions, by default those that the API server fills in."""

    scale_up: ScalingRules = ScalingRules(
        policies=(Policy(type="Pods", value=4, period_s=15), Policy(type="Percent", value=100, period_s=15))
    )
    scale_down: ScalingRules = ScalingRules(policies=(Policy(type="Percent", value=100, period_s=15),))


class HpaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """
    The object's spec: replicas from `min_replicas` to `max_replicas`, `target_utilization` in per cent of the request.

    Without `behavior` the controller's older rules hold: at most twice as many or 4, and its own window downwards.
    """

    min_replicas: int = 1
    max_replicas: int
    target_utilization: int
    behavior: Behavior | None = None

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> HpaSpec:
        """
        Return the spec of an autoscaling/v2 object as YAML holds it.

        Raises ValueError when it does not scale on CPU utilization alone.
        """
        spec: dict[str, Any] = manifest["spec"]
        metrics: list[dict[str, Any]] = spec.get("metrics") or []
        resource: dict[str, Any] = metrics[0].get("resource", {}) if len(metrics) == 1 else {}
        target: dict[str, Any] = resource.get("target", {})
        if resource.get("name") != "cpu" or target.get("type") != "Utilization":
            raise ValueError("the HPA must have one metric: resource cpu with a target of type Utilization")
        return cls(
            min_replicas=int(spec.get("minReplicas", 1)),
            max_replicas=int(spec["maxReplicas"]),
            target_utilization=int(target["averageUtilization"]),
            behavior=_behavior(spec.get("behavior")),
        )


class ControllerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of kube-controller-manager that matter here, with its defaults. Times in seconds."""

    sync_period_s: float = 15.0
    tolerance: float = 0.1
    downscale_stabilization_s: float = 300.0
    cpu_initialization_period_s: float = 300.0
    initial_readiness_delay_s: float = 30.0


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """
    A pod as the controller sees it at one moment. Times in seconds on the caller's clock, CPU in thousandths of a core.

    `usage_milli` None: the metrics server has nothing for it. `ready` None: it has no Ready condition yet.
    """

    name: str
    request_milli: int
    usage_milli: int | None = None
    sampled_at_s: float = 0.0
    """The sample's timestamp: the end of its window."""
    window_s: float = 0.0
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] = "Running"
    is_deleting: bool = False
    started_at_s: float | None = None
    ready: bool | None = None
    ready_changed_at_s: float = 0.0


class Recommendation(msgspec.Struct, frozen=True):
    """What was recommended before stabilization, and when."""

    replicas: int
    at_s: float


class Change(msgspec.Struct, frozen=True):
    """Replicas added (positive) or removed (negative) at one moment."""

    replicas: int
    at_s: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller remembers of one HPA between two rounds; it is lost when the controller restarts."""

    recommendations: tuple[Recommendation, ...] = ()
    changes: tuple[Change, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One round. `utilization` in per cent over the pods that counted, None when none did."""

    desired: int
    recommended: int | None
    """By the metrics alone, before stabilization, policies and bounds; None when no metric was asked."""
    utilization: int | None
    held: HoldReason | None
    """Why nothing was computed: the replicas stay as they are."""
    limited: LimitReason
    is_stabilized: bool
    memory: Memory


def _behavior(found: Mapping[str, Any] | None) -> Behavior | None:
    if found is None:
        return None
    default = Behavior()
    return Behavior(
        scale_up=_rules(found.get("scaleUp"), default.scale_up),
        scale_down=_rules(found.get("scaleDown"), default.scale_down),
    )


def _rules(found: Mapping[str, Any] | None, default: ScalingRules) -> ScalingRules:
    if found is None:
        return default
    policies = [
        Policy(type=policy["type"], value=int(policy["value"]), period_s=int(policy["periodSeconds"]))
        for policy in found.get("policies") or ()
    ]
    tolerance = found.get("tolerance")
    return ScalingRules(
        policies=tuple(policies) or default.policies,
        select_policy=found.get("selectPolicy", default.select_policy),
        stabilization_window_s=found.get("stabilizationWindowSeconds", default.stabilization_window_s),
        tolerance=None if tolerance is None else float(tolerance),
    )

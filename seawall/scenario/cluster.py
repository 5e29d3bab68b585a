"""
The part of the scenario language that is about pods: how many there are, what scales them, and what must hold of them.

Specs of Chaos Mesh and the `behavior` of autoscaling/v2 stand in a scenario as they do in their own manifests.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from seawall.scenario.problems import Misplaced, shown
from seawall.scenario.quantities import Duration, LimitText, PositiveDuration, parse_share
from seawall.scenario.words import Flag, Identifier, Model, Whole

__all__ = ["ChaosMesh", "ClusterSpec", "HpaWords", "Scaling"]

_CPU = re.compile(r"[1-9][0-9]{0,4}m")

Replicas = Annotated[Whole, Field(ge=1, le=100)]


class ChaosMesh(Model):
    """An object of Chaos Mesh. It is made when the fault starts, and deleted at its end."""

    kind: Literal["PodChaos", "NetworkChaos", "StressChaos", "Schedule"]
    """What it is. On the local cluster, which has no daemon: `PodChaos` with `pod-kill`, and a `Schedule` of it."""
    spec: dict[str, Any]
    """Its spec, verbatim. A selector that names no namespace gets the run's own."""

    @property
    def is_pod_kill(self) -> bool:
        """Whether it kills pods, at once."""
        return self.kind == "PodChaos" and self.spec.get("action") == "pod-kill"

    @property
    def kills(self) -> bool:
        """Whether it kills pods, at once or by a schedule."""
        scheduled: dict[str, Any] = self.spec.get("podChaos") or {}
        return self.is_pod_kill or (self.kind == "Schedule" and scheduled.get("action") == "pod-kill")


class HpaWords(Model):
    """What differs from `k8s/hpa.yaml`."""

    min_replicas: Replicas = 1
    """The fewest replicas."""
    max_replicas: Replicas = 10
    """The most replicas."""
    target_utilization: Annotated[str, Field(pattern=r"^[0-9]+%$")] = "50%"
    """The CPU that pods are to use, of what they request."""
    behavior: dict[str, Any] = Field(default={"scaleDown": {"stabilizationWindowSeconds": 10}})
    """The `behavior` of autoscaling/v2, verbatim."""

    @property
    def target_percent(self) -> int:
        """The target in per cent."""
        return round(parse_share(self.target_utilization) * 100)

    @model_validator(mode="after")
    def _bounds(self) -> HpaWords:
        if self.max_replicas < self.min_replicas:
            message = f"max_replicas is below min_replicas, {self.min_replicas}; raise it"
            raise Misplaced(message, ("max_replicas",))
        if self.target_percent < 1:
            raise Misplaced("a target of nothing is none; write one such as 50%", ("target_utilization",))
        return self


class ClusterSpec(Model):
    """The pods of the gateway, its Deployment `backend`."""

    replicas: Replicas = 1
    """How many there are to begin with."""
    cpu_request: str = "200m"
    """The CPU that each pod requests, in thousandths of a core. The target of the HPA is a share of it."""
    hpa: HpaWords | None = None
    """What scales them; without it their number stays."""
    grace: PositiveDuration = 10.0
    """How long a pod has to end in order, in whole seconds."""
    pre_stop: Duration = 1.0
    """How long it goes on after it was told to end and before SIGTERM, in whole seconds; 0s: not at all."""
    readiness: Literal["/readyz", "none"] = "/readyz"
    """What says that a pod can serve. `none`: it is taken to be able to as soon as its process runs."""
    forced_deletion: Literal["like-kubelet", "at-once"] = "like-kubelet"
    """How a deletion without grace ends a process: SIGTERM and 2 s, or SIGKILL, as when a node dies."""
    cpu_per_request: PositiveDuration = 0.005
    """In the simulation: the CPU time that a request takes of its pod."""
    pod_start: PositiveDuration = 2.0
    """In the simulation: from a pod's start, with one whole core in use, until it is ready."""

    @field_validator("cpu_request")
    @classmethod
    def _milli(cls, value: str) -> str:
        if not _CPU.fullmatch(value):
            raise ValueError(f"{shown(value)} is no CPU request; write thousandths of a core: 200m")
        return value

    @property
    def cpu_request_milli(self) -> int:
        """The request in thousandths of a core."""
        return int(self.cpu_request.removesuffix("m"))

    @model_validator(mode="after")
    def _whole_seconds(self) -> ClusterSpec:
        for name in ("grace", "pre_stop"):
            if getattr(self, name) % 1:
                raise Misplaced(f"{name} is in whole seconds, as Kubernetes has it; round it", (name,))
        if self.pre_stop >= self.grace:
            raise Misplaced("pre_stop is part of the grace; shorten it", ("pre_stop",), on_key=True)
        return self


class Scaling(Model):
    """Something that must hold of the number of ready pods. Bounds and deadlines: exact counts are chance."""

    replicas: Literal["backend"]
    """Whose pods are counted."""
    reaches: LimitText | None = None
    """The count comes within this limit, within `within`."""
    stays: LimitText | None = None
    """The count is within this limit all the time, or `during` a fault."""
    turns: LimitText | None = None
    """How often the wanted count turns round, from growing to shrinking or back: few turns are no flapping."""
    back: Flag = False
    """After each occurrence of the fault `after`, as many pods are ready as before it, within `within`."""
    within: PositiveDuration | None = None
    """With `reaches` or `back`: the deadline."""
    since: Duration | None = None
    """With `reaches`: the clock starts at this time of the load, by default at its start."""
    after: Identifier | None = None
    """With `reaches`: the clock starts when this fault has healed. With `back`: when it took effect."""
    during: Identifier | None = None
    """With `stays`: only while this fault is in force."""

    @model_validator(mode="after")
    def _shape(self) -> Scaling:
        given = [name for name in ("reaches", "stays", "turns") if getattr(self, name) is not None]
        given += ["back"] if self.back else []
        if len(given) != 1:
            raise ValueError("scaling watches exactly one thing; write one of reaches, stays, turns, back")
        (what,) = given
        if (self.within is not None) != (what in ("reaches", "back")):
            raise ValueError('reaches and back have a deadline, and nothing else has; write within beside them: "30s"')
        if self.since is not None and (what != "reaches" or self.after is not None):
            raise Misplaced("since belongs to reaches, where there is no after; take it out", ("since",), on_key=True)
        if self.after is not None and what not in ("reaches", "back"):
            raise Misplaced("after belongs to reaches and back; write during, or take it out", ("after",), on_key=True)
        if what == "back" and self.after is None:
            raise ValueError("back is after a fault; add after, with the fault's id")
        if self.during is not None and what != "stays":
            raise Misplaced("during belongs to stays; take it out", ("during",), on_key=True)
        return self

"""
What only a cluster has by way of faults, bound to it, and how each is shown to be in force and gone.

Chaos Mesh shows by the conditions of its own object, a rollout by the Deployment's status, a metrics outage by asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from faults.base import Fault
from faults.chaos_mesh import API_VERSION, ChaosMeshFault, conditions_of, killed_by
from faults.kubernetes_api import KubernetesError
from faults.metrics_outage import MetricsOutageFault
from faults.rollout import RolloutFault
from seawall.arenas.cluster_manifests import APP
from seawall.arenas.cluster_target import ClusterTarget
from seawall.arenas.injector import PlannedFault
from seawall.cluster.kubelet.manifest import parts
from seawall.cluster.kubelet.options import CONTROL
from seawall.scenario.model import FaultSpec

__all__ = ["ClusterProver", "planned_cluster_fault"]

_LOOK_EVERY_S = 0.1

Shown = Callable[[bool], dict[str, Any] | None]
"""Given whether the fault is to be in force, returns what shows that it is so; None when nothing does."""


class ClusterProver:
    """Looks until `shown` has something to show."""

    by_behaviour = False
    unprovable = None

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    async def prepare(self) -> None:
        """See Prover. There is nothing to learn."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        due_s = time.monotonic() + deadline_s
        while not stop.is_set():
            found = await asyncio.to_thread(self._shown, True)
            if found is not None or time.monotonic() >= due_s:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        due_s = time.monotonic() + deadline_s
        while True:
            found = await asyncio.to_thread(self._shown, False)
            if found is not None or time.monotonic() >= due_s:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)


def planned_cluster_fault(spec: FaultSpec, start_s: float, target: ClusterTarget, run: str) -> PlannedFault:
    """Return the fault of the scenario, one that only a cluster has, bound to `target`."""
    fault: Fault
    if spec.chaos_mesh is not None:
        fault = chaos = ChaosMeshFault(
            id=spec.id,
            target=spec.target,
            api=target.api,
            namespace=target.namespace,
            run=run,
            kind=spec.chaos_mesh.kind,
            spec=spec.chaos_mesh.spec,
        )
        shown: Shown = _scheduled(chaos) if chaos.kind == "Schedule" else _injected(chaos)
    elif spec.rollout is not None:
        path = f"/apis/apps/v1/namespaces/{target.namespace}/deployments/{APP}"
        fault = rollout = RolloutFault(
            id=spec.id, target=spec.target, api=target.api, path=path, action=spec.rollout, stamp=f"{run}/{start_s:g}"
        )
        shown = _rolling(rollout)
    else:
        assert target.state is not None  # noqa: S101 - looked at before the run began
        assert spec.metrics_outage is not None  # noqa: S101 - there is no other kind
        orders = str(target.state / "kubelet" / CONTROL)
        fault = MetricsOutageFault(id=spec.id, target=spec.target, orders=orders, outage=spec.metrics_outage)
        shown = _silent(target)
    return PlannedFault(fault=fault, prover=ClusterProver(shown), start_s=start_s, duration_s=spec.duration)


def _injected(fault: ChaosMeshFault) -> Shown:
    def shown(in_force: bool) -> dict[str, Any] | None:
        found = fault.read()
        if not in_force:
            return {"criterion": "the object is gone", "name": fault.name} if found is None else None
        conditions = {} if found is None else conditions_of(found)
        if found is None or not (conditions.get("Selected") and conditions.get("AllInjected")):
            return None
        return {"criterion": "Selected and AllInjected", "name": fault.name, "pods": killed_by(found)}

    return shown


def _scheduled(fault: ChaosMeshFault) -> Shown:
    def shown(in_force: bool) -> dict[str, Any] | None:
        schedule = fault.read()
        if not in_force:
            return {"criterion": "the object is gone", "name": fault.name} if schedule is None else None
        listed = fault.api.get(f"/apis/{API_VERSION}/namespaces/{fault.namespace}/podchaos")["items"]
        for each in listed:
            owners = parts(each["metadata"], "ownerReferences")
            ours = any(owner["kind"] == "Schedule" and owner["name"] == fault.name for owner in owners)
            if ours and conditions_of(each).get("AllInjected"):
                name = each["metadata"]["name"]
                return {"criterion": "the schedule has injected", "name": name, "pods": killed_by(each)}
        return None

    return shown


def _rolling(fault: RolloutFault) -> Shown:
    def shown(in_force: bool) -> dict[str, Any] | None:
        found = fault.read()
        status: dict[str, Any] = found.get("status", {})
        wanted = found["spec"].get("replicas", 1)
        counts = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")}
        if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
            return None
        if in_force:
            is_going = counts["updatedReplicas"] > 0 and counts["replicas"] >= wanted
            return {"criterion": "new pods are there", **counts} if is_going else None
        is_done = set(counts.values()) == {wanted}
        return {"criterion": "all pods are of the wanted template, and ready", **counts} if is_done else None

    return shown


def _silent(target: ClusterTarget) -> Shown:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{target.namespace}/pods"

    def shown(in_force: bool) -> dict[str, Any] | None:
        try:
            count = len(target.api.get(path)["items"])
            said = {"criterion": f"metrics of {count} pods", "status": 200, "pods": count}
        except KubernetesError as error:
            if not error.status:
                raise
            count, said = 0, {"criterion": f"HTTP {error.status}", "status": error.status}
        return said if (count == 0) is in_force else None

    return shown

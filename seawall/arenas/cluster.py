"""
The cluster arena: pods behind a Service, scaled by a real HPA and killed by real Chaos Mesh.

    Locust ──▶ the Service's load balancer ──▶ pods of the Deployment `backend` ──▶ Toxiproxy ──▶ emulators

Toxiproxy, emulators and Redis are the run's own, as on the wire. What is applied is written into the undo file before,
and deleted at the end, whoever comes to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from faults import registry
from faults.base import FaultError, Undo
from faults.cluster_objects import objects_record
from faults.kubernetes_api import KubernetesError
from faults.metrics_outage import change_orders
from faults.undo import UndoFile
from seawall.arenas.cluster_faults import planned_cluster_fault
from seawall.arenas.cluster_manifests import APP, HPA, manifests
from seawall.arenas.cluster_target import ClusterTarget, look
from seawall.arenas.cluster_watch import PODS, Watch
from seawall.arenas.injector import PlannedFault
from seawall.arenas.parts import ArenaFailed
from seawall.arenas.wire import WireArena
from seawall.cluster.kubelet.load_balancer import SERVED_AT
from seawall.cluster.kubelet.manifest import part, parts
from seawall.cluster.kubelet.options import CONTROL
from seawall.journal.writer import EventWriter
from seawall.processes import Processes
from seawall.scenario.cluster import ClusterSpec
from seawall.scenario.model import FaultSpec, Scenario
from seawall.systems import SystemUnderTest
from seawall.toolchain import Progress

__all__ = ["ClusterArena"]

_READY_S = 90.0
_POLL_S = 0.1
_REMOVAL_S = 20.0

Object = dict[str, Any]


class ClusterArena(WireArena):
    """
    The parts of one run on `cluster`; see WireArena for the rest.

    Raises ArenaFailed before anything is applied when the cluster is not as the scenario needs it.
    """

    name = "cluster"

    def __init__(
        self,
        scenario: Scenario,
        system: SystemUnderTest,
        folder: Path,
        run: str,
        *,
        undo: UndoFile,
        processes: Processes,
        progress: Progress,
        cluster: ClusterTarget,
    ) -> None:
        super().__init__(scenario, system, folder, run, undo=undo, processes=processes, progress=progress)
        self._cluster = cluster
        self._undo = undo
        self._pods_of = scenario.cluster or ClusterSpec()
        self._applied: tuple[int, Undo] | None = None
        self._writer: EventWriter | None = None
        self._watch: Watch | None = None
        self._versions: dict[str, str] = {}

    @property
    def observes(self) -> tuple[str, ...]:
        """See WireArena. Of what ran before only the clients' side is seen."""
        return super().observes if self._cluster.url is None else ("request",)

    def versions(self) -> dict[str, str]:
        """See WireArena."""
        return super().versions() | self._versions

    async def resolve(self) -> Any:
        """See WireArena. The cluster is looked at first."""
        await asyncio.to_thread(look, self._cluster, self._scenario)
        said = await asyncio.to_thread(self._cluster.api.get, "/version")
        self._versions = {"kubernetes": str(said["gitVersion"]).removeprefix("v")}
        return await super().resolve()

    async def start(self) -> None:
        """Start what the pods reach, apply the objects, and wait until the pods serve."""
        upstreams = await self._start_upstreams()
        self._writer = EventWriter(self._folder, "cluster")
        scales = self._pods_of.hpa is not None
        self._watch = Watch(self._cluster, self._writer, scales=scales, forbidden=self.break_off)
        if self._cluster.url is not None:
            self.base_url = self._cluster.url.rstrip("/")
        else:
            await self._apply(upstreams)
            self.base_url = await self._served()
        self._watch.start()
        self._is_up = True

    def planned(self, spec: FaultSpec, start_s: float) -> PlannedFault:
        """See WireArena."""
        if spec.chaos_mesh is None and spec.rollout is None and spec.metrics_outage is None:
            return super().planned(spec, start_s)
        return planned_cluster_fault(spec, start_s, self._cluster, self._run)

    async def close(self) -> bool:
        """See WireArena. The objects go too, and it is waited until their pods are gone."""
        clean = await self._remove()
        if self._watch is not None:
            await self._watch.stop()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._order(events=None, forced_deletion=None)
        return await super().close() and clean

    async def _apply(self, upstreams: dict[str, str]) -> None:
        environment = dict(self._system.render(self._scenario, upstreams).environment)
        if "BUDGET_SQLITE_PATH" in environment:
            environment["BUDGET_SQLITE_PATH"] = str(self._folder / "budget.db")
        objects = manifests(
            self._pods_of, environment, namespace=self._cluster.namespace, run=self._run, events=self._folder
        )
        api = self._cluster.api
        try:
            paths = [await asyncio.to_thread(api.path_of, each) for each in objects]
            await self._refuse_foreign(paths)
            for each in objects:
                await asyncio.to_thread(partial(api.apply, each, dry_run=True))
            record = objects_record(api, self._run, paths)
            self._applied = (await asyncio.to_thread(self._undo.append, record), record)
            self._order(events=str(self._folder), forced_deletion=self._pods_of.forced_deletion)
            for each in objects:
                await asyncio.to_thread(api.apply, each)
        except KubernetesError as error:
            raise ArenaFailed(f"the cluster does not take the objects of the run: {error}") from error

    async def _refuse_foreign(self, paths: list[str]) -> None:
        """See that none of the objects is there: what another made must not be changed, and then deleted."""
        for path in paths:
            if await asyncio.to_thread(self._cluster.api.find, path) is not None:
                place = "use another --namespace, or --url to run against what is there"
                if self._cluster.state is not None:
                    place = "a killed run's goes with `seawall recover`; another run must end first"
                raise ArenaFailed(f"{path} is there already, and not of this run; {place}")

    async def _served(self) -> str:
        """Wait until all pods are ready, the load balancer serves them, and the HPA has its first figures."""
        api, namespace = self._cluster.api, self._cluster.namespace
        due_s = time.monotonic() + _READY_S
        missing = "nothing was looked at"
        while time.monotonic() < due_s:
            deployment = await asyncio.to_thread(api.get, f"/apis/apps/v1/namespaces/{namespace}/deployments/{APP}")
            service = await asyncio.to_thread(api.get, f"/api/v1/namespaces/{namespace}/services/{APP}")
            address = part(service["metadata"], "annotations").get(SERVED_AT)
            ready, wanted = deployment.get("status", {}).get("readyReplicas", 0), deployment["spec"]["replicas"]
            missing = f"{ready} of {wanted} pods are ready" if ready < wanted else "no load balancer serves them"
            if ready >= wanted and address is not None:
                missing = "the HPA has no figures"
                if self._pods_of.hpa is None or await asyncio.to_thread(self._is_scaling):
                    return f"http://{address}"
            await asyncio.sleep(_POLL_S)
        where = f" (logs: {self._cluster.state / 'kubelet'})" if self._cluster.state is not None else ""
        raise ArenaFailed(f"the pods do not serve after {_READY_S:g} s: {missing}{where}")

    def _is_scaling(self) -> bool:
        path = f"/apis/autoscaling/v2/namespaces/{self._cluster.namespace}/horizontalpodautoscalers/{HPA}"
        status = part(self._cluster.api.get(path), "status")
        active = any(
            each["type"] == "ScalingActive" and each["status"] == "True" for each in parts(status, "conditions")
        )
        return active and bool(status.get("currentMetrics"))

    async def _remove(self) -> bool:
        """Delete what was applied, and wait until it is gone; return whether that was verified."""
        if self._applied is None:
            return True
        number, record = self._applied
        try:
            await asyncio.to_thread(partial(registry.undo, record, deadline_s=_REMOVAL_S))
            path = f"/api/v1/namespaces/{self._cluster.namespace}/pods?{PODS}"
            await _until(lambda: not self._cluster.api.get(path)["items"], self._pods_of.grace + _REMOVAL_S)
            if not await asyncio.to_thread(partial(registry.verify, record, deadline_s=_REMOVAL_S)):
                return False
            await asyncio.to_thread(self._undo.mark_done, number)
        except FaultError as error:
            self._progress(f"not everything of the run could be removed: {error}")
            return False
        self._applied = None
        return True

    def _order(self, **changes: str | None) -> None:
        """Tell the local cluster's kubelet, where there is one."""
        if self._cluster.state is not None and (self._cluster.state / "kubelet").is_dir():
            change_orders(self._cluster.state / "kubelet" / CONTROL, dict(changes))


async def _until(is_so: Callable[[], bool], seconds: float) -> None:
    """Wait until it is so, or for this long."""
    due_s = time.monotonic() + seconds
    for _ in iter(lambda: time.monotonic() < due_s, False):
        if await asyncio.to_thread(is_so):
            return
        await asyncio.sleep(_POLL_S)

"""
What happens in a run's namespace, into its journal: the HPA, what the controllers tell, and pods that no kubelet of
ours tells of. And whether the namespace still allows faults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from faults.kubernetes_api import KubernetesError
from faults.permission import NotAllowed, require_allowed
from seawall.arenas.cluster_manifests import APP, HPA
from seawall.arenas.cluster_target import ClusterTarget
from seawall.cluster.kubelet.manifest import part, parts
from seawall.journal.events import Hpa, Note, Pod
from seawall.journal.writer import EventWriter

__all__ = ["PODS", "Watch", "is_ready"]

PODS = f"labelSelector=app={APP}"
_EVERY_S = 0.2
_EVENTS_EVERY = 5

Object = dict[str, Any]


class Watch:
    """
    Looks several times a second until `stop`. A look that fails is told once, and the next one is made.

    Once the namespace's label is gone, which is looked at every second, `forbidden` is called with a sentence that
    says so. A cluster that cannot be asked has not said so.
    """

    def __init__(
        self,
        target: ClusterTarget,
        writer: EventWriter,
        *,
        scales: bool,
        forbidden: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._target = target
        self._writer = writer
        self._scales = scales
        self._forbidden = forbidden
        self._is_forbidden = False
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._hpa: Hpa | None = None
        self._ready: dict[str, tuple[str, str, bool]] = {}
        self._told: dict[str, int] = {}
        self._problem: str | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="watch the cluster")

    async def stop(self) -> None:
        """Look a last time, and end. Idempotent."""
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def _run(self) -> None:
        looks = 0
        while True:
            last = self._stopping.is_set()
            try:
                await asyncio.to_thread(self._look, looks % _EVENTS_EVERY == 0 or last)
                if looks % _EVENTS_EVERY == 0 and not last and not self._is_forbidden:
                    await asyncio.to_thread(require_allowed, self._target.api, self._target.namespace)
                self._problem = None
            except NotAllowed as error:
                self._is_forbidden = True
                self._writer.write(Note(text=str(error), level="warning"))
                self._forbidden(str(error))
            except KubernetesError as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    self._writer.write(Note(text=f"the cluster could not be looked at: {error}", level="warning"))
            if last:
                return
            looks += 1
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def _look(self, events_too: bool) -> None:
        api, namespace = self._target.api, self._target.namespace
        if self._scales:
            found = api.find(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{HPA}")
            seen = None if found is None else _seen(found)
            if seen is not None and seen != self._hpa:
                self._hpa = seen
                self._writer.write(seen)
        if self._target.state is None:
            self._pods(api.get(f"/api/v1/namespaces/{namespace}/pods?{PODS}")["items"])
        if events_too:
            self._events(api.get(f"/api/v1/namespaces/{namespace}/events")["items"])

    def _pods(self, pods: list[Object]) -> None:
        now = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid, pod in now.items():
            name, node = pod["metadata"]["name"], str(pod["spec"].get("nodeName") or "")
            before, ready = self._ready.get(uid), is_ready(pod)
            self._ready[uid] = (name, node, ready)
            if before is None and not ready:
                self._pod(uid, "start")
            elif ready is not (before is not None and before[2]):
                self._pod(uid, "ready" if ready else "unready")
        for uid in self._ready.keys() - now.keys():
            self._pod(uid, "gone")
            del self._ready[uid]

    def _pod(self, uid: str, action: Any) -> None:
        name, node, _ = self._ready[uid]
        self._writer.write(Pod(namespace=self._target.namespace, name=name, uid=uid, action=action, node=node))

    def _events(self, events: list[Object]) -> None:
        for each in events:
            uid, count = each["metadata"]["uid"], int(each.get("count") or 1)
            about = part(each, "involvedObject")
            is_told = about.get("kind") == "HorizontalPodAutoscaler" or each.get("type") == "Warning"
            if not is_told or self._told.get(uid) == count:
                continue
            self._told[uid] = count
            text = f"{about.get('kind')} {about.get('name')}: {each.get('reason')}: {each.get('message')}"
            self._writer.write(Note(text=text))


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and stays."""
    conditions = {each["type"]: each["status"] for each in parts(part(pod, "status"), "conditions")}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _seen(found: Object) -> Hpa | None:
    spec, status = part(found, "spec"), part(found, "status")
    if "currentReplicas" not in status:
        return None
    current = [part(part(each, "resource"), "current") for each in parts(status, "currentMetrics")]
    target = part(part(parts(spec, "metrics")[0], "resource"), "target").get("averageUtilization")
    bad = [
        f"{each['reason']}: {each['message']}"
        for each in parts(status, "conditions")
        if each["type"] in ("AbleToScale", "ScalingActive") and each["status"] == "False"
    ]
    return Hpa(
        namespace=found["metadata"]["namespace"],
        name=found["metadata"]["name"],
        current=status["currentReplicas"],
        desired=status.get("desiredReplicas", 0),
        utilization=next((each["averageUtilization"] for each in current if "averageUtilization" in each), None),
        min_replicas=spec.get("minReplicas", 1),
        max_replicas=spec["maxReplicas"],
        target_utilization=target,
        stabilization_s=part(part(spec, "behavior"), "scaleDown").get("stabilizationWindowSeconds"),
        detail="; ".join(bad) or None,
    )

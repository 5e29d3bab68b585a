"""
Pods in a simulation: as many gateway processes as the HPA's model wants, killed by what Chaos Mesh would kill.

    requests ─▶ CPU of their pods ─▶ metrics, as their server would tell ─▶ seawall.hpa.sync ─▶ pods come and go

The model of the autoscaler is checked against the real controller; what is simple here is the rest. A request takes
its CPU time at its arrival, a pod starts for a fixed time with one core in use, and a pod that is not ready, or is
going, gets no request from the very moment on.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from faults.chaos_mesh import ChaosMeshFault
from faults.kubernetes_api import KubernetesApi
from seawall.arenas.injector import PlannedFault
from seawall.draws import unit
from seawall.hpa import ControllerOptions, HpaSpec, Memory, PodView, sync
from seawall.hpa.model import Decision
from seawall.journal.events import Hpa, JournalEvent, MetricsAnswer, Pod, PodUsage
from seawall.scenario.cluster import ClusterSpec, HpaWords
from seawall.scenario.model import FaultSpec
from seawall.simulation.faults import Deed, SimFault
from seawall.simulation.loop import VirtualLoop
from seawall.simulation.workers import SimWorker

__all__ = ["Pods", "SimPod", "chosen"]

OPTIONS = ControllerOptions(sync_period_s=2.0, downscale_stabilization_s=10.0)
"""Of the local cluster's controller."""
WINDOW_S = 4.0
_BEFORE_S = 60.0
"""The first pods have been there for so long."""
_FORCED_GRACE_S = 2.0
_STARTING_MILLI = 1000
_NAMESPACE, _NODE, _HPA = "default", "simulated", "backend-scaler"
_LABELS = {"app": "backend"}
_NOWHERE = KubernetesApi(kubeconfig="", context="simulated")
_Action = Literal["start", "ready", "stop", "exit", "gone"]


class SimPod:
    """One pod: its worker, since when it is there and ready, and when its CPU was in use."""

    def __init__(self, worker: SimWorker, started_s: float) -> None:
        self.worker = worker
        self.name = worker.name
        self.started_s = started_s
        self.ready_s: float | None = None
        self.is_ending = False
        self._used: deque[tuple[float, float]] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether it serves, and stays."""
        return self.ready_s is not None and not self.is_ending

    def charge(self, at_s: float, cpu_s: float) -> None:
        """Note CPU time that a request took."""
        self._used.append((at_s, cpu_s))

    def usage_milli(self, now_s: float) -> int:
        """Return what it used on average over the window that ends now, in thousandths of a core."""
        since_s = now_s - WINDOW_S
        while self._used and self._used[0][0] <= since_s:
            self._used.popleft()
        starting_s = min(now_s, self.ready_s if self.ready_s is not None else now_s) - max(since_s, self.started_s)
        busy_s = sum(cpu_s for _, cpu_s in self._used) + max(0.0, starting_s) * _STARTING_MILLI / 1000
        return math.ceil(busy_s / WINDOW_S * 1000 - 1e-9)


class Pods:
    """
    The Deployment `backend` and its HPA. `workers` is the arena's list of who may get requests; `make` makes one.

    `tell` takes the events, `wall` gives the time of day.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        seed: int,
        loop: VirtualLoop,
        workers: list[SimWorker],
        make: Callable[[str], SimWorker],
        tell: Callable[[JournalEvent], None],
        wall: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.outage: str | None = None
        self.pods: dict[str, SimPod] = {}
        self.replicas = max(spec.replicas, spec.hpa.min_replicas if spec.hpa is not None else 1)
        self._seed = seed
        self._loop = loop
        self._workers = workers
        self._make = make
        self._tell = tell
        self._wall = wall
        self._numbers = itertools.count(1)
        self._kills = itertools.count()
        self._memory = Memory()
        self._hpa = None if spec.hpa is None else _model_of(spec.hpa)
        for _ in range(self.replicas):
            self._add(loop.time() - _BEFORE_S)

    def start(self) -> None:
        """Have the first pods ready, and begin to scale. What follows runs in tasks of the arena's loop."""
        for pod in self.pods.values():
            self._serve(pod, ready_s=self._loop.time() - _BEFORE_S / 2)
        if self._hpa is not None:
            self._scaling = asyncio.create_task(self._scale())

    def stop(self) -> None:
        """Scale no more."""
        if self._hpa is not None:
            self._scaling.cancel()

    def charge(self, worker: SimWorker) -> None:
        """Note that a request went to this worker's pod."""
        self.pods[worker.name].charge(self._loop.time(), self.spec.cpu_per_request)

    def kill(self, spec: dict[str, Any]) -> list[str]:
        """Kill the pods that a PodChaos selects, and return their names."""
        ready = [pod for pod in self.pods.values() if not pod.is_ending]
        picked = chosen(spec, [pod.name for pod in ready], unit(self._seed, "pod-kill", next(self._kills)))
        at_once = self.spec.forced_deletion == "at-once" and not spec.get("gracePeriod")
        grace_s = 0.0 if at_once else max(_FORCED_GRACE_S, float(spec.get("gracePeriod") or 0))
        for name in picked:
            self._end(self.pods[name], grace_s, told_s=float(spec.get("gracePeriod") or 0))
        self._settle()
        return picked

    def fault(self, spec: FaultSpec, start_s: float) -> PlannedFault:
        """Return a fault at the pods, or at their metrics."""
        if spec.chaos_mesh is not None:
            harm = spec.chaos_mesh.spec
            words = ChaosMeshFault(
                id=spec.id, target=spec.target, api=_NOWHERE, namespace=_NAMESPACE, run="", kind="PodChaos", spec=harm
            ).describe()
            prover = _KillProver()
            deed = Deed(do=lambda: prover.note(self.kill(harm)), undo=prover.forget, is_gone=lambda: True)
        else:
            words, prover = f"metrics outage ({spec.metrics_outage})", _OutageProver(self)
            deed = Deed(
                do=lambda: self._lose(spec.metrics_outage), undo=lambda: self._lose(None), is_gone=self._is_told
            )
        fault = SimFault(id=spec.id, target=spec.target, described=words, deed=deed)
        return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)

    def _lose(self, outage: str | None) -> None:
        self.outage = outage

    def _is_told(self) -> bool:
        return self.outage is None

    # Coming and going.

    def _add(self, started_s: float) -> SimPod:
        pod = SimPod(self._make(f"backend-{next(self._numbers):03}"), started_s)
        self.pods[pod.name] = pod
        self._workers.append(pod.worker)
        return pod

    def _serve(self, pod: SimPod, ready_s: float | None = None) -> None:
        if pod.is_ending:
            return
        pod.ready_s = self._loop.time() if ready_s is None else ready_s
        pod.worker.start()
        self._pod(pod, "start", pid=pod.worker.pid)
        self._pod(pod, "ready")

    def _end(self, pod: SimPod, grace_s: float, *, told_s: float) -> None:
        """Have it end as the kubelet does: in order within its grace, and by SIGKILL then."""
        pod.is_ending = True
        self._pod(pod, "stop", grace_s=told_s)
        if pod.worker.is_dead:  # it had not begun
            self._gone(pod)
        elif grace_s == 0.0:
            self._killed(pod)
        else:
            pid = pod.worker.pid
            pod.worker.terminate(lambda: self._ended(pod, pid, 0))
            self._loop.call_later(grace_s, self._killed, pod, context=pod.worker.network.context)

    def _killed(self, pod: SimPod) -> None:
        if not pod.worker.is_dead:
            pid = pod.worker.pid
            pod.worker.kill()
            self._ended(pod, pid, -9)

    def _ended(self, pod: SimPod, pid: int, code: int) -> None:
        self._pod(pod, "exit", pid=pid, code=code)
        self._gone(pod)

    def _gone(self, pod: SimPod) -> None:
        self._pod(pod, "gone")
        self.pods.pop(pod.name, None)
        if pod.worker in self._workers:
            self._workers.remove(pod.worker)

    def _settle(self) -> None:
        """Make as many as are wanted, or let the youngest go, those that are not ready before all others."""
        there = [pod for pod in self.pods.values() if not pod.is_ending]
        for _ in range(self.replicas - len(there)):
            pod = self._add(self._loop.time())
            self._loop.call_later(self.spec.pod_start, self._serve, pod, context=pod.worker.network.context)
        there.sort(key=lambda pod: (pod.is_ready, -pod.started_s, pod.name))
        for pod in there[: max(0, len(there) - self.replicas)]:
            self._end(pod, self.spec.grace - self.spec.pre_stop, told_s=self.spec.grace)

    # Scaling.

    async def _scale(self) -> None:
        assert self._hpa is not None  # noqa: S101 - who has none does not scale
        while True:
            now_s = self._loop.time()
            views = self._measured(now_s)
            decision = sync(self._hpa, OPTIONS, self._memory, self.replicas, views, now_s)
            self._memory = decision.memory
            self._tell(_state(self._hpa, self.replicas, decision))
            if decision.desired != self.replicas:
                self.replicas = decision.desired
                self._settle()
            await asyncio.sleep(OPTIONS.sync_period_s)

    def _measured(self, now_s: float) -> list[PodView] | None:
        """Ask for metrics: what the server tells is journalled, and the controller goes by that."""
        here = [pod for pod in self.pods.values() if not pod.is_ending]
        usages = [] if self.outage is not None else [(pod, pod.usage_milli(now_s)) for pod in here]
        answer = MetricsAnswer(
            asked_by="system:kube-controller-manager",
            path=f"/apis/metrics.k8s.io/v1beta1/namespaces/{_NAMESPACE}/pods",
            selector="app=backend",
            status=503 if self.outage == "unavailable" else 200,
        )
        answer.pods = [_told(pod.name, milli, self._wall()) for pod, milli in usages]
        self._tell(answer)
        if not usages:
            return None
        return [_view(pod, milli, self.spec.cpu_request_milli, now_s) for pod, milli in usages]

    def _pod(
        self,
        pod: SimPod,
        action: _Action,
        *,
        pid: int | None = None,
        code: int | None = None,
        grace_s: float | None = None,
    ) -> None:
        self._tell(
            Pod(
                namespace=_NAMESPACE,
                name=pod.name,
                uid=pod.name,
                action=action,
                node=_NODE,
                pid=pid,
                code=code,
                grace_s=grace_s,
            )
        )


def chosen(spec: dict[str, Any], names: list[str], draw: float) -> list[str]:
    """Return which of the pods a PodChaos takes, by its mode; `draw` (0 to 1) decides among equals."""
    labels: dict[str, str] = spec.get("selector", {}).get("labelSelectors") or {}
    if any(_LABELS.get(key) != value for key, value in labels.items()) or not names:
        return []
    mode, value = spec.get("mode", "one"), str(spec.get("value", "1"))
    counts = {"one": 1, "all": len(names)}
    if mode == "fixed":
        counts["fixed"] = int(value)
    elif mode in ("fixed-percent", "random-max-percent"):
        share = int(value) / 100 * (draw if mode == "random-max-percent" else 1.0)
        counts[mode] = math.floor(len(names) * share)
    first = math.floor(draw * len(names))
    turned = names[first:] + names[:first]
    return turned[: counts.get(mode, 1)]


class _KillProver:
    """Has what was killed."""

    by_behaviour = False
    unprovable: str | None = None

    def __init__(self) -> None:
        self._killed: list[str] = []

    def note(self, killed: list[str]) -> None:
        """Keep what was killed."""
        self._killed = killed

    def forget(self) -> None:
        """Let go of the object."""

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        pods = [f"{_NAMESPACE}/{name}" for name in self._killed]
        return {"criterion": "Selected and AllInjected", "pods": pods} if pods else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return {"criterion": "the object is gone"}


class _OutageProver:
    """Asks for metrics."""

    by_behaviour = False
    unprovable: str | None = None

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        return {"criterion": self._pods.outage} if self._pods.outage is not None else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return {"criterion": "metrics are told"} if self._pods.outage is None else None


def _model_of(words: HpaWords) -> HpaSpec:
    target = {"type": "Utilization", "averageUtilization": words.target_percent}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    spec = {"minReplicas": words.min_replicas, "maxReplicas": words.max_replicas, "metrics": metrics}
    return HpaSpec.from_manifest({"spec": {**spec, "behavior": words.behavior}})


def _state(spec: HpaSpec, current: int, decision: Decision) -> Hpa:
    window_s = spec.behavior.scale_down.stabilization_window_s if spec.behavior is not None else None
    return Hpa(
        namespace=_NAMESPACE,
        name=_HPA,
        current=current,
        desired=decision.desired,
        utilization=decision.utilization,
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        target_utilization=spec.target_utilization,
        stabilization_s=OPTIONS.downscale_stabilization_s if window_s is None else window_s,
        detail=decision.held,
    )


def _told(name: str, milli: int, wall_s: float) -> PodUsage:
    memory = 64 * 1024 * 1024
    return PodUsage(
        namespace=_NAMESPACE,
        name=name,
        cpu_milli=milli,
        memory_bytes=memory,
        end_wall_s=round(wall_s, 6),
        window_s=WINDOW_S,
    )


def _view(pod: SimPod, milli: int, request_milli: int, now_s: float) -> PodView:
    return PodView(
        name=pod.name,
        request_milli=request_milli,
        usage_milli=milli,
        sampled_at_s=now_s,
        window_s=WINDOW_S,
        started_at_s=pod.started_s,
        ready=pod.is_ready,
        ready_changed_at_s=pod.ready_s if pod.ready_s is not None else pod.started_s,
    )

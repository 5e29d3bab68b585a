"""
The kubelet: takes the pods that are bound to its nodes and sees each through, with all that they need around them.

    API server ──watch──▶ Kubelet ──▶ one Worker a pod ──▶ containers (processes, or a script)
                             ├──▶ Nodes: leases and conditions
                             ├──▶ MetricsServer: what the pods use
                             └──▶ LoadBalancer: nginx before the Services
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator
from typing import Any

from seawall.cluster.access import Access
from seawall.cluster.client import ApiError, wait_until
from seawall.cluster.kubelet.addresses import Addresses
from seawall.cluster.kubelet.api import Api, Informer
from seawall.cluster.kubelet.control import Control
from seawall.cluster.kubelet.load_balancer import LoadBalancer
from seawall.cluster.kubelet.manifest import Object, part, parts
from seawall.cluster.kubelet.metrics_server import MetricsServer
from seawall.cluster.kubelet.node import Nodes
from seawall.cluster.kubelet.options import Options
from seawall.cluster.kubelet.pod import ProcessPod, Worker
from seawall.cluster.kubelet.recorder import Journal, Recorder, timestamp
from seawall.cluster.kubelet.runtime import Runtime, pod_name
from seawall.cluster.kubelet.scripted import ScriptedPod, script_of
from seawall.cluster.objects import metrics_api
from seawall.processes import Processes

__all__ = ["Kubelet", "running"]

_PODS = "/api/v1/pods"
_SAMPLE_S = 0.25
_STOP_LIMIT_S = 5.0
_METRICS_LIMIT_S = 20.0


class Kubelet:
    """One kubelet. Made by `running`."""

    def __init__(self, runtime: Runtime, access: Access, addresses: Addresses) -> None:
        self.metrics_port = 0
        self.ended = asyncio.Event()
        """Set when it has stopped working; the block of `running` raises why."""
        self._runtime = runtime
        self._access = access
        self._addresses = addresses
        self._options = runtime.options
        self._nodes = Nodes(runtime.api, runtime.options)
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._control = runtime.control
        self._informer = Informer(runtime.api, _PODS, changed=self._changed, gone=self._gone)
        self._balancer: LoadBalancer | None = None
        if self._options.load_balancer:
            folder = self._options.folder / "nginx"
            self._balancer = LoadBalancer(
                runtime.api, self._informer.objects, folder, runtime.processes, runtime.journal
            )
        self._metrics = MetricsServer(
            access, self._workers.values, self._options.node_names, self._control, runtime.journal
        )

    async def serve(self, started: asyncio.Event) -> None:
        """Work until cancelled; `started` is set when pods are taken and metrics are served. Raises SeawallError."""
        self._runtime.journal.follow(self._control.orders().events)
        await self._disown()
        await self._nodes.register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runtime.recorder.run())
            group.create_task(self._nodes.run())
            group.create_task(self._informer.run())
            group.create_task(self._sample())
            group.create_task(self._reconcile())
            await self._informer.listed.wait()
            if self._balancer is not None:
                group.create_task(self._balancer.run())
            if self._options.metrics:
                await self._serve_metrics()
            started.set()

    async def stop(self) -> None:
        """End every pod's processes, as the end of the machine would: the API server is told that none is ready."""
        await self._metrics.stop()
        with contextlib.suppress(TimeoutError, ApiError):
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._nodes.retire()
                await self._disown()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _disown(self) -> None:
        """
        Say of every pod of our nodes that it is not ready.

        What ran for it under a kubelet before us ended with that one; who still sends there, sends to nobody.
        """
        said = await self._runtime.api.get(_PODS)
        now = timestamp()
        unready = [
            {"type": kind, "status": "False", "reason": "KubeletRestarted", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        for pod in said["items"]:
            conditions = parts(part(pod, "status"), "conditions")
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            if self._is_ours(pod) and ready:
                path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
                with contextlib.suppress(ApiError):
                    await self._runtime.api.patch(path, {"status": {"conditions": unready}})

    async def _serve_metrics(self) -> None:
        await self._metrics.start()
        self.metrics_port = self._metrics.port
        api = self._runtime.api
        await api.apply(metrics_api(self.metrics_port, self._access.ca_path.read_bytes()))

        async def available() -> bool:
            said: dict[str, Any] = await api.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io")
            conditions = said.get("status", {}).get("conditions", [])
            return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)

        await wait_until(available, what="the metrics API", deadline_s=_METRICS_LIMIT_S)

    def _is_ours(self, pod: Object) -> bool:
        return pod["spec"].get("nodeName") in self._options.node_names

    def _changed(self, pod: Object) -> None:
        if self._balancer is not None:
            self._balancer.changed()
        if not self._is_ours(pod):
            return
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is None:
            if _is_over(pod):
                return
            worker = self._workers[uid] = self._taken(pod)
            self._tasks[uid] = asyncio.create_task(worker.run(), name=f"pod {pod_name(pod)}")
            self._tasks[uid].add_done_callback(lambda _task: self._done(uid))
        worker.update(pod)

    def _gone(self, pod: Object) -> None:
        if self._balancer is not None:
            self._balancer.changed()
        worker = self._workers.get(pod["metadata"]["uid"])
        if worker is not None:
            worker.vanish()

    def _taken(self, pod: Object) -> Worker:
        address = self._addresses.next()
        try:
            script = script_of(pod)
        except ValueError as error:
            # It has no command that would be allowed, so that it is refused as a pod of processes; this says why.
            node = str(pod["spec"]["nodeName"])
            self._runtime.recorder.tell(pod, node, "Failed", f"Error: {error}", warning=True)
            script = None
        if script is not None:
            return ScriptedPod(pod, address, self._runtime, script)
        return ProcessPod(pod, address, self._runtime)

    def _done(self, uid: str) -> None:
        task = self._tasks.pop(uid)
        self._workers.pop(uid)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours must not be a silent one: without its worker the pod would hang for ever.
            context = {"message": f"{task.get_name()} was dropped", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _reconcile(self) -> None:
        """Compare with a fresh list now and then: a watch that says nothing more is not noticed otherwise."""
        while True:
            await asyncio.sleep(self._options.reconcile_s)
            with contextlib.suppress(ApiError):
                await self._informer.list()
            for uid, pod in list(self._informer.objects.items()):
                if uid not in self._workers:
                    self._changed(pod)

    async def _sample(self) -> None:
        """Measure what the pods use, and look for new orders."""
        while True:
            for worker in self._workers.values():
                worker.sample()
            self._runtime.journal.follow(self._control.orders().events)
            await asyncio.sleep(_SAMPLE_S)


@contextlib.asynccontextmanager
async def running(options: Options) -> AsyncGenerator[Kubelet]:
    """
    Run a kubelet in this event loop for as long as the block lasts.

    Raises SeawallError or OSError when it cannot begin, and from the block's end what ended it meanwhile.
    """
    access = Access.load(options.state)
    for name in ("pods", "logs"):
        # Volumes of pods that a kubelet before us had are made again.
        if name == "pods":
            shutil.rmtree(options.folder / name, ignore_errors=True)
        (options.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = Journal()
    async with Api(access) as api, Processes() as processes:
        with Addresses(options.folder) as addresses, contextlib.closing(journal):
            runtime = Runtime(
                api=api,
                options=options,
                processes=processes,
                recorder=Recorder(api),
                journal=journal,
                control=Control(options.folder),
            )
            kubelet = Kubelet(runtime, access, addresses)
            started = asyncio.Event()
            serving = asyncio.create_task(kubelet.serve(started))
            serving.add_done_callback(lambda _task: kubelet.ended.set())
            try:
                begun = asyncio.ensure_future(started.wait())
                await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
                begun.cancel()
                if serving.done():
                    await serving
                yield kubelet
            finally:
                failed = serving.done()
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await kubelet.stop()
            if failed:
                await serving


def _is_over(pod: Object) -> bool:
    """Whether it has run to its end and only its record is left."""
    phase = part(pod, "status").get("phase")
    return phase in {"Succeeded", "Failed"} and not pod["metadata"].get("deletionTimestamp")

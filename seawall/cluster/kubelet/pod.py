"""
A pod in the hands of its kubelet: its life from being bound to a node to being gone from the API server.

    bound ──▶ Pending ──▶ Running ──▶ (Succeeded, Failed)
                └───────────┴── deletionTimestamp ──▶ ends ──▶ last status ──▶ DELETE with grace 0 ──▶ gone
"""

from __future__ import annotations

import abc
import asyncio
import shutil
import time
from collections.abc import Sequence
from typing import Any, Literal

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.addresses import ADDRESS, PodAddress
from seawall.cluster.kubelet.container import Container
from seawall.cluster.kubelet.manifest import Object, part, parts
from seawall.cluster.kubelet.recorder import timestamp
from seawall.cluster.kubelet.runtime import HOST_IP, Runtime, pod_name
from seawall.cluster.kubelet.status import ContainerView, pod_status
from seawall.cluster.kubelet.usage import Usage
from seawall.journal.events import Pod as PodEvent

__all__ = ["ProcessPod", "Worker"]

_RETRY_S = 0.2
_DELETED = (404, 409)


class Worker(abc.ABC):
    """
    One pod. `run` is its whole life; `update` and `vanish` are told what the API server says meanwhile.

    What it is made of, processes or a script, is its subclass's: `views`, `live`, `end` and `usages`.
    """

    def __init__(self, pod: Object, address: PodAddress, runtime: Runtime) -> None:
        self.pod = pod
        self.address = address
        self.runtime = runtime
        self.former: Object = part(pod, "status")
        """The status that the pod had when this kubelet first saw it."""
        self._ending = asyncio.Event()
        self._limit_s = float("inf")
        self._vanished = False
        self._over = False
        self._dirty = asyncio.Event()
        self._sent: dict[str, Any] = {}
        self._conditions: Sequence[dict[str, Any]] = parts(self.former, "conditions")
        self._started_at = str(self.former.get("startTime") or timestamp())
        self._was_ready = False
        self._hurry: asyncio.Task[None] | None = None
        # A pod keeps the address it is known by; where it really listens may change with its kubelet.
        self._identity = str(self.former.get("podIP") or address.identity)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return pod_name(self.pod)

    @property
    def is_ending(self) -> bool:
        """Whether its deletion has begun."""
        return self._ending.is_set()

    @abc.abstractmethod
    def views(self) -> tuple[list[ContainerView], list[ContainerView]]:
        """Return its containers and its init containers as they are now."""

    @abc.abstractmethod
    async def live(self) -> None:
        """Run what it is made of."""

    @abc.abstractmethod
    async def end(self, grace_s: float) -> None:
        """End what it is made of within the grace; called again with less when its deletion is hurried."""

    @abc.abstractmethod
    def usages(self) -> dict[str, Usage]:
        """Return what each of its containers uses; empty while that is not known of all that run."""

    def sample(self) -> None:  # noqa: B027 - a script has nothing to be sampled
        """Take a sample of its use."""

    def changed(self) -> None:
        """Have its status reported."""
        self._dirty.set()

    def update(self, pod: Object) -> None:
        """Take what the API server says of it now; its deletion begins its end, or hurries it."""
        self.pod = pod
        if not pod["metadata"].get("deletionTimestamp"):
            return
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        self._begin_end(float(pod["spec"].get("terminationGracePeriodSeconds") or 0) if grace is None else float(grace))

    def vanish(self) -> None:
        """Take notice that the API server has it no more."""
        self._vanished = True
        self._begin_end(0.0)

    async def run(self) -> None:
        """See it through: returns when nothing of it runs and the API server has forgotten it."""
        reporting = asyncio.create_task(self._report(), name=f"report {self.key}")
        living = asyncio.create_task(self.live(), name=f"live {self.key}")
        self.changed()
        try:
            await self._ending.wait()
            await self._end(living)
            self._over = True
            self.changed()
            await reporting
            await self._forget()
        finally:
            for task in (reporting, living):
                task.cancel()
            await asyncio.gather(reporting, living, return_exceptions=True)
            shutil.rmtree(self.runtime.pod_folder(self.pod), ignore_errors=True)
        self.journal("gone")

    def journal(self, action: Literal["ready", "unready", "stop", "gone"], *, grace_s: float | None = None) -> None:
        """Tell the run's journal."""
        metadata = self.pod["metadata"]
        self.runtime.journal.write(
            PodEvent(
                namespace=metadata["namespace"],
                name=metadata["name"],
                uid=metadata["uid"],
                action=action,
                node=self.pod["spec"]["nodeName"],
                address=self.address.real,
                grace_s=grace_s,
            )
        )

    def _begin_end(self, grace_s: float) -> None:
        limit = time.monotonic() + grace_s
        if limit >= self._limit_s - 0.5:  # the same deletion, told again
            return
        first, self._limit_s = not self._ending.is_set(), limit
        self._ending.set()
        if first:
            self.journal("stop", grace_s=grace_s)
        else:
            self._hurry = asyncio.create_task(self.end(grace_s), name=f"hurry {self.key}")

    async def _end(self, living: asyncio.Task[None]) -> None:
        await self.end(max(0.0, self._limit_s - time.monotonic()))
        await asyncio.gather(living, return_exceptions=True)

    async def _report(self) -> None:
        """Send the status whenever it has changed, until the pod is over or the API server has it no more."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            over = self._over
            if self._vanished:
                return
            patch = self._patch()
            if patch != self._sent:
                try:
                    await self.runtime.api.patch(f"{self._path}/status", patch)
                    self._sent = patch
                except ApiError as error:
                    if error.status_code in _DELETED:
                        return
                    self.changed()
                    await asyncio.sleep(_RETRY_S)
                    continue
            if over:
                return

    def _patch(self) -> dict[str, Any]:
        containers, init = self.views()
        status = pod_status(
            self.pod["spec"],
            containers=containers,
            init=init,
            address=self._identity,
            host_ip=HOST_IP,
            started_at=self._started_at,
            former=[*parts(part(self.pod, "status"), "conditions"), *self._conditions],
            now=timestamp(),
            ended=self._over,
        )
        self._conditions = status["conditions"]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in self._conditions)
        if ready is not self._was_ready:
            self._was_ready = ready
            self.journal("ready" if ready else "unready")
        # One write for both: whoever sees the pod ready sees where it listens.
        metadata = {"uid": self.pod["metadata"]["uid"], "annotations": {ADDRESS: self.address.real}}
        return {"metadata": metadata, "status": status}

    async def _forget(self) -> None:
        """Let the API server forget the pod, as nothing of it runs any more."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod["metadata"]["uid"]}}
        while not self._vanished:
            try:
                await self.runtime.api.remove(self._path, options)
            except ApiError as error:
                if error.status_code not in _DELETED:
                    await asyncio.sleep(_RETRY_S)
                    continue
            return

    @property
    def _path(self) -> str:
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


class ProcessPod(Worker):
    """A pod whose containers are processes."""

    def __init__(self, pod: Object, address: PodAddress, runtime: Runtime) -> None:
        super().__init__(pod, address, runtime)
        policy = str(pod["spec"].get("restartPolicy") or "Always")
        # An init container runs until it has done its work; where a failed one may not be tried again, all fails.
        self._init = self._made(
            "initContainers", "initContainerStatuses", "Never" if policy == "Never" else "OnFailure"
        )
        self._containers = self._made("containers", "containerStatuses", policy)

    def views(self) -> tuple[list[ContainerView], list[ContainerView]]:
        """See Worker."""
        return [each.view for each in self._containers], [each.view for each in self._init]

    async def live(self) -> None:
        """See Worker."""
        for container in self._init:
            if container.view.exit_code != 0:
                await container.run()
            if container.view.exit_code != 0:
                return
        await asyncio.gather(*(container.run() for container in self._containers))

    async def end(self, grace_s: float) -> None:
        """See Worker."""
        await asyncio.gather(*(container.end(grace_s) for container in (*self._init, *self._containers)))

    def usages(self) -> dict[str, Usage]:
        """See Worker."""
        found = {each.name: each.usage for each in self._containers if "running" in each.view.state}
        known = {name: usage for name, usage in found.items() if usage is not None}
        return known if len(known) == len(found) else {}

    def sample(self) -> None:
        """See Worker."""
        for container in self._containers:
            container.sample()

    def _made(self, kind: str, statuses: str, policy: str) -> list[Container]:
        former = {each["name"]: each for each in parts(self.former, statuses)}
        return [
            Container(
                spec,
                lambda: self.pod,
                self.address,
                self.runtime,
                policy=policy,
                changed=self.changed,
                former=former.get(spec["name"]),
            )
            for spec in parts(self.pod["spec"], kind)
        ]

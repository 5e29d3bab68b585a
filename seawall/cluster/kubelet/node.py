"""The nodes that a kubelet stands for: registered, kept Ready, their leases renewed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import platform
from typing import Any

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.api import Api
from seawall.cluster.kubelet.options import Options
from seawall.cluster.kubelet.recorder import timestamp
from seawall.cluster.kubelet.runtime import HOST_IP
from seawall.version import version

__all__ = ["Nodes"]

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RENEW_S = 10.0
_LEASE_S = 40
_RETRY_S = 0.5


class Nodes:
    """All nodes of one kubelet."""

    def __init__(self, api: Api, options: Options) -> None:
        self._api = api
        self._options = options

    async def register(self) -> None:
        """Make each node, or take over the one of that name, and have it Ready. Raises ApiError."""
        for name in self._options.node_names:
            try:
                await self._api.create("/api/v1/nodes", _node(name))
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
            await self._renew(name, ready=True, turned=True)

    async def run(self) -> None:
        """Keep them Ready until cancelled."""
        while True:
            pause = _RENEW_S
            for name in self._options.node_names:
                try:
                    await self._renew(name, ready=True)
                except ApiError:
                    pause = _RETRY_S
            await asyncio.sleep(pause)

    async def retire(self) -> None:
        """Tell that nothing is to be bound to them any more; as well as it goes."""
        for name in self._options.node_names:
            with contextlib.suppress(ApiError):
                await self._renew(name, ready=False, turned=True)

    async def _renew(self, name: str, *, ready: bool, turned: bool = False) -> None:
        now = timestamp()
        conditions = [
            _condition("Ready", ready, "KubeletReady" if ready else "KubeletStopped", now),
            _condition("MemoryPressure", False, "KubeletHasSufficientMemory", now),
            _condition("DiskPressure", False, "KubeletHasNoDiskPressure", now),
            _condition("PIDPressure", False, "KubeletHasSufficientPID", now),
        ]
        if turned:  # in a merge patch the time stays as it is where nothing is said of it
            conditions = [{**each, "lastTransitionTime": now} for each in conditions]
        status: dict[str, Any] = {
            "capacity": self._options.allocatable,
            "allocatable": self._options.allocatable,
            "addresses": [{"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": name}],
            "nodeInfo": _info(),
            "conditions": conditions,
        }
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status})
        if ready:
            await self._lease(name)

    async def _lease(self, name: str) -> None:
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_S, "renewTime": moment}
        try:
            await self._api.patch(f"{_LEASES}/{name}", {"spec": spec}, kind="application/merge-patch+json")
        except ApiError as error:
            if error.status_code != 404:
                raise
            metadata = {"name": name, "namespace": "kube-node-lease"}
            await self._api.create(_LEASES, {"metadata": metadata, "spec": spec})


def _node(name: str) -> dict[str, Any]:
    info = _info()
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": info["operatingSystem"],
        "kubernetes.io/arch": info["architecture"],
        "seawall.dev/kubelet": "process",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _condition(kind: str, holds: bool, reason: str, now: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": reason,
        "lastHeartbeatTime": now,
    }


def _info() -> dict[str, str]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "architecture": machine,
        "operatingSystem": platform.system().lower(),
        "kernelVersion": platform.release(),
        "osImage": "processes of this machine",
        "containerRuntimeVersion": f"process://{version()}",
        "kubeletVersion": f"v1.35.4-seawall-{version()}",
        "kubeProxyVersion": "",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }

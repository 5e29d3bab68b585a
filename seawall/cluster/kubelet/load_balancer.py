"""
An nginx before each Service that asks for it, following the Service's EndpointSlices.

    metadata.annotations:
      seawall.dev/load-balancer: http                       # asks for it
      seawall.dev/load-balancer-address: 127.0.0.1:43117    # written by us when it is served

slice → targetRef → the pod's annotation: ready endpoints only, and where they really listen. A Service with several
ports has an address for each (`http=127.0.0.1:43117,admin=127.0.0.1:43118`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.addresses import ADDRESS
from seawall.cluster.kubelet.api import Api, Informer
from seawall.cluster.kubelet.manifest import Object, annotation, part, parts
from seawall.cluster.kubelet.nginx_config import Frontend, RenderFailed, render
from seawall.cluster.kubelet.recorder import Journal
from seawall.cluster.kubelet.runtime import pod_name
from seawall.journal.events import Note
from seawall.journal.events import Process as ProcessEvent
from seawall.ports import HeldPort
from seawall.processes import Child, Processes, ProcessFailed
from seawall.toolchain import resolve

__all__ = ["SERVED_AT", "SERVE_ME", "LoadBalancer", "backends_of"]

SERVE_ME = "seawall.dev/load-balancer"
"""The annotation of a Service that is to be served; its value is `http`."""
SERVED_AT = "seawall.dev/load-balancer-address"
"""The annotation that says where it is served."""

_NAME = "nginx"
_SERVICE = "kubernetes.io/service-name"
_DEBOUNCE_S = 0.005
_RETRY_S = 0.5
_READY_S = 10.0


class LoadBalancer:
    """
    Follows Services and slices and keeps nginx with them. `pods` are those of the cluster by uid.

    `run` is its whole life; `changed` is to be called when a pod has changed.
    """

    def __init__(
        self, api: Api, pods: Mapping[str, Object], folder: Path, processes: Processes, journal: Journal
    ) -> None:
        self._api = api
        self._pods = pods
        self._folder = folder
        self._processes = processes
        self._journal = journal
        self._services = self._informer("/api/v1/services")
        self._slices = self._informer("/apis/discovery.k8s.io/v1/endpointslices")
        self._dirty = asyncio.Event()
        # (Service's uid, port's name) → the port kept for it.
        self._ports: dict[tuple[str, str], HeldPort] = {}
        self._served: tuple[Frontend, ...] | None = None
        self._child: Child | None = None

    def changed(self) -> None:
        """Have the configuration compared with what it should be."""
        self._dirty.set()

    async def run(self) -> None:
        """Serve until cancelled. Raises ToolchainError when there is no nginx."""
        notes: list[str] = []
        found = await asyncio.to_thread(resolve, "nginx", progress=notes.append)
        for text in notes:
            self._journal.write(Note(text=text))
        assert found.path is not None  # noqa: S101 - there is no URL for it
        self._folder.mkdir(mode=0o700, exist_ok=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._services.run())
            group.create_task(self._slices.run())
            await self._services.listed.wait()
            await self._slices.listed.wait()
            self._configure()
            group.create_task(self._keep_up(found.path))
            group.create_task(self._follow())

    async def _keep_up(self, program: Path) -> None:
        """Start nginx, and again whenever it ends."""
        while True:
            (self._folder / "nginx.pid").unlink(missing_ok=True)
            argv = [str(program), "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", "stderr"]
            try:
                # The file is there when the signals are handled: before that, SIGHUP would end it.
                child = await self._processes.start(_NAME, argv, log=self._folder / "nginx.log", ready=self._has_pid)
            except ProcessFailed as error:
                self._journal.write(Note(text=str(error), level="error"))
                await asyncio.sleep(_RETRY_S)
                continue
            self._child = child
            self._tell(child, "start")
            self.changed()  # what changed while it was away
            code = await child.wait()
            self._child = None
            self._tell(child, "exit", code)

    async def _follow(self) -> None:
        """Compare and reload whenever something has changed."""
        while True:
            await self._dirty.wait()
            # Changes come in groups: one reload for those of the next few milliseconds.
            await asyncio.sleep(_DEBOUNCE_S)
            self._dirty.clear()
            if self._configure() and self._child is not None:
                self._child.send_signal(signal.SIGHUP)
            if self._child is not None:
                await self._publish()

    def _configure(self) -> bool:
        """Write the configuration where it has changed; tell whether it has. One that cannot be had changes nothing."""
        frontends = self._frontends()
        if frontends == self._served:
            return False
        try:
            text = render(frontends, self._folder, as_root=os.geteuid() == 0)
            new = self._folder / "nginx.conf.new"
            new.write_text(text, "utf-8")
            new.replace(self._folder / "nginx.conf")
        except (RenderFailed, OSError) as error:
            self._journal.write(Note(text=f"the load balancer stays as it is: {error}", level="error"))
            return False
        self._served = frontends
        return True

    def _frontends(self) -> tuple[Frontend, ...]:
        wanted = {
            (str(service["metadata"]["uid"]), str(port.get("name") or "")): (service, port)
            for service in self._services.objects.values()
            if annotation(service, SERVE_ME) == "http"
            for port in parts(service["spec"], "ports")
        }
        for key in self._ports.keys() - wanted.keys():
            self._ports.pop(key).release()
        found: list[Frontend] = []
        for key, (service, port) in wanted.items():
            if key not in self._ports:
                self._ports[key] = _held(service, key[1])
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{pod_name(service)}/{key[1] or port['port']}")
            slices = [each for each in self._slices.objects.values() if _is_of(each, service)]
            backends = backends_of(slices, key[1], self._pods)
            found.append(Frontend(name=name, port=self._ports[key].port, backends=backends))
        return tuple(sorted(found))

    async def _publish(self) -> None:
        """Write where each Service is served, once it is."""
        for uid, service in list(self._services.objects.items()):
            ports = {name: held.port for (owner, name), held in self._ports.items() if owner == uid}
            if not ports:
                continue
            said = _served_at(ports)
            if annotation(service, SERVED_AT) == said:
                continue
            if not all([await _accepts(port) for port in ports.values()]):
                self.changed()
                await asyncio.sleep(_DEBOUNCE_S)
                continue
            path = f"/api/v1/namespaces/{service['metadata']['namespace']}/services/{service['metadata']['name']}"
            with contextlib.suppress(ApiError):
                await self._api.patch(path, {"metadata": {"uid": uid, "annotations": {SERVED_AT: said}}})

    async def _has_pid(self, _child: Child) -> bool:
        return (self._folder / "nginx.pid").exists()

    def _informer(self, path: str) -> Informer:
        return Informer(self._api, path, changed=lambda _thing: self.changed(), gone=lambda _thing: self.changed())

    def _tell(self, child: Child, action: str, code: int | None = None) -> None:
        told = ProcessEvent(name=_NAME, action="exit" if action == "exit" else "start", pid=child.pid, code=code)
        self._journal.write(told)


def backends_of(slices: Iterable[Object], port: str, pods: Mapping[str, Object]) -> tuple[tuple[str, int], ...]:
    """
    Return where the ready endpoints of a Service's port listen, as (address, port).

    An endpoint whose pod is unknown, or tells no address, is passed over: it is just going, or not ours.
    """
    found: set[tuple[str, int]] = set()
    for each in slices:
        numbers = [int(one["port"]) for one in parts(each, "ports") if str(one.get("name") or "") == port]
        for endpoint in parts(each, "endpoints"):
            # No word of readiness is to be taken as ready, says the API.
            if part(endpoint, "conditions").get("ready") is False:
                continue
            pod = pods.get(str(part(endpoint, "targetRef").get("uid")))
            address = annotation(pod, ADDRESS) if pod is not None else None
            if address:
                found.update((str(address), number) for number in numbers)
    return tuple(sorted(found))


def _is_of(slice_: Object, service: Object) -> bool:
    metadata, owner = slice_["metadata"], service["metadata"]
    same = metadata["namespace"] == owner["namespace"]
    return same and part(metadata, "labels").get(_SERVICE) == owner["name"]


def _served_at(ports: Mapping[str, int]) -> str:
    if len(ports) == 1:
        return f"127.0.0.1:{next(iter(ports.values()))}"
    return ",".join(f"{name}=127.0.0.1:{port}" for name, port in sorted(ports.items()))


def _held(service: Object, name: str) -> HeldPort:
    """Return a port for it: the one that it had before, where that is free, so that its clients still find it."""
    said = str(annotation(service, SERVED_AT) or "")
    for entry in said.split(","):
        title, _, address = entry.rpartition("=")
        port = address.rpartition(":")[2]
        if title in {"", name} and port.isdecimal():
            with contextlib.suppress(OSError, OverflowError):
                return HeldPort(int(port))
    return HeldPort()


async def _accepts(port: int) -> bool:
    try:
        async with asyncio.timeout(_READY_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

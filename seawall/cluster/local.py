"""
A local cluster: the parts in their order, each ready before the next, and all of them gone at the end.

    etcd → kube-apiserver → controller manager and scheduler beside the Chaos Mesh kinds → chaos-controller-manager
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seawall.cluster import components, kubelet
from seawall.cluster.access import Access, write_kubeconfig
from seawall.cluster.certificates import CLIENTS, make_certificates
from seawall.cluster.client import Client, wait_until
from seawall.cluster.components import HpaTimings, Layout
from seawall.cluster.errors import ClusterError
from seawall.cluster.health import answers
from seawall.cluster.objects import base_objects, chaos_webhooks, metrics_api
from seawall.cluster.record import Record, lock_of, sweep
from seawall.processes import Child, OnEvent, Processes, ProcessFailed, Ready, free_port
from seawall.toolchain.controlplane import ControlPlane, find

__all__ = ["DEADLINE_S", "PARTS", "LocalCluster"]

PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "chaos-controller-manager")
"""The parts, in the order in which they are started; they are ended the other way round."""
DEADLINE_S = 120.0
"""How long the whole start may take, in seconds. Two free cores need six, two that eight others use thirty."""
_PORT_TRIES = 3
_TAKEN = ("address already in use",)
_CRDS_AT_ONCE = 6
# Without its clients kube-apiserver takes one second; with some that hold on, as long as it gets. Chaos Mesh's would
# wait half a minute for its queues, whose cluster is gone in a second.
_GRACE_S = {"kubelet": 15.0, "kube-apiserver": 10.0, "chaos-controller-manager": 1.0}
_PORTS = {"etcd": ("etcd", "etcd-peer"), "chaos-controller-manager": ("chaos-webhook", "chaos-metrics")}

Tell = Callable[[str], None]


class LocalCluster:
    """
    A cluster in the folder `state`, which is made with mode 0700 and removed at the end.

    With `kubelet`, its arguments (`("--nodes", "3")`), it has nodes too and runs pods as processes; see
    `seawall.cluster.kubelet`. Without, there is only the control plane.

    An async context manager; `start` and `stop` are the same by hand. `control_plane` is what was built (default: what
    the toolchain finds), `timings` those of the HPA. `tell` gets a line as each part is ready, `on_event` the life of
    the processes. With `keep`, the folder stays after `stop`, for its logs.

    `start` raises ClusterError: not built, the folder is in use, or a part did not come up, with the end of its log.
    """

    def __init__(
        self,
        state: Path,
        *,
        control_plane: ControlPlane | None = None,
        timings: HpaTimings | None = None,
        kubelet: Sequence[str] | None = None,
        keep: bool = False,
        tell: Tell = lambda _line: None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.state = state.absolute()
        self.seconds: float | None = None
        """How long the start took, in seconds; None before it is done."""
        self._control_plane = control_plane
        self._timings = timings or HpaTimings()
        self._kubelet = kubelet
        self._keep = keep
        self._tell = tell
        self._on_event = on_event
        self._processes = Processes(on_event=self._event)
        self._ports: dict[str, int] = {}
        self._record: Record | None = None
        self._lock = -1
        self._access: Access | None = None
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def access(self) -> Access:
        """The way in. Raises ClusterError before the API server runs."""
        if self._access is None:
            raise ClusterError("the cluster is not started")
        return self._access

    @property
    def client(self) -> Client:
        """A client of it, closed by `stop`. Raises ClusterError before the API server runs."""
        if self._client is None:
            raise ClusterError("the cluster is not started")
        return self._client

    @property
    def children(self) -> Mapping[str, Child]:
        """The processes of the parts by name."""
        return self._processes.children

    async def apply(self, objects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Apply objects and return them as the server sees them. Raises ApiError."""
        return await self.client.apply(objects)

    async def serve_metrics(self, port: int, *, deadline_s: float = 15.0) -> None:
        """
        Make the server on 127.0.0.1:`port` the cluster's `metrics.k8s.io` and wait until the API server takes it.

        It must serve with the certificate of `access`. Raises ClusterError at the deadline.
        """
        await self.apply(metrics_api(port, self.access.ca_path.read_bytes()))
        path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"

        async def available() -> bool:
            conditions = (await self.client.get(path)).get("status", {}).get("conditions", [])
            return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)

        await wait_until(available, what="the metrics API", deadline_s=deadline_s)

    async def start(self) -> None:
        """Start it and return when every part is ready. What was started is ended again when that fails."""
        began = time.monotonic()
        control_plane = self._control_plane or find()
        if control_plane is None:
            raise ClusterError("the control plane is not built; run `seawall cluster build` once (about 9 minutes)")
        self._lock = lock_of(self.state)
        if self._lock < 0:
            raise ClusterError(f"{self.state} is in use by another cluster; `seawall cluster status` shows it")
        try:
            sweep(self.state)
            layout = self._prepare(control_plane)
            async with asyncio.timeout(DEADLINE_S):
                await self._start_parts(layout, control_plane)
                if self._kubelet is not None:
                    await self._start_kubelet(self._kubelet)
        except BaseException as error:
            await self.stop(keep=True)
            if isinstance(error, ProcessFailed):
                raise ClusterError(str(error)) from error
            if isinstance(error, TimeoutError):
                raise ClusterError(
                    f"the cluster was not up after {DEADLINE_S:g} s; logs are in {self.state}"
                ) from error
            raise
        self.seconds = time.monotonic() - began
        if self._record is not None:
            self._record.ready(self.seconds)

    async def stop(self, *, keep: bool | None = None) -> None:
        """End every part, clients before servers, and remove the folder. Idempotent."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        for group in (("kubelet",), PARTS[2:], PARTS[1:2], PARTS[:1]):
            running = [self.children[name] for name in group if name in self.children]
            await asyncio.gather(*(child.stop(_GRACE_S.get(child.name, 5.0)) for child in running))
        await self._processes.stop_all()
        self._access = None
        if self._lock >= 0:
            if not (self._keep if keep is None else keep):
                shutil.rmtree(self.state, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def _prepare(self, control_plane: ControlPlane) -> Layout:
        """Make the folder with keys, token and the record of the processes."""
        self.state.mkdir(mode=0o700, parents=True)
        (self.state / "logs").mkdir()
        (self.state / "etcd").mkdir(mode=0o700)
        self._record = Record.begin(self.state)
        pki = self.state / "pki"
        make_certificates(pki)
        # chaos-controller-manager wants its files by these names.
        (pki / "webhook").mkdir(mode=0o700)
        for suffix in ("crt", "key"):
            (pki / "webhook" / f"tls.{suffix}").symlink_to(pki / f"serving.{suffix}")
        token = secrets.token_urlsafe(32)
        _write_secret(self.state / "token", token)
        _write_secret(pki / "tokens.csv", f'{token},seawall-admin,seawall-admin,"system:masters"\n')
        return Layout(
            state=self.state,
            program=control_plane.program,
            chaos_program=control_plane.chaos_program,
            ports=self._ports,
        )

    async def _start_parts(self, layout: Layout, control_plane: ControlPlane) -> None:
        await self._part("etcd", layout)
        await self._part("kube-apiserver", layout)
        self._access = Access(state=self.state, ports=self._ports, token=(self.state / "token").read_text("ascii"))
        self._client = Client(self._access)
        for part in CLIENTS:
            files = {
                "client-certificate": layout.pki(f"{part}.crt"),
                "client-key": layout.pki(f"{part}.key"),
            }
            write_kubeconfig(layout.kubeconfig_of(part), self._access.api_url, self._access.ca_path, files)
        await self.apply(base_objects())
        await asyncio.gather(
            self._part("kube-controller-manager", layout),
            self._part("kube-scheduler", layout),
            self._chaos(layout, control_plane),
        )
        self._access.save()
        await wait_until(self._has_controllers, what="the default service account", deadline_s=DEADLINE_S)
        self._tell(f"the API server is at {self._access.api_url}")

    async def _chaos(self, layout: Layout, control_plane: ControlPlane) -> None:
        """Register the kinds of Chaos Mesh, start it, then put its webhooks before whatever is created."""
        client = self.client
        crds = sorted(control_plane.crds.glob("*.json"))
        gate = asyncio.Semaphore(_CRDS_AT_ONCE)
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

        async def register(manifest: bytes) -> None:
            async with gate:
                await client.register(path, manifest)

        await asyncio.gather(*(register(file.read_bytes()) for file in crds))

        async def established() -> bool:
            return len((await client.get("/apis/chaos-mesh.org/v1alpha1"))["resources"]) >= len(crds)

        await wait_until(established, what="the kinds of Chaos Mesh", deadline_s=DEADLINE_S)
        await self._part("chaos-controller-manager", layout)
        resources = (file.stem.removeprefix("chaos-mesh.org_") for file in crds)
        url = f"https://127.0.0.1:{self._ports['chaos-webhook']}"
        await self.apply(chaos_webhooks(resources, url, self.access.ca_path.read_bytes()))

    async def _start_kubelet(self, arguments: Sequence[str]) -> None:
        child = await self._processes.start(
            "kubelet",
            kubelet.command_line(self.state, *arguments),
            log=self.state / "logs" / "kubelet.log",
            ready="json-line",
            deadline_s=DEADLINE_S,
        )
        self._tell(f"kubelet is ready, with {len(child.ready['nodes'])} nodes")

    async def _has_controllers(self) -> bool:
        """Whether the controllers work: the API server has none of its own that would make this object."""
        return bool(await self.client.get("/api/v1/namespaces/default/serviceaccounts/default"))

    async def _part(self, name: str, layout: Layout) -> None:
        """Start a part on free ports, on others when one was taken meanwhile, and wait until it is ready."""
        for attempt in range(1, _PORT_TRIES + 1):
            for port in _PORTS.get(name, (name,)):
                self._ports[port] = free_port()
            argv, environment = self._command(name, layout)
            log = self.state / "logs" / f"{name}.log"
            try:
                await self._processes.start(
                    name, argv, env=environment, log=log, ready=self._ready(name), deadline_s=DEADLINE_S
                )
            except ProcessFailed as error:
                taken = any(word in line for line in error.log_lines for word in _TAKEN)
                if not taken or attempt == _PORT_TRIES:
                    raise
                log.rename(log.with_suffix(f".{attempt}.log"))
                continue
            self._tell(f"{name} is ready")
            return

    def _command(self, name: str, layout: Layout) -> tuple[list[str], dict[str, str]]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), **components.MEMORY_ENVIRONMENT}
        if name == "chaos-controller-manager":
            argv, configuration = components.chaos(layout)
            return argv, environment | configuration
        if name == "kube-controller-manager":
            return components.controller_manager(layout, self._timings), environment
        make = {
            "etcd": components.etcd,
            "kube-apiserver": components.apiserver,
            "kube-scheduler": components.scheduler,
        }
        return make[name](layout), environment

    def _ready(self, name: str) -> Ready:
        async def check(_child: Child) -> bool:
            return await answers(name, self.state, self._ports)

        return check

    def _event(self, name: str, action: str, pid: int, code: int | None) -> None:
        if action == "start" and self._record is not None:
            ports = (port for port in _PORTS.get(name, (name,)) if port in self._ports)
            self._record.started(name, pid, {port: self._ports[port] for port in ports})
        if self._on_event is not None:
            self._on_event(name, action, pid, code)  # pyright: ignore[reportArgumentType]


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)

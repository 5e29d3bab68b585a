"""
The cluster that a run may use: the local one, which it finds up or starts, or one that a kubeconfig names.

Nothing is applied before everything was looked at: the namespace that allows faults, and what a scenario needs of the
cluster. Each refusal is one sentence that says what is missing and how to have it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from faults.kubernetes_api import KubernetesApi, KubernetesError
from faults.permission import ALLOWED
from seawall.arenas.parts import ArenaFailed
from seawall.cluster.background import default_state, status
from seawall.cluster.kubelet.manifest import part
from seawall.cluster.local import LocalCluster
from seawall.cluster.record import is_locked, sweep
from seawall.paths import state_dir
from seawall.scenario.model import Scenario

__all__ = ["ALLOWED", "ClusterChoice", "ClusterTarget", "look", "opened"]

LOCAL_CONTEXT = "seawall-local"
NODES = 3

Tell = Callable[[str], None]


class ClusterChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of the cluster. Without a kubeconfig it is the local one."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    url: str | None = None
    """Where the gateway of that cluster is reached; what is there is used then, and nothing but faults is applied."""

    def problem(self) -> str | None:
        """Return why it cannot be used, in a sentence; None when it can."""
        if self.kubeconfig is None:
            named = [name for name in ("context", "url") if getattr(self, name) is not None]
            return f"--{named[0]} belongs to --kubeconfig; give both, or neither" if named else None
        if self.context is None:
            return (
                "which cluster is harmed must be named: give --context (`kubectl config get-contexts` lists them); "
                "the current one of a kubeconfig is never taken"
            )
        if self.namespace is None:
            return "where faults are made must be named: give --namespace"
        return None


class ClusterTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that is up. `state` is the folder of a local one."""

    api: KubernetesApi
    namespace: str = "default"
    state: Path | None = None
    url: str | None = None


@asynccontextmanager
async def opened(choice: ClusterChoice, tell: Tell) -> AsyncGenerator[ClusterTarget]:
    """
    Give the cluster that was chosen; a local one that is not up is started, and ended afterwards.

    Raises ClusterError when it cannot be started, ArenaFailed for one that is up and has no kubelet.
    """
    if choice.kubeconfig is not None:
        api = KubernetesApi(kubeconfig=str(choice.kubeconfig.absolute()), context=choice.context or "")
        yield ClusterTarget(api=api, namespace=choice.namespace or "", url=choice.url)
        return
    found = default_state()
    now = await asyncio.to_thread(status, found)
    if now.state == "up":
        if not any(each.name == "kubelet" for each in now.parts):
            raise ArenaFailed("the local cluster is up without nodes; end it with `seawall cluster down`, and repeat")
        tell(f"using the local cluster that is up in {found}")
        yield _local(found, choice)
        return
    folder = state_dir() / "clusters"
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.iterdir():
        if left.is_dir() and not is_locked(left):
            sweep(left)  # of a run that was killed
    async with LocalCluster(folder / str(os.getpid()), kubelet=("--nodes", str(NODES)), tell=tell) as cluster:
        tell(f"the local cluster is up after {cluster.seconds or 0:.1f} s; `seawall cluster up` starts one that stays")
        yield _local(cluster.state, choice)
    (folder / f"{os.getpid()}.lock").unlink(missing_ok=True)


def look(target: ClusterTarget, scenario: Scenario) -> None:
    """See that the cluster allows faults and has what the scenario needs. Raises ArenaFailed; applies nothing."""
    api, namespace = target.api, target.namespace
    try:
        found = api.find(f"/api/v1/namespaces/{namespace}")
        if found is None:
            raise ArenaFailed(f"the cluster has no namespace {namespace}; make it, and label it as faults need it")
        label, value = ALLOWED
        if part(found["metadata"], "labels").get(label) != value:
            command = f"kubectl --context {api.context} label namespace {namespace} {label}={value}"
            raise ArenaFailed(f"namespace {namespace} does not allow faults; if it may be harmed: `{command}`")
        if any(fault.chaos_mesh for fault in scenario.faults) and not api.find("/apis/chaos-mesh.org/v1alpha1"):
            raise ArenaFailed("the cluster does not know the kinds of Chaos Mesh; install it (docs/how-to/cluster.md)")
        needs_metrics = scenario.cluster is not None and scenario.cluster.hpa is not None
        if needs_metrics and not _has_metrics(api):
            raise ArenaFailed("the cluster has no metrics API, so no HPA can work; install metrics-server")
    except KubernetesError as error:
        raise ArenaFailed(f"the cluster of context {api.context} cannot be used: {error}") from error
    if target.state is None and any(fault.metrics_outage for fault in scenario.faults):
        raise ArenaFailed("a metrics outage is made at the local cluster's own metrics server, and nowhere else")
    if target.state is not None:
        _has_no_daemon(scenario)


def _has_metrics(api: KubernetesApi) -> bool:
    try:
        return api.find("/apis/metrics.k8s.io/v1beta1") is not None
    except KubernetesError as error:
        if error.status == 503:  # registered, and nobody there
            return False
        raise


def _has_no_daemon(scenario: Scenario) -> None:
    for fault in scenario.faults:
        if fault.chaos_mesh is not None and not fault.chaos_mesh.kills:
            raise ArenaFailed(
                f"fault {fault.id}: {fault.chaos_mesh.kind} needs Chaos Mesh's daemon on the nodes, which the local "
                f"cluster has not; take pod-kill, or name a cluster that has it with --kubeconfig"
            )


def _local(state: Path, choice: ClusterChoice) -> ClusterTarget:
    api = KubernetesApi(kubeconfig=str(state / "kubeconfig"), context=LOCAL_CONTEXT, is_local=True)
    return ClusterTarget(api=api, namespace=choice.namespace or "default", state=state)

"""`seawall run --arena cluster`: which cluster it is, and what would be harmed there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from faults.chaos_mesh import scoped
from faults.kubernetes_api import KubernetesApi
from seawall.arenas.cluster_manifests import APP
from seawall.arenas.cluster_target import ClusterChoice, ClusterTarget, look, opened
from seawall.scenario import Loaded
from seawall.screen import Screen

__all__ = ["choice_of", "cluster_of", "harm_text"]


def choice_of(options: Any) -> ClusterChoice:
    """Return what the command line says of the cluster."""
    return ClusterChoice(
        kubeconfig=options.kubeconfig, context=options.context, namespace=options.namespace, url=options.url
    )


def cluster_of(options: Any, screen: Screen) -> AbstractAsyncContextManager[ClusterTarget]:
    """Give the cluster that the command line names, started where it must be. Raises SeawallError."""
    return opened(choice_of(options), lambda line: screen.write(f"  {line}"))


def harm_text(target: ClusterTarget, scenarios: Sequence[Loaded]) -> str:
    """
    Return what would be harmed on the cluster, by what is there now; nothing is applied.

    Raises ArenaFailed where the cluster does not allow it, KubernetesError when it cannot be asked.
    """
    lines = [f"on context {target.api.context}, namespace {target.namespace}:"]
    for loaded in scenarios:
        look(target, loaded.scenario)
        for fault in loaded.scenario.faults:
            if fault.target != "backend":
                continue
            spec = scoped(fault.chaos_mesh.spec, target.namespace) if fault.chaos_mesh is not None else {}
            inner: dict[str, Any] = spec.get("podChaos") or spec
            labels: dict[str, str] = inner.get("selector", {}).get("labelSelectors") or {"app": APP}
            pods = _matching(target.api, target.namespace, labels)
            what = fault.chaos_mesh.kind if fault.chaos_mesh is not None else f"rollout {fault.rollout}"
            who = ", ".join(pods) or "no pod that is there now"
            mode = f" (mode {inner['mode']} of them)" if "mode" in inner else ""
            lines.append(f"  {fault.id}: {what} {inner.get('action', '')}".rstrip() + f": {who}{mode}")
    if len(lines) == 1:
        lines.append("  no pod is harmed")
    return "\n".join(lines)


def _matching(api: KubernetesApi, namespace: str, labels: dict[str, str]) -> list[str]:
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]
    return sorted(pod["metadata"]["name"] for pod in pods)

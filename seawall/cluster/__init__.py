"""
A Kubernetes control plane without containers: real etcd, API server, controllers and Chaos Mesh as local processes.

    async with LocalCluster(folder) as cluster:          # built before by `seawall cluster build`
        await cluster.apply(objects)                     # server-side apply of plain dicts
        cluster.access.kubeconfig                        # a path: any client can use it

`LocalCluster` belongs to the process that starts it: when that ends, even by SIGKILL, the cluster ends. `seawall
cluster up` starts one that outlives the command, in a keeper process (`seawall.cluster.keeper`).

What else runs on it (the kubelet, the metrics server, an arena) gets the state folder and reads `Access.load(folder)`:
`api_url`, `token`, `kubeconfig`, `ca_path`, `front_proxy_ca_path` (who may call the metrics server: the API server's
client certificate comes from there), `serving_certificate_path` and `serving_key_path` (for 127.0.0.1, localhost and
metrics-server.kube-system.svc). A metrics server that listens on `port` is made known by
`await cluster.serve_metrics(port)`, or with the objects of `seawall.cluster.objects.metrics_api(port, ca)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seawall.cluster.access import Access
from seawall.cluster.errors import ClusterError

if TYPE_CHECKING:
    from seawall.cluster.client import ApiError, Client
    from seawall.cluster.local import LocalCluster

__all__ = ["Access", "ApiError", "Client", "ClusterError", "LocalCluster"]

_LAZY = {
    "ApiError": "seawall.cluster.client",
    "Client": "seawall.cluster.client",
    "LocalCluster": "seawall.cluster.local",
}


def __getattr__(name: str) -> Any:
    """Import what needs httpx and cryptography only when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_LAZY[name]), name)

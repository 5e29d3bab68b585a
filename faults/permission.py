"""Where on a cluster faults may be made: a namespace that says so itself, looked at again before each of them."""

from __future__ import annotations

from faults.base import FaultError
from faults.kubernetes_api import KubernetesApi

__all__ = ["ALLOWED", "require_allowed"]

ALLOWED = ("seawall.dev/chaos", "allowed")
"""The label of a namespace in which faults may be made."""


def require_allowed(api: KubernetesApi, namespace: str) -> None:
    """Raise FaultError unless the namespace carries the label now; it may have been taken off in mid-run."""
    label, value = ALLOWED
    found = api.find(f"/api/v1/namespaces/{namespace}")
    if found is None or (found["metadata"].get("labels") or {}).get(label) != value:
        raise FaultError(f"namespace {namespace} does not allow faults (any more): it has no label {label}={value}")

"""Where on a cluster faults may be made: a namespace that says so itself, and goes on saying so while a run lasts."""

from __future__ import annotations

from faults.base import FaultError
from faults.kubernetes_api import KubernetesApi

__all__ = ["ALLOWED", "NotAllowed", "require_allowed"]

ALLOWED = ("seawall.dev/chaos", "allowed")
"""The label of a namespace in which faults may be made."""


class NotAllowed(FaultError):
    """The namespace does not allow faults, or not any more."""


def require_allowed(api: KubernetesApi, namespace: str) -> None:
    """Raise NotAllowed unless the namespace carries the label now; it may have been taken off in mid-run."""
    label, value = ALLOWED
    found = api.find(f"/api/v1/namespaces/{namespace}")
    if found is None or (found["metadata"].get("labels") or {}).get(label) != value:
        raise NotAllowed(f"namespace {namespace} does not allow faults (any more): it has no label {label}={value}")

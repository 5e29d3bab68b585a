"""
The fault `rollout`: all pods of a Deployment are replaced one by one, as by `kubectl rollout restart`.

`restart` is over when it is done, and there is nothing to take back. `unready` brings pods that never get ready; their
readiness probe is put back at the end.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from faults.base import FaultError, Undo
from faults.kubernetes_api import KubernetesApi, KubernetesError
from faults.registry import register

__all__ = ["NEVER", "Action", "RolloutFault"]

Action = Literal["restart", "unready"]
NEVER = "/never-ready"
"""The path of the readiness probe that no gateway answers well."""
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


class RolloutFault(msgspec.Struct, frozen=True, kw_only=True):
    """Do `action` to the Deployment at `path`."""

    id: str
    target: str
    api: KubernetesApi
    path: str
    action: Action
    stamp: str
    """What the annotation says that makes the pods new ones."""

    def describe(self) -> str:
        """Return the fault in a few words."""
        return "rollout restart" if self.action == "restart" else "rollout of pods that never get ready"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing. Raises FaultError."""
        container = self.read()["spec"]["template"]["spec"]["containers"][0]
        probe = container.get("readinessProbe")
        if self.action == "unready" and probe is None:
            raise FaultError(f"fault {self.id}: the pods have no readiness probe that could fail")
        arguments = {
            "api": msgspec.to_builtins(self.api),
            "path": self.path,
            "container": container["name"],
            "readiness": probe["httpGet"]["path"] if self.action == "unready" else None,
        }
        return Undo(kind="rollout", arguments=arguments)

    def inject(self) -> None:
        """Put it in force. Raises FaultError."""
        template: dict[str, Any] = {"metadata": {"annotations": {_RESTARTED: self.stamp}}}
        if self.action == "unready":
            name = self.read()["spec"]["template"]["spec"]["containers"][0]["name"]
            template = _probing(name, NEVER)
        self.api.patch(self.path, {"spec": {"template": template}}, strategic=True)

    def read(self) -> dict[str, Any]:
        """Return the Deployment. Raises FaultError."""
        return self.api.get(self.path)


def _probing(container: str, path: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": path}}
    return {"spec": {"containers": [{"name": container, "readinessProbe": probe}]}}


def _undo(record: Undo, *, deadline_s: float) -> None:
    found = _found(record)
    if found is None or _is_back(record, found):
        return
    template = _probing(record.arguments["container"], record.arguments["readiness"])
    _api(record).patch(record.arguments["path"], {"spec": {"template": template}}, strategic=True)


def _verify(record: Undo, *, deadline_s: float) -> bool:
    found = _found(record)
    return found is None or _is_back(record, found)


def _is_back(record: Undo, found: dict[str, Any]) -> bool:
    path = record.arguments["readiness"]
    probe = found["spec"]["template"]["spec"]["containers"][0].get("readinessProbe")
    return path is None or probe is None or probe["httpGet"]["path"] == path


def _found(record: Undo) -> dict[str, Any] | None:
    api = _api(record)
    try:
        return api.find(record.arguments["path"])
    except KubernetesError as error:
        if error.status == 0 and api.is_local:
            return None
        raise


def _api(record: Undo) -> KubernetesApi:
    try:
        return msgspec.convert(record.arguments["api"], KubernetesApi)
    except msgspec.ValidationError as error:
        raise FaultError(f"undo record of kind {record.kind} is no good: {error}") from error


register("rollout", undo=_undo, verify=_verify)

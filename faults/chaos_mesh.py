"""
The fault `chaos_mesh`: an object of Chaos Mesh, made when the fault starts and deleted at its end.

Its spec is the scenario's, word for word; only a selector that names no namespace gets the run's, so that a fault never
reaches further than the namespace that allows it.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from faults.base import FaultError, Undo
from faults.cluster_objects import RUN_LABEL, objects_record
from faults.kubernetes_api import KubernetesApi
from faults.permission import require_allowed

__all__ = ["API_VERSION", "ChaosMeshFault", "conditions_of", "killed_by", "scoped"]

API_VERSION = "chaos-mesh.org/v1alpha1"
_SCHEDULED = ("podChaos", "networkChaos", "stressChaos")
_names: dict[str, str] = {}


class ChaosMeshFault(msgspec.Struct, frozen=True, kw_only=True):
    """An object of `kind` with `spec` in `namespace`; `target` is the scenario's name of what it harms."""

    id: str
    target: str
    api: KubernetesApi
    namespace: str
    run: str
    kind: str
    spec: dict[str, Any]

    def describe(self) -> str:
        """Return the fault in a few words, such as `PodChaos pod-kill, one`."""
        inner = next((self.spec[key] for key in _SCHEDULED if key in self.spec), self.spec)
        words = [str(inner[key]) for key in ("action", "mode") if key in inner]
        when = f" {self.spec['schedule']}" if "schedule" in self.spec else ""
        return f"{self.kind}{when} {', '.join(words)}".rstrip()

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing, but has the server check the object. Raises FaultError."""
        # Of its own for each occurrence: one that ran already would block the name.
        name = f"seawall-{self.id.replace('_', '-')}-{secrets.token_hex(4)}"
        _names[self._key] = name
        self.api.apply(self._object(name), dry_run=True)
        return objects_record(self.api, self.run, [self.api.path_of(self._object(name))])

    def inject(self) -> None:
        """Put it in force. Raises FaultError, also when the namespace allows no faults any more."""
        require_allowed(self.api, self.namespace)
        self.api.apply(self._object(self.name))

    def read(self) -> dict[str, Any] | None:
        """Return the object as the server has it, None when it is gone. Raises FaultError."""
        return self.api.find(self.api.path_of(self._object(self.name)))

    @property
    def name(self) -> str:
        """The object's name. Raises FaultError before `prepare`."""
        if self._key not in _names:
            raise FaultError(f"fault {self.id} was not prepared")
        return _names[self._key]

    @property
    def _key(self) -> str:
        return f"{self.run}/{self.id}"

    def _object(self, name: str) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {RUN_LABEL: self.run}},
            "spec": scoped(self.spec, self.namespace),
        }


def scoped(spec: dict[str, Any], namespace: str) -> dict[str, Any]:
    """
    Return a spec whose selectors name a namespace: their own, or else this one.

    Raises FaultError when they name another: faults stay where they are allowed.
    """
    made = dict(spec)
    for key in (*_SCHEDULED, "target"):  # the other side of a NetworkChaos is a `target` with a selector of its own
        if isinstance(made.get(key), dict):
            made[key] = scoped(made[key], namespace)
    if "selector" in made:
        selector: dict[str, Any] = dict(made["selector"])
        # `pods` lists names by namespace, and counts whatever `namespaces` says.
        namespaces: list[str] = selector.setdefault("namespaces", [namespace])
        listed: dict[str, Any] = selector.get("pods") or {}
        named: list[str] = sorted({*namespaces, *listed})
        if named != [namespace]:
            raise FaultError(f"the selector names {', '.join(named)}; faults of this run stay in {namespace}")
        made["selector"] = selector
    return made


def conditions_of(found: dict[str, Any]) -> dict[str, bool]:
    """Return the conditions of an object of Chaos Mesh by type."""
    listed: list[dict[str, str]] = found.get("status", {}).get("conditions") or []
    return {each["type"]: each["status"] == "True" for each in listed}


def killed_by(found: dict[str, Any]) -> list[str]:
    """Return the names of the pods that an object of Chaos Mesh has selected and harmed, `namespace/name`."""
    records: list[dict[str, Any]] = found.get("status", {}).get("experiment", {}).get("containerRecords") or []
    return sorted({str(each["id"]) for each in records if each.get("phase") == "Injected"})

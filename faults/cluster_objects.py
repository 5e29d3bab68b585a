"""
The undo of whatever a run has made in a cluster: its objects are deleted, finalizers and all.

An object that its controller does not let go of in time loses its finalizers: what is left of a run must not stay
because the part that would tidy up is gone. Objects are known by their uid where the record has it, so that one that
somebody else made under the same name is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from faults.base import FaultError, Undo
from faults.kubernetes_api import KubernetesApi, KubernetesError
from faults.registry import register

__all__ = ["RUN_LABEL", "is_there", "objects_record"]

RUN_LABEL = "seawall.dev/run"
"""The label that says which run has made an object."""
_POLL_S = 0.1
_PATIENCE = 0.6
"""The share of the time that a controller has to let go by itself."""


def objects_record(api: KubernetesApi, run: str, paths: Iterable[str]) -> Undo:
    """Return the record by which the objects at `paths` that `run` has made are deleted, last first."""
    return Undo(kind="cluster_objects", arguments={"api": msgspec.to_builtins(api), "run": run, "paths": list(paths)})


def is_there(api: KubernetesApi, run: str, path: str) -> bool:
    """Whether the run's own object is at `path`. Of a cluster of ours that cannot be reached nothing is left."""
    try:
        found = api.find(path)
    except KubernetesError as error:
        if error.status == 0 and api.is_local:
            return False
        raise
    return found is not None and _labels(found).get(RUN_LABEL) == run


def _labels(found: dict[str, Any]) -> dict[str, str]:
    return found["metadata"].get("labels") or {}


def _undo(record: Undo, *, deadline_s: float) -> str | None:
    api, run, paths = _read(record)
    left = [path for path in reversed(paths) if is_there(api, run, path)]
    for path in left:
        api.delete(path)
    begun, forced = time.monotonic(), False
    while left := [path for path in left if is_there(api, run, path)]:
        waited_s = time.monotonic() - begun
        if waited_s > deadline_s * _PATIENCE and not forced:
            forced = True
            for path in left:
                _let_go(api, path)
        if waited_s > deadline_s:
            raise FaultError(f"{', '.join(left)} did not go within {deadline_s:g} s")
        time.sleep(_POLL_S)
    return "finalizers were taken away" if forced else None


def _let_go(api: KubernetesApi, path: str) -> None:
    try:
        api.patch(path, {"metadata": {"finalizers": None}})
    except KubernetesError as error:
        if error.status != 404:
            raise


def _verify(record: Undo, *, deadline_s: float) -> bool:
    api, run, paths = _read(record)
    return not any(is_there(api, run, path) for path in paths)


def _read(record: Undo) -> tuple[KubernetesApi, str, list[str]]:
    try:
        api = msgspec.convert(record.arguments["api"], KubernetesApi)
    except msgspec.ValidationError as error:
        raise FaultError(f"undo record of kind {record.kind} is no good: {error}") from error
    return api, str(record.arguments["run"]), [str(path) for path in record.arguments["paths"]]


register("cluster_objects", undo=_undo, verify=_verify)

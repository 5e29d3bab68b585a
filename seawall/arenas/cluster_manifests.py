"""
The objects of a run, from `k8s/base` and `k8s/hpa.yaml` with what is different here. Files in, plain dicts out.

Different are: the settings and upstreams of the run, what the scenario's `cluster` says, and what a pod of processes
needs; `kubectl kustomize` has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faults.cluster_objects import RUN_LABEL
from seawall.cluster.kubelet.load_balancer import SERVE_ME
from seawall.journal.writer import EVENTS_VARIABLE
from seawall.paths import k8s_dir
from seawall.scenario.cluster import ClusterSpec, HpaWords
from seawall.scenario.nodes import compose, plain

__all__ = ["APP", "HPA", "manifests"]

APP = "backend"
"""The name of the Deployment, and the label `app` of its pods."""
HPA = "backend-scaler"
_PARTS = ("configmap", "deployment", "service", "pdb")
_PROBE_EVERY_S = 1

Object = dict[str, Any]


def manifests(
    spec: ClusterSpec, environment: Mapping[str, str], *, namespace: str, run: str, events: Path
) -> list[Object]:
    """
    Return the objects of a run in the order in which they are applied.

    `environment` is the gateway's; `events` the folder that its pods write their part of the journal into.
    """
    base = k8s_dir() / "base"
    objects = [_read(base / f"{part}.yaml") for part in _PARTS]
    config, deployment, service, _ = objects
    config["data"] = {**environment, EVENTS_VARIABLE: str(events)}
    # What is under way when a pod goes has the rest of the pod's grace.
    config["data"].setdefault("DRAIN_TIMEOUT", f"{max(1, math.ceil(spec.grace - spec.pre_stop))}s")
    _shape(deployment, spec)
    service["metadata"]["annotations"] = {SERVE_ME: "http"}
    if spec.hpa is not None:
        objects.append(_scaler(_read(k8s_dir() / "hpa.yaml"), spec.hpa))
    for each in objects:
        each["metadata"]["namespace"] = namespace
        each["metadata"].setdefault("labels", {})[RUN_LABEL] = run
    return objects


def _shape(deployment: Object, spec: ClusterSpec) -> None:
    deployment["spec"]["replicas"] = max(spec.replicas, spec.hpa.min_replicas if spec.hpa is not None else 1)
    pod: Object = deployment["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = round(spec.grace)
    container: Object = pod["containers"][0]
    container["resources"]["requests"]["cpu"] = spec.cpu_request
    if spec.pre_stop:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": round(spec.pre_stop)}}}
    else:
        container.pop("lifecycle")
    if spec.readiness == "none":
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            container.pop(probe)
    else:
        container["readinessProbe"] |= {"periodSeconds": _PROBE_EVERY_S}


def _scaler(hpa: Object, words: HpaWords) -> Object:
    spec: Object = hpa["spec"]
    spec["minReplicas"], spec["maxReplicas"] = words.min_replicas, words.max_replicas
    spec["metrics"][0]["resource"]["target"]["averageUtilization"] = words.target_percent
    spec["behavior"] = words.behavior
    return hpa


def _read(path: Path) -> Object:
    found: Object = plain(compose(path.read_text("utf-8"), path.name))
    return found

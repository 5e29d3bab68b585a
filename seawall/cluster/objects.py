"""The objects that a local cluster has from the start, as plain dicts. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from seawall.cluster.certificates import CLIENTS

__all__ = ["CHAOS_LABEL", "base_objects", "chaos_webhooks", "metrics_api"]

CHAOS_LABEL = {"seawall.dev/chaos": "allowed"}
"""What a namespace must carry before anything in it is harmed."""

# The kinds whose webhooks take a name that is not the plural of the resource.
_PLURALS = {
    "physicalmachines": "physicalmachine",
    "remoteclusters": "remotecluster",
    "schedules": "schedule",
    "statuschecks": "statuscheck",
    "workflows": "workflow",
}
# These are written by Chaos Mesh itself; it serves no webhook for them.
_INTERNAL = {"podhttpchaos", "podiochaos", "podnetworkchaos", "workflownodes"}


def base_objects() -> list[dict[str, Any]]:
    """
    Return what is there before the controllers: the namespace of Chaos Mesh, roles, and the label on `default`.

    The whole cluster is for trying faults on, so its default namespace allows them.
    """
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "chaos-mesh"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": CHAOS_LABEL}},
        # Chaos Mesh acts in every namespace on nearly every kind; its chart gives it as much. The controllers could
        # each have a service account of their own, but to log in with thirty of them takes five seconds more.
        _administrator("chaos-controller-manager"),
        _administrator("kube-controller-manager"),
    ]


def chaos_webhooks(resources: Iterable[str], url: str, ca: bytes) -> list[dict[str, Any]]:
    """
    Return the two webhook configurations of Chaos Mesh: defaults are filled in, and what is invalid is refused.

    `resources` are the plurals of its kinds, `url` is where it serves, `ca` the authority of its certificate in PEM.
    """
    served = sorted(set(resources) - _INTERNAL)
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": f"chaos-mesh-{verb}"},
            "webhooks": [_webhook(verb, resource, url, ca) for resource in served],
        }
        for kind, verb in (("Mutating", "mutate"), ("Validating", "validate"))
    ]


def metrics_api(port: int, ca: bytes) -> list[dict[str, Any]]:
    """
    Return the objects that make the server on 127.0.0.1:`port` the cluster's `metrics.k8s.io`.

    `ca` is the authority of its certificate, in PEM; that must be for metrics-server.kube-system.svc.
    """
    name = {"name": "metrics-server", "namespace": "kube-system"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            # The aggregator takes a name where it would not take a loopback address.
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {**name, "port": port},
                "caBundle": _encoded(ca),
            },
        },
    ]


def _administrator(part: str) -> dict[str, Any]:
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"seawall-{part}"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": CLIENTS[part]}],
    }


def _webhook(verb: str, resource: str, url: str, ca: bytes) -> dict[str, Any]:
    kind = _PLURALS.get(resource, resource)
    return {
        "name": f"{verb}.{kind}.chaos-mesh.org",
        "clientConfig": {"url": f"{url}/{verb}-chaos-mesh-org-v1alpha1-{kind}", "caBundle": _encoded(ca)},
        "rules": [
            {
                "apiGroups": ["chaos-mesh.org"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [resource],
            }
        ],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        # Kept strict: without them a selector that names no namespace is stored as it is.
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
    }


def _encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode("ascii")

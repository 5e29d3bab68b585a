"""The words of `seawall cluster`."""

from __future__ import annotations

from pathlib import Path

from seawall.commands.arguments import Argument, Command, flag

__all__ = ["CLUSTER", "CLUSTER_CHOICE"]

_ACTIONS = ("build", "up", "status", "down", "kubectl")

CLUSTER_CHOICE = (
    Argument(
        ("--kubeconfig",),
        "with --arena cluster: the cluster that this file knows by --context, instead of the local one",
        "file",
        {"type": Path, "metavar": "FILE"},
    ),
    Argument(("--context",), "with --kubeconfig: which cluster; it must be named", settings={"metavar": "NAME"}),
    Argument(
        ("--namespace",),
        "with --arena cluster: where; it must carry the label seawall.dev/chaos=allowed",
        settings={"metavar": "NAME"},
    ),
    Argument(
        ("--url",),
        "with --kubeconfig: where the gateway that runs there is reached; nothing but faults is applied then",
        settings={"metavar": "URL"},
    ),
)
"""Which cluster `seawall run --arena cluster` runs on."""

CLUSTER = Command(
    "cluster",
    "Build, start, look at and end a Kubernetes control plane without containers.",
    more="build makes it from pinned Go modules, once (about 9 minutes on two cores, 6 GB meanwhile); up starts etcd, "
    "kube-apiserver, its controllers, the scheduler, Chaos Mesh and a kubelet whose pods are processes, in the "
    "background and on loopback only; status shows each part; down ends it and removes what it kept; kubectl runs "
    "kubectl on it. Exit codes: 0 done; 1 status: it is not up; 2 usage; 3 not built, or it did not come up.",
    examples=(
        "seawall cluster build",
        "seawall cluster up",
        "seawall cluster kubectl -- get pods --watch",
        "seawall cluster down",
    ),
    arguments=(
        Argument(("action",), "what to do", "choice", {"choices": _ACTIONS}),
        Argument(("arguments",), "kubectl: what it is told, after --", settings={"nargs": "*", "metavar": "ARGUMENT"}),
        Argument(
            ("--state",),
            "its folder (default: cluster in the state folder)",
            "folder",
            {"type": Path, "metavar": "FOLDER"},
        ),
        Argument(
            ("--nodes",),
            "up: how many nodes run pods, as processes; 0 for the control plane alone (default: %(default)s)",
            settings={"type": int, "default": 3, "metavar": "N"},
        ),
        Argument(
            ("--sync-period",),
            "up: how often the HPA controller looks (default: %(default)s; Kubernetes' own: 15s)",
            settings={"default": "2s", "metavar": "DURATION"},
        ),
        Argument(
            ("--downscale-stabilization",),
            "up: how long the HPA waits before it takes pods away (default: %(default)s; Kubernetes' own: 5m)",
            settings={"default": "10s", "metavar": "DURATION"},
        ),
        flag("--json", "status: one line of JSON"),
    ),
    passes_on=True,
)

"""
A kubelet whose pods are local processes: no container runtime, the real Kubernetes API.

    python -m seawall.cluster.kubelet --state FOLDER        # the state folder of a local cluster that is up

It registers its nodes and runs each pod that is bound to them: commands, environment, probes, restarts, hooks, grace,
as the pod's spec has them. It serves `metrics.k8s.io` from what the processes really use, and an nginx before each
Service that asks for it (`load_balancer.py`). A pod with the annotation `seawall.dev/scripted` has no process and
follows a script (`scripted.py`). One line of JSON on standard output says that it is ready: `pid`, `nodes`,
`metrics_port`. Its pods end with it, even when it is killed.

What a pod of processes has not: images, users, file systems and limits of its own. Its mounts are folders, and paths
below a mount path in its command, arguments and environment are turned into them. `status.podIP` of the downward API
is where its process must listen (127.x.y.z); the address in the pod's status is only a name (`addresses.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seawall.cluster.kubelet.control import Orders, write_orders

__all__ = ["Orders", "command_line", "write_orders"]


def command_line(state: Path, *arguments: str) -> Sequence[str]:
    """Return the command that runs a kubelet for the cluster in `state`; see `options.py` for the arguments."""
    return [sys.executable, "-m", "seawall.cluster.kubelet", "--state", str(state), *arguments]

"""What a pod's containers make of its status, as a real kubelet reports it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from seawall.cluster.kubelet.manifest import part, parts

__all__ = ["ContainerView", "conditions", "pod_status", "state_running", "state_terminated", "state_waiting"]

Object = Mapping[str, Any]


class ContainerView(msgspec.Struct, frozen=True, kw_only=True):
    """A container as its status shows it. `state` and `last_state` have the API's own form."""

    name: str
    image: str
    state: dict[str, Any]
    last_state: dict[str, Any] = {}
    ready: bool = False
    started: bool = False
    restarts: int = 0
    id: str = ""

    @property
    def exit_code(self) -> int | None:
        """The exit code of a container that has ended for good, or waits for its restart; None otherwise."""
        ended = self.state.get("terminated") or (self.last_state.get("terminated") if "waiting" in self.state else None)
        return None if ended is None else int(ended["exitCode"])

    @property
    def has_run(self) -> bool:
        """Whether it runs or has run."""
        return "waiting" not in self.state or bool(self.last_state)

    def status(self) -> dict[str, Any]:
        """Return it as an entry of `containerStatuses`."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "containerID": f"process://{self.id}" if self.id else "",
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
        }


def state_waiting(reason: str, message: str = "") -> dict[str, Any]:
    """Return the state of a container that does not run yet, or not now."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def state_running(started_at: str) -> dict[str, Any]:
    """Return the state of a container whose process runs."""
    return {"running": {"startedAt": started_at}}


def state_terminated(code: int, *, started_at: str, finished_at: str, id: str, message: str = "") -> dict[str, Any]:  # noqa: A002 - the API's word
    """Return the state of a container whose process ended; a negative code is a signal, told as 128 + n as well."""
    ended: dict[str, Any] = {
        "exitCode": code if code >= 0 else 128 - code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": started_at,
        "finishedAt": finished_at,
        "containerID": f"process://{id}",
    }
    if code < 0:
        ended["signal"] = -code
    if message:
        ended["message"] = message
    return {"terminated": ended}


def pod_status(
    spec: Object,
    *,
    containers: Sequence[ContainerView],
    init: Sequence[ContainerView],
    address: str,
    host_ip: str,
    started_at: str,
    former: Sequence[Object],
    now: str,
    ended: bool = False,
) -> dict[str, Any]:
    """
    Return the status of a pod. `former` are the conditions that it had: one that is as it was keeps its time.

    `ended`: nothing of it will run any more, as at the end of its deletion.
    """
    phase = _phase(str(spec.get("restartPolicy") or "Always"), containers, init, ended=ended)
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions(spec, containers, init, phase=phase, former=former, now=now),
        "startTime": started_at,
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "containerStatuses": [each.status() for each in containers],
        "qosClass": _quality(spec),
    }
    if init:
        status["initContainerStatuses"] = [each.status() for each in init]
    return status


def conditions(
    spec: Object,
    containers: Sequence[ContainerView],
    init: Sequence[ContainerView],
    *,
    phase: str,
    former: Sequence[Object],
    now: str,
) -> list[dict[str, Any]]:
    """Return the kubelet's conditions of a pod; those of others (readiness gates) are only looked at."""
    known = {str(each["type"]): each for each in former}
    over = phase in {"Succeeded", "Failed"}
    unready = [each.name for each in containers if not each.ready]
    todo = [each.name for each in init if each.exit_code != 0]
    gates = [str(gate["conditionType"]) for gate in parts(spec, "readinessGates")]
    shut = [gate for gate in gates if known.get(gate, {}).get("status") != "True"]
    why_unready = (
        ("PodCompleted", "")
        if over
        else ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    )
    facts = {
        "PodReadyToStartContainers": (not over, "", ""),
        "Initialized": (not todo, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(todo)}]"),
        "ContainersReady": (not unready and not over, *why_unready),
        "Ready": (
            not unready and not shut and not over,
            *(why_unready if unready or over else ("ReadinessGatesNotReady", f"not met: {', '.join(shut)}")),
        ),
        "PodScheduled": (True, "", ""),
    }
    found: list[dict[str, Any]] = []
    for kind, (holds, reason, message) in facts.items():
        status = "True" if holds else "False"
        before = known.get(kind, {})
        since = before.get("lastTransitionTime") if before.get("status") == status else None
        condition: dict[str, Any] = {"type": kind, "status": status, "lastTransitionTime": since or now}
        # In a merge patch only null takes away what was there before.
        condition |= {"reason": reason, "message": message} if not holds else {"reason": None, "message": None}
        found.append(condition)
    return found


def _phase(policy: str, containers: Sequence[ContainerView], init: Sequence[ContainerView], *, ended: bool) -> str:
    codes = [each.exit_code for each in containers]
    if ended:
        return "Succeeded" if all(code == 0 for code in codes) else "Failed"
    if any(each.exit_code not in {None, 0} for each in init) and policy == "Never":
        return "Failed"
    if any(each.exit_code != 0 for each in init):
        return "Pending"
    over = all("terminated" in each.state for each in containers)
    if over and policy != "Always":
        if all(code == 0 for code in codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running" if all(each.has_run for each in containers) else "Pending"


def _quality(spec: Object) -> str:
    resources = [part(each, "resources") for each in parts(spec, "containers")]
    if not any(each.get("requests") or each.get("limits") for each in resources):
        return "BestEffort"
    whole = all(
        {"cpu", "memory"} <= set(part(each, "limits"))
        and each.get("requests", part(each, "limits")) == part(each, "limits")
        for each in resources
    )
    return "Guaranteed" if whole else "Burstable"

"""
The probes of a container as its spec has them, and what a row of answers means. Pure.

      startup     unknown ──success──▶ started (liveness and readiness begin)     ──too many failures──▶ killed
      readiness   not ready ◀──failure_threshold / success_threshold──▶ ready
      liveness    alive ──failure_threshold in a row──▶ killed, and started again as the restart policy says
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from seawall.cluster.kubelet.manifest import parts, scalars

__all__ = ["Exec", "HttpGet", "Kind", "ProbeSpec", "ProbeState", "TcpSocket", "Unsupported", "action_of", "probe_specs"]

Kind = Literal["startup", "liveness", "readiness"]
Object = Mapping[str, Any]


class Unsupported(Exception):
    """The manifest asks for something that a pod of processes cannot have. The message says what to use instead."""


class HttpGet(msgspec.Struct, frozen=True, kw_only=True):
    """A GET of `path`; a status from 200 to 399 is a success."""

    port: int
    path: str
    tls: bool
    headers: dict[str, str]


class TcpSocket(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that is accepted."""

    port: int


class Exec(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ends with 0. It is held to the same list of allowed commands as the container's."""

    command: tuple[str, ...]


Action = HttpGet | TcpSocket | Exec


class ProbeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One probe, Kubernetes' defaults filled in. Times in seconds."""

    kind: Kind
    action: Action
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: float | None = None
    """What a container that this probe kills is given instead of the pod's grace."""


class ProbeState:
    """What the answers so far mean: `result` is None until enough of them agree."""

    def __init__(self, spec: ProbeSpec) -> None:
        self.spec = spec
        self.result: bool | None = None
        self._latest: bool | None = None
        self._row = 0

    def take(self, *, ok: bool) -> bool:
        """Take one answer; tell whether `result` has changed."""
        self._row = self._row + 1 if ok is self._latest else 1
        self._latest = ok
        if self._row < (self.spec.success_threshold if ok else self.spec.failure_threshold) or self.result is ok:
            return False
        self.result = ok
        return True


def probe_specs(container: Object) -> dict[Kind, ProbeSpec]:
    """Return the container's probes by kind. Raises Unsupported."""
    kinds: tuple[Kind, ...] = ("startup", "liveness", "readiness")
    return {kind: _spec(kind, container) for kind in kinds if container.get(f"{kind}Probe")}


def action_of(handler: Object, container: Object) -> Action:
    """Return what a probe or a hook does; ports are looked up by name in the container's. Raises Unsupported."""
    if "httpGet" in handler:
        get = handler["httpGet"]
        headers = {str(each["name"]): str(each["value"]) for each in parts(get, "httpHeaders")}
        return HttpGet(
            port=_port(get["port"], container),
            path=str(get.get("path") or "/"),
            tls=get.get("scheme") == "HTTPS",
            headers=headers,
        )
    if "tcpSocket" in handler:
        return TcpSocket(port=_port(handler["tcpSocket"]["port"], container))
    if "exec" in handler:
        return Exec(command=tuple(scalars(handler["exec"], "command")))
    raise Unsupported(f"the handler {', '.join(handler) or '{}'} is not known; use httpGet, tcpSocket or exec")


def _spec(kind: Kind, container: Object) -> ProbeSpec:
    said: Object = container[f"{kind}Probe"]
    grace = said.get("terminationGracePeriodSeconds")
    return ProbeSpec(
        kind=kind,
        action=action_of(
            {name: said[name] for name in ("httpGet", "tcpSocket", "exec", "grpc") if name in said}, container
        ),
        initial_delay_s=float(said.get("initialDelaySeconds") or 0),
        period_s=float(said.get("periodSeconds") or 10),
        timeout_s=float(said.get("timeoutSeconds") or 1),
        success_threshold=int(said.get("successThreshold") or 1),
        failure_threshold=int(said.get("failureThreshold") or 3),
        grace_s=None if grace is None else float(grace),
    )


def _port(port: str | int, container: Object) -> int:
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for each in parts(container, "ports"):
        if each.get("name") == port:
            return int(each["containerPort"])
    raise Unsupported(f"container {container['name']} has no port named {port!r}")

"""
`metrics.k8s.io`, served from what the pods of this kubelet really use.

HTTPS on 127.0.0.1, for the API server only: who asks must show the certificate of the aggregation layer. Each answer
about pods or nodes is written into the run's journal, as what the HPA's controller reckoned with.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from seawall.cluster.access import Access
from seawall.cluster.kubelet.control import Control
from seawall.cluster.kubelet.manifest import part
from seawall.cluster.kubelet.pod import Worker
from seawall.cluster.kubelet.recorder import Journal, timestamp
from seawall.cluster.kubelet.selectors import Selector, parse_selector
from seawall.cluster.kubelet.usage import Usage
from seawall.journal.events import MetricsAnswer, PodUsage

__all__ = ["MetricsServer"]

_VERSION = "metrics.k8s.io/v1beta1"
_HEAD_LIMIT = 64 * 1024
_IDLE_S = 300.0
_USER = "x-remote-user"

Json = dict[str, Any]


class _Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)


class MetricsServer:
    """The server. `pods` gives those that are to be told of, in any order; `nodes` are the names of the nodes."""

    def __init__(
        self,
        access: Access,
        pods: Callable[[], Iterable[Worker]],
        nodes: tuple[str, ...],
        control: Control,
        journal: Journal,
    ) -> None:
        self.port = 0
        self._access = access
        self._pods = pods
        self._nodes = nodes
        self._control = control
        self._journal = journal
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen on a free port. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._access.serving_certificate_path, self._access.serving_key_path)
        context.load_verify_locations(self._access.front_proxy_ca_path)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=_HEAD_LIMIT)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close it and every connection. Idempotent."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._reply(head.decode("latin-1")))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # it has left, or does not speak HTTP
        finally:
            self._open.discard(writer)
            writer.close()

    def _reply(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method, target, _ = request.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = HTTPStatus.OK
        try:
            body = self._answer(method, target, headers)
        except _Refused as error:
            status = error.status
            body = _status(error.status, error.reason, str(error))
        content = json.dumps(body).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}"
        return f"HTTP/1.1 {status.value} {status.phrase}\r\n{kind}\r\n\r\n".encode("ascii") + content

    def _answer(self, method: str, target: str, headers: Mapping[str, str]) -> Json:
        """Return the body for a request. Raises _Refused."""
        if method != "GET":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "metrics can only be read")
        parts = urlsplit(target)
        words = parts.path.strip("/").split("/")
        found = _discovery(words)
        if found is not None:
            return found
        if words[:3] != ["apis", *_VERSION.split("/")]:
            raise _Refused(HTTPStatus.NOT_FOUND, "NotFound", f"{parts.path} is not served here")
        selector = parse_qs(parts.query).get("labelSelector", [None])[0]
        asked_by = headers.get(_USER, "")
        told: list[PodUsage] = []
        status = HTTPStatus.OK
        try:
            pods = list(self._known(selector))
            return self._resource(words[3:], pods, told)
        except _Refused as error:
            status = error.status
            raise
        finally:
            self._journal.write(
                MetricsAnswer(asked_by=asked_by, path=parts.path, selector=selector, status=status, pods=told)
            )

    def _known(self, selector: str | None) -> Iterable[tuple[Worker, dict[str, Usage]]]:
        """Yield the pods that match and whose use is known, but for those that are being deleted. Raises _Refused."""
        outage = self._control.orders().metrics_outage
        if outage == "empty":
            return
        if outage == "unavailable":
            message = "the metrics server is out of order"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
        try:
            matches: Selector = parse_selector(selector or "")
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "BadRequest", str(error)) from error
        for pod in sorted(self._pods(), key=lambda each: each.key):
            if not pod.is_ending and matches(part(pod.pod["metadata"], "labels")) and (usages := pod.usages()):
                yield pod, usages

    def _resource(self, words: list[str], pods: list[tuple[Worker, dict[str, Usage]]], told: list[PodUsage]) -> Json:
        if words[:1] == ["nodes"] and len(words) <= 2:
            return _one_or_all(words[1:], "NodeMetrics", {name: _node_metrics(name, pods) for name in self._nodes})
        namespace = None
        if words[:1] == ["namespaces"] and len(words) >= 3:
            namespace, words = words[1], words[2:]
        if words[:1] != ["pods"] or len(words) > 2 or (len(words) == 2 and namespace is None):
            raise _Refused(HTTPStatus.NOT_FOUND, "NotFound", "metrics are of nodes and pods")
        metrics: dict[str, Json] = {}
        for pod, usages in pods:
            metadata = pod.pod["metadata"]
            name = str(metadata["name"])
            if namespace in {None, metadata["namespace"]} and words[1:] in ([], [name]):
                metrics[pod.key if namespace is None else name] = _pod_metrics(metadata, usages)
                told.append(_told(metadata, usages))
        return _one_or_all(words[1:], "PodMetrics", metrics)


def _one_or_all(name: list[str], kind: str, metrics: Mapping[str, Json]) -> Json:
    if not name:
        return {"kind": f"{kind}List", "apiVersion": _VERSION, "metadata": {}, "items": list(metrics.values())}
    if name[0] not in metrics:
        raise _Refused(HTTPStatus.NOT_FOUND, "NotFound", f"there are no {kind} of {name[0]}")
    return metrics[name[0]]


def _pod_metrics(metadata: Json, usages: Mapping[str, Usage]) -> Json:
    containers = [{"name": name, "usage": _usage(each)} for name, each in usages.items()]
    about = {key: metadata[key] for key in ("name", "namespace", "labels", "creationTimestamp") if key in metadata}
    return {"kind": "PodMetrics", "apiVersion": _VERSION, "metadata": about, **_when(usages), "containers": containers}


def _node_metrics(name: str, pods: Iterable[tuple[Worker, dict[str, Usage]]]) -> Json:
    usages = {
        f"{pod.key}/{container}": usage
        for pod, each in pods
        if pod.pod["spec"]["nodeName"] == name
        for container, usage in each.items()
    }
    total = Usage(
        sum(each.cpu_milli for each in usages.values()), sum(each.memory_bytes for each in usages.values()), 0, 0
    )
    metadata = {"name": name}
    return {
        "kind": "NodeMetrics",
        "apiVersion": _VERSION,
        "metadata": metadata,
        **_when(usages),
        "usage": _usage(total),
    }


def _usage(usage: Usage) -> dict[str, str]:
    return {"cpu": f"{math.ceil(usage.cpu_milli * 1e6)}n", "memory": f"{usage.memory_bytes // 1024}Ki"}


def _when(usages: Mapping[str, Usage]) -> dict[str, str]:
    """Return when the earliest of the measurements ended, and over how long the longest went."""
    if not usages:
        return {"timestamp": timestamp(), "window": "0s"}
    window = max(each.window_s for each in usages.values())
    return {"timestamp": timestamp(min(each.end_wall_s for each in usages.values())), "window": f"{window:.3f}s"}


def _told(metadata: Json, usages: Mapping[str, Usage]) -> PodUsage:
    return PodUsage(
        namespace=metadata["namespace"],
        name=metadata["name"],
        # The controller takes each container's in whole thousandths, rounded up.
        cpu_milli=sum(math.ceil(round(each.cpu_milli, 6)) for each in usages.values()),
        memory_bytes=sum(each.memory_bytes // 1024 * 1024 for each in usages.values()),
        end_wall_s=min(each.end_wall_s for each in usages.values()),
        window_s=max(each.window_s for each in usages.values()),
    )


def _discovery(words: list[str]) -> Json | None:
    group, version = _VERSION.split("/")
    entry = {"groupVersion": _VERSION, "version": version}
    about = {"name": group, "versions": [entry], "preferredVersion": entry}
    if words == ["apis"]:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [about]}
    if words == ["apis", group]:
        return {"kind": "APIGroup", "apiVersion": "v1", **about}
    if words == ["apis", group, version]:
        verbs = ["get", "list"]
        resources = [
            {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": verbs},
            {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": verbs},
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": _VERSION, "resources": resources}
    return None


def _status(status: HTTPStatus, reason: str, message: str) -> Json:
    about: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**about, "message": message, "reason": reason, "code": status.value}

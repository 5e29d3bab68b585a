"""Manifests of pods for the tests, and a kubelet to run them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from seawall.cluster import Access, ApiError
from seawall.cluster.kubelet import command_line
from seawall.cluster.kubelet.api import Api

Json = dict[str, Any]
Found = TypeVar("Found")
WORKER = Path(__file__).with_name("cluster_worker.py")
POD_IP: Json = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
SERVED_AT = "seawall.dev/load-balancer-address"


class KubeletProcess:
    """A kubelet of the tests; `events` is the journal's folder."""

    def __init__(self, access: Access, folder: Path) -> None:
        self.access = access
        self.events = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = command_line(self.access.state, "--nodes", "2", "--backoff-scale", "0.1", "--eager-probe", "0.05")
        environment = {**os.environ, "SEAWALL_EVENTS": str(self.events)}
        with (self.events / "kubelet.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=environment
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.events / "kubelet.log").read_text()
        self.ready = json.loads(line)

    def end(self, *, kill: bool = False) -> int:
        """End it and return its exit code. Idempotent."""
        assert self.process is not None
        assert self.process.stdout is not None
        (self.process.kill if kill else self.process.terminate)()
        self.process.stdout.close()
        return self.process.wait(15)

    def journal(self, kind: str, **wanted: Any) -> list[Json]:
        """Return the events of a kind so far that have these fields."""
        texts = [path.read_text("utf-8") for path in sorted(self.events.glob("events-kubelet-*.jsonl"))]
        found = [json.loads(line) for text in texts for line in text.split("\n")[:-1]]
        return [each for each in found if each["kind"] == kind and wanted.items() <= each.items()]


def container(*arguments: str, pre_stop: bool = True, **fields: Any) -> Json:
    """Return a container that runs the worker."""
    command = ["python", str(WORKER), "--host", "$(POD_IP)", "--port", "8000", *arguments]
    made: Json = {
        "name": "web",
        "image": "none",
        "command": command,
        "env": [POD_IP],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "200m"}},
        **fields,
    }
    if pre_stop:
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": 1}}}
    return made


def pod(name: str, *containers: Json, annotations: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """Return a pod whose label `app` is its name."""
    about = {"name": name, "namespace": "default", "labels": {"app": name}, "annotations": dict(annotations or {})}
    whole = {"terminationGracePeriodSeconds": 10, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": whole}


def deployment(name: str, replicas: int, *containers: Json, annotations: Mapping[str, str] | None = None) -> Json:
    """Return a Deployment of such pods."""
    template = pod(name, *containers, annotations=annotations)
    metadata = {key: template["metadata"][key] for key in ("labels", "annotations")}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": metadata, "spec": template["spec"]},
    }
    about = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}


def service(name: str, port: str = "http") -> Json:
    """Return a Service of such pods that asks for the load balancer."""
    about = {"name": name, "namespace": "default", "annotations": {"seawall.dev/load-balancer": "http"}}
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec}


async def pods_of(api: Api, name: str) -> list[Json]:
    """Return the pods of an app."""
    items: list[Json] = (await api.get(f"/api/v1/namespaces/default/pods?labelSelector=app%3D{name}"))["items"]
    return items


def is_ready(each: Json) -> bool:
    """Whether a pod is ready and stays."""
    conditions = {one["type"]: one["status"] for one in each.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in each["metadata"]


async def ready_pods(api: Api, name: str, count: int) -> list[Json]:
    """Wait until an app has so many ready pods, and no others, and return them."""

    async def all_there() -> list[Json] | None:
        found = await pods_of(api, name)
        return found if len(found) == count and all(map(is_ready, found)) else None

    return await eventually(all_there, f"{count} ready pods of {name}")


async def served_at(api: Api, name: str) -> str:
    """Wait until the Service is served and return where."""

    async def known() -> str | None:
        found = await api.get(f"/api/v1/namespaces/default/services/{name}")
        return found["metadata"]["annotations"].get(SERVED_AT)

    return f"http://{await eventually(known, f'the address of {name}')}"


async def answering(base: str) -> None:
    """Wait until the load balancer gives a request to a pod."""

    async def yes() -> bool:
        return (await get(base)) == 200

    await eventually(yes, f"an answer from {base}")


async def get(url: str) -> int:
    """GET on a new connection; the status, 0 when there is no answer."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return (await client.get(url)).status_code
    except httpx.HTTPError:
        return 0


async def eventually(check: Callable[[], Awaitable[Found | None]], what: str, within_s: float = 30.0) -> Found:
    """Ask until there is something and return that."""
    limit = time.monotonic() + within_s
    while True:
        try:
            found = await check()
        except ApiError:
            found = None
        if found:
            return found
        assert time.monotonic() < limit, f"{what} was not there after {within_s:g} s"
        await asyncio.sleep(0.02)

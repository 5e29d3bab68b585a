"""
The same metric histories to the real HPA controller and to the model, side by side.

Each HPA scales a Deployment of scripted pods. What the controller was told at each sync is in the metrics server's
journal, what it then wanted in the HPA's status; the model is told the same, and goes on from its own decisions.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from seawall.cluster import Client
from seawall.hpa import ControllerOptions, Decision, HpaSpec, Memory, PodView, sync

Json = dict[str, Any]

REQUEST_MILLI = 20
OPTIONS = ControllerOptions(sync_period_s=2.0, downscale_stabilization_s=10.0)
_LOOK_EVERY_S = 0.1
_SELECTOR = "app="
_SCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """One sync of one HPA: what the controller wanted after it, and the model."""

    name: str
    number: int
    told: str
    controller: int
    model: int


def behavior(draw: random.Random) -> Json | None:
    """Return rules for scaling, or None for the controller's own."""
    if draw.random() < 0.3:
        return None

    def rules(windows: list[int]) -> Json:
        policies = [
            {
                "type": draw.choice(["Pods", "Percent"]),
                "value": draw.choice([1, 2, 4, 50, 100]),
                "periodSeconds": period,
            }
            for period in draw.sample([2, 5, 10, 15], draw.randint(1, 2))
        ]
        select = draw.choices(["Max", "Min", "Disabled"], [5, 3, 1])[0]
        return {"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": draw.choice(windows)}

    return {"scaleUp": rules([0, 0, 3]), "scaleDown": rules([0, 4, 8])}


def script(draw: random.Random, seconds: float, origin_s: float) -> Json:
    """Return what each pod of one HPA uses over time, and when it is not ready or not measured."""
    steps, at_s = [], 0.0
    while at_s < seconds:
        steps.append([round(at_s, 2), draw.choice([1, 4, 6, 9, 10, 11, 13, 18, 25, 40])])
        at_s += draw.uniform(3, 9)
    made: Json = {"origin_s": origin_s, "cpu_milli": steps, "start_s": 0.05, "ready_s": draw.choice([0.1, 0.1, 2.5])}
    if draw.random() < 0.3:
        start_s = draw.uniform(4, max(5, seconds - 8))
        made["missing"] = [[round(start_s, 2), round(start_s + 5, 2)]]
    if draw.random() < 0.3:
        start_s = draw.uniform(4, max(5, seconds - 8))
        made["unready"] = [[round(start_s, 2), round(start_s + 4, 2)]]
    return made


def objects(name: str, scaler: Json, pod_script: Json, replicas: int) -> list[Json]:
    """Return a Deployment of scripted pods and its HPA."""
    about = {"name": name, "namespace": "default"}
    container = {"name": "c", "image": "none", "resources": {"requests": {"cpu": f"{REQUEST_MILLI}m"}}}
    template = {
        "metadata": {"labels": {"app": name}, "annotations": {"seawall.dev/scripted": json.dumps(pod_script)}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}
    return [
        deployment,
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": about, "spec": scaler},
    ]


def scaler_of(name: str, draw: random.Random) -> Json:
    """Return the spec of an HPA."""
    target = {"type": "Utilization", "averageUtilization": 50}
    made: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": draw.choice([1, 1, 2]),
        "maxReplicas": draw.choice([4, 6, 8]),
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    rules = behavior(draw)
    return made if rules is None else {**made, "behavior": rules}


async def compared(client: Client, events: Path, count: int, syncs: int, seed: int) -> list[Sync]:
    """Run `count` HPAs for `syncs` syncs each, and return each sync of each."""
    draw = random.Random(seed)
    seconds = syncs * OPTIONS.sync_period_s + 6
    names = [f"history-{number:02}" for number in range(1, count + 1)]
    scalers = {name: scaler_of(name, draw) for name in names}
    origin_s = time.time() + 4
    made = [
        each
        for name in names
        for each in objects(name, scalers[name], script(draw, seconds, origin_s), scalers[name]["minReplicas"])
    ]
    looks: list[tuple[float, dict[str, Json], dict[str, list[Json]]]] = []
    until_s = time.monotonic() + seconds + 0.2 * count

    async def look() -> None:
        while time.monotonic() < until_s:
            asked_s = time.time()
            pods, hpas = await asyncio.gather(client.get("/api/v1/namespaces/default/pods"), client.get(_SCALERS))
            looks.append((asked_s, _by_name(hpas["items"]), _by_app(pods["items"])))
            await asyncio.sleep(_LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        for each in made:
            await client.apply([each])
        await looking
    finally:
        looking.cancel()
        for each in reversed(made):
            await client.delete(each)
    answers = list(_answers(events))
    return [each for name in names for each in _compared(name, scalers[name], answers, looks, syncs)]


def _compared(
    name: str,
    scaler: Json,
    answers: list[Json],
    looks: list[tuple[float, dict[str, Json], dict[str, list[Json]]]],
    syncs: int,
) -> Iterator[Sync]:
    spec = HpaSpec.from_manifest({"spec": scaler})
    mine = [answer for answer in answers if answer["selector"] == f"{_SELECTOR}{name}"]
    memory, current = Memory(), spec.min_replicas
    for number, (answer, after) in enumerate(itertools.pairwise(mine)):
        at_s = answer["wall"]
        before = [look[2].get(name, []) for look in looks if look[0] <= at_s][-1:]
        later = [look[2].get(name, []) for look in looks if look[0] > at_s][:1]
        states = [look[1][name] for look in looks if at_s + 0.3 < look[0] < after["wall"] and name in look[1]]
        # While it has never had a metric the controller's status says 0, and leaves the replicas as they are.
        wanted = (states[-1].get("status", {}).get("desiredReplicas", 0) if states else 0) or spec.min_replicas
        # Of a pod whose state changes beside a sync nobody can tell which the controller's cache had: either counts.
        decisions = [_decided(spec, memory, current, pods, answer) for pods in (*before, *later)]
        if not decisions:
            return
        decision = next((each for each in decisions if each.desired == wanted), decisions[0])
        memory, current = decision.memory, decision.desired
        if not states or number >= syncs:
            continue
        told = " ".join(f"{pod['cpu_milli']}m" for pod in answer["pods"]) or "nothing"
        yield Sync(name=name, number=number, told=told, controller=wanted, model=current)


def _decided(spec: HpaSpec, memory: Memory, current: int, pods: list[Json], answer: Json) -> Decision:
    views = [_view(pod, answer) for pod in pods] if answer["pods"] else None
    return sync(spec, OPTIONS, memory, current, views, answer["wall"])


def _view(pod: Json, answer: Json) -> PodView:
    status = pod.get("status", {})
    usage = next((each for each in answer["pods"] if each["name"] == pod["metadata"]["name"]), None)
    ready = next((each for each in status.get("conditions", []) if each["type"] == "Ready"), None)
    return PodView(
        name=pod["metadata"]["name"],
        request_milli=REQUEST_MILLI,
        usage_milli=None if usage is None else usage["cpu_milli"],
        # The API has whole seconds.
        sampled_at_s=0.0 if usage is None else float(int(usage["end_wall_s"])),
        window_s=0.0 if usage is None else usage["window_s"],
        phase=status.get("phase", "Pending"),
        is_deleting="deletionTimestamp" in pod["metadata"],
        started_at_s=_seconds(status.get("startTime")),
        ready=None if ready is None else ready["status"] == "True",
        ready_changed_at_s=0.0 if ready is None else _seconds(ready["lastTransitionTime"]) or 0.0,
    )


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _answers(events: Path) -> Iterator[Json]:
    for path in sorted(events.glob("events-kubelet-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            event = json.loads(line)
            if event["kind"] == "metrics_answer" and "kube-controller-manager" in event["asked_by"]:
                yield event


def _by_name(items: list[Json]) -> dict[str, Json]:
    return {each["metadata"]["name"]: each for each in items}


def _by_app(items: list[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for each in items:
        found.setdefault(each["metadata"].get("labels", {}).get("app", ""), []).append(each)
    return found

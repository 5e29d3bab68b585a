"""The kubelet on a real control plane: its pods are real processes, and go through what Kubernetes says."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster_pods import (
    POD_IP,
    KubeletProcess,
    answering,
    container,
    deployment,
    eventually,
    get,
    is_ready,
    pod,
    pods_of,
    ready_pods,
    served_at,
    service,
)

from faults.pids import sighting
from seawall.cluster import Access, ApiError
from seawall.cluster.kubelet import Orders, write_orders
from seawall.cluster.kubelet.api import Api

pytestmark = pytest.mark.real

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def kubelet(cluster: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeletProcess]:
    """A kubelet for the module's cluster."""
    made = KubeletProcess(cluster, tmp_path_factory.mktemp("events"))
    made.start()
    yield made
    assert made.end() == 0, (made.events / "kubelet.log").read_text()
    assert (made.events / "kubelet.log").read_text() == ""


@pytest.fixture
async def api(kubelet: KubeletProcess) -> AsyncIterator[Api]:
    """A client of the cluster; what a test left in `default` is removed after it."""
    async with Api(kubelet.access) as client:
        yield client
        for kind in ("/apis/apps/v1/namespaces/default/deployments", PODS):
            for each in (await client.get(kind))["items"]:
                with contextlib.suppress(ApiError):
                    await client.remove(f"{kind}/{each['metadata']['name']}", {"gracePeriodSeconds": 0})

        async def empty() -> bool:
            return not (await client.get(PODS))["items"]

        await eventually(empty, "an empty namespace")


async def container_status(api: Api, name: str) -> dict[str, Any]:
    """Return the status of the first container of a pod, empty while there is none."""
    found = (await api.get(f"{PODS}/{name}")).get("status", {}).get("containerStatuses")
    return found[0] if found else {}


async def events_of(api: Api, name: str) -> list[tuple[str, str]]:
    """Return the Events of a pod as (reason, message)."""
    query = f"fieldSelector=involvedObject.name%3D{name}"
    items = (await api.get(f"/api/v1/namespaces/default/events?{query}"))["items"]
    return [(each["reason"], each["message"]) for each in items]


async def stream(base: str) -> str:
    """Read a stream to its end and say `whole` or what went wrong."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=15) as client:
            answer = await client.get(f"{base}/stream")
    except httpx.HTTPError as error:
        return repr(error)
    return "whole" if answer.status_code == 200 and answer.text.endswith("chunk 9") else f"HTTP {answer.status_code}"


async def test_a_deployment_runs_is_ready_and_is_served(kubelet: KubeletProcess, api: Api) -> None:
    """Three replicas are processes, ready, told in the journal, and served by nginx under addresses never dialled."""
    began = time.monotonic()
    await api.apply([service("web"), deployment("web", 3, container())])
    pods = await ready_pods(api, "web", 3)
    seconds = time.monotonic() - began
    base = await served_at(api, "web")
    await answering(base)
    print(f"\n3 pods ready {seconds:.2f} s after the POST, served after {time.monotonic() - began:.2f} s")
    assert all(each["status"]["podIP"].startswith("10.244.") for each in pods)
    addresses = {each["metadata"]["annotations"]["seawall.dev/address"] for each in pods}
    assert len(addresses) == 3
    assert all(address.startswith("127.") for address in addresses)
    slices = (await api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"))["items"]
    told = {address for each in slices for one in each.get("endpoints") or () for address in one["addresses"]}
    assert {each["status"]["podIP"] for each in pods} <= told
    for each in pods:
        uid = each["metadata"]["uid"]
        (start,) = kubelet.journal("pod", uid=uid, action="start")
        assert sighting(start["pid"]) is not None
        assert kubelet.journal("pod", uid=uid, action="ready")
    assert {node["metadata"]["name"] for node in (await api.get("/api/v1/nodes"))["items"]} == {
        "seawall-1",
        "seawall-2",
    }


async def test_a_container_gets_the_environment_and_the_files_of_its_spec(kubelet: KubeletProcess, api: Api) -> None:
    """ConfigMap, Secret, downward fields, resources and mounted files reach the process; the pod succeeds."""
    secret = {"token": base64.b64encode(b"s3cret").decode()}
    about = {"namespace": "default"}
    await api.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {**about, "name": "c"},
                "data": {"A": "1", "f": "hello"},
            },
            {"apiVersion": "v1", "kind": "Secret", "metadata": {**about, "name": "s"}, "data": secret},
        ]
    )
    shown = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], open(sys.argv[2]).read()]))"
    spec = {
        "name": "one",
        "image": "none",
        "command": ["python", "-c", shown],
        "args": ["$(POD_IP):$(UNKNOWN):$$(A)", "/etc/app/f"],
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "absent", "optional": True}}],
        "env": [
            POD_IP,
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "BOTH", "value": "$(A)-$(TOKEN)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
        ],
        "resources": {"requests": {"cpu": "150m"}},
        "volumeMounts": [{"name": "files", "mountPath": "/etc/app"}],
    }
    volumes = [{"name": "files", "configMap": {"name": "c"}}]
    await api.create(PODS, pod("env", spec, restartPolicy="Never", volumes=volumes))

    async def over() -> bool:
        return (await api.get(f"{PODS}/env"))["status"]["phase"] == "Succeeded"

    await eventually(over, "the pod's success")
    log = kubelet.access.state / "kubelet" / "logs" / "default_env_one.log"
    variables, arguments, text = json.loads(log.read_text())
    address = (await api.get(f"{PODS}/env"))["metadata"]["annotations"]["seawall.dev/address"]
    assert arguments[0] == f"{address}:$(UNKNOWN):$(A)"
    assert text == "hello"
    wanted = {"A": "1", "TOKEN": "s3cret", "BOTH": "1-s3cret", "NAME": "env", "CPU": "150", "POD_IP": address}
    assert wanted.items() <= variables.items()
    assert (await container_status(api, "env"))["state"]["terminated"]["reason"] == "Completed"


async def test_a_crash_is_counted_and_backs_off(api: Api) -> None:
    """A container that crashes is restarted at once, then after a back-off; status and Events say so."""
    await api.create(PODS, pod("crash", container("--crash-after", "0.2")))

    async def backing_off() -> dict[str, Any] | None:
        found = await container_status(api, "crash")
        return found if found.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff" else None

    found = await eventually(backing_off, "CrashLoopBackOff")
    assert found["restartCount"] >= 1
    assert found["lastState"]["terminated"]["exitCode"] == 7
    count = found["restartCount"]

    async def again() -> bool:
        return (await container_status(api, "crash"))["restartCount"] > count

    await eventually(again, "another restart")
    reasons = {reason for reason, _ in await events_of(api, "crash")}
    assert {"Created", "Started", "BackOff"} <= reasons


async def test_a_failing_liveness_probe_restarts_the_container(api: Api) -> None:
    """When /healthz turns bad the process is ended and another one started in the same pod, which is ready again."""
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2}
    await api.create(PODS, pod("sick", container(pre_stop=False, livenessProbe=probe)))
    (made,) = await ready_pods(api, "sick", 1)
    assert await get(f"http://{made['metadata']['annotations']['seawall.dev/address']}:8000/sicken") == 200

    async def well_again() -> dict[str, Any] | None:
        found = await container_status(api, "sick")
        return found if found["restartCount"] == 1 and found["ready"] else None

    found = await eventually(well_again, "the restart")
    assert found["lastState"]["terminated"]["exitCode"] == 0
    told = await events_of(api, "sick")
    assert any(reason == "Killing" and "failed liveness probe" in message for reason, message in told), told
    assert any(reason == "Unhealthy" and "statuscode: 503" in message for reason, message in told), told


async def test_a_graceful_deletion_cuts_no_stream(kubelet: KubeletProcess, api: Api) -> None:
    """Streams open through nginx when their pod is deleted are whole, and the process ends with 0."""
    await api.apply([service("graceful"), deployment("graceful", 2, container())])
    pods = await ready_pods(api, "graceful", 2)
    base = await served_at(api, "graceful")
    await answering(base)
    streams = [asyncio.create_task(stream(base)) for _ in range(8)]
    await asyncio.sleep(0.3)
    gone = pods[0]["metadata"]
    await api.remove(f"{PODS}/{gone['name']}", {})
    assert await asyncio.gather(*streams) == ["whole"] * 8

    async def forgotten() -> bool:
        return bool(kubelet.journal("pod", uid=gone["uid"], action="gone"))

    await eventually(forgotten, "the pod's end")
    assert [each["code"] for each in kubelet.journal("pod", uid=gone["uid"], action="exit")] == [0]
    await ready_pods(api, "graceful", 2)


async def test_a_forced_deletion_gives_two_seconds(kubelet: KubeletProcess, api: Api) -> None:
    """At grace 0 the object goes at once; a process that ignores SIGTERM is killed after two seconds."""
    await api.create(PODS, pod("forced", container("--ignore-sigterm", pre_stop=False)))
    (made,) = await ready_pods(api, "forced", 1)
    uid = made["metadata"]["uid"]
    (start,) = kubelet.journal("pod", uid=uid, action="start")
    began = time.monotonic()
    await api.remove(f"{PODS}/forced", {"gracePeriodSeconds": 0})

    async def gone() -> bool:
        return not await pods_of(api, "forced")

    await eventually(gone, "the object's end", 2.0)
    assert sighting(start["pid"]) is not None

    async def dead() -> bool:
        return sighting(start["pid"]) is None

    await eventually(dead, "the process's end")
    seconds = time.monotonic() - began
    print(f"\ndead {seconds:.2f} s after a forced deletion")
    assert 1.9 < seconds < 3.5
    await asyncio.sleep(0.1)
    (end,) = kubelet.journal("pod", uid=uid, action="exit")
    assert end["code"] == -signal.SIGKILL


async def test_a_forced_deletion_can_be_told_to_kill_at_once(kubelet: KubeletProcess, api: Api) -> None:
    """Under the order `at-once` a process is killed at grace 0 without a SIGTERM, also one that would heed it."""
    await api.create(PODS, pod("struck", container()))
    (made,) = await ready_pods(api, "struck", 1)
    write_orders(kubelet.access.state, Orders(forced_deletion="at-once"))
    try:
        await api.remove(f"{PODS}/struck", {"gracePeriodSeconds": 0})

        async def exits() -> list[dict[str, Any]]:
            return kubelet.journal("pod", uid=made["metadata"]["uid"], action="exit")

        (end,) = await eventually(exits, "the process's end")
    finally:
        write_orders(kubelet.access.state, Orders())
    assert end["code"] == -signal.SIGKILL


async def test_a_readiness_probe_that_says_no_keeps_a_pod_out(api: Api) -> None:
    """A pod whose /readyz never says yes runs, is never ready, gets no traffic, and its Events say why."""
    await api.apply([service("lying"), deployment("lying", 1, container("--not-ready", pre_stop=False))])
    base = await served_at(api, "lying")

    async def told() -> bool:
        found = await pods_of(api, "lying")
        name = found[0]["metadata"]["name"] if found else ""
        return any("statuscode: 503" in message for _, message in await events_of(api, name))

    await eventually(told, "the Event")
    (made,) = await pods_of(api, "lying")
    assert made["status"]["phase"] == "Running"
    assert not is_ready(made)
    assert await get(base) == 503


async def test_a_rolling_update_loses_nothing(kubelet: KubeletProcess, api: Api) -> None:
    """While every pod is replaced, each with a preStop of a second, all streams are whole, all requests answered."""
    await api.apply([service("rolling"), deployment("rolling", 2, container())])
    before = {each["metadata"]["uid"] for each in await ready_pods(api, "rolling", 2)}
    base = await served_at(api, "rolling")
    await answering(base)
    streams: list[asyncio.Task[str]] = []
    requests: list[asyncio.Task[int]] = []

    async def load() -> None:
        while True:
            streams.append(asyncio.create_task(stream(base)))
            requests.extend(asyncio.create_task(get(base)) for _ in range(3))
            await asyncio.sleep(0.2)

    loading = asyncio.create_task(load())
    changed = container(pre_stop=True, env=[POD_IP, {"name": "VERSION", "value": "2"}])
    await api.apply([deployment("rolling", 2, changed)])

    async def replaced() -> bool:
        found = await pods_of(api, "rolling")
        return (
            len(found) == 2 and all(map(is_ready, found)) and not before & {each["metadata"]["uid"] for each in found}
        )

    await eventually(replaced, "two new pods", 60)
    loading.cancel()
    outcomes = await asyncio.gather(*streams)
    statuses = await asyncio.gather(*requests)
    print(f"\n{outcomes.count('whole')} of {len(outcomes)} streams, {statuses.count(200)} of {len(statuses)} requests")
    assert set(outcomes) == {"whole"}
    assert set(statuses) == {200}
    for uid in before:
        (stop,), (end,) = (kubelet.journal("pod", uid=uid, action=action) for action in ("stop", "exit"))
        assert end["mono_ns"] - stop["mono_ns"] > 1e9, "preStop was not waited for"


async def test_what_is_not_allowed_is_not_run(api: Api) -> None:
    """A command that is on no list is refused in words, and the pod stays Pending."""
    spec = {"name": "shell", "image": "none", "command": ["sh", "-c", "touch /tmp/never"]}
    await api.create(PODS, pod("shell", spec))

    async def refused() -> str | None:
        state = (await container_status(api, "shell")).get("state", {})
        return (state.get("waiting") or {}).get("message")

    assert "'sh' is not allowed" in await eventually(refused, "the refusal")
    assert (await api.get(f"{PODS}/shell"))["status"]["phase"] == "Pending"


async def test_a_scripted_pod_follows_its_script(kubelet: KubeletProcess, api: Api) -> None:
    """It is ready when its script says so, with no process, and is deleted like any other."""
    script = {"start_s": 0.1, "ready_s": 0.1, "unready": [[1.5, 60]], "cpu_milli": [[0, 70]]}
    annotations = {"seawall.dev/scripted": json.dumps(script)}
    await api.create(PODS, pod("scripted", {"name": "web", "image": "none"}, annotations=annotations))
    (made,) = await ready_pods(api, "scripted", 1)

    async def unready() -> bool:
        return not is_ready((await pods_of(api, "scripted"))[0])

    await eventually(unready, "its being unready")
    assert not kubelet.journal("pod", uid=made["metadata"]["uid"], action="start")
    await api.remove(f"{PODS}/scripted", {})

    async def gone() -> bool:
        return not await pods_of(api, "scripted")

    await eventually(gone, "its end")


def test_the_state_folder_is_for_its_owner_only(kubelet: KubeletProcess) -> None:
    """What the kubelet keeps, Secrets among it, nobody else can read."""
    folder = kubelet.access.state / "kubelet"
    assert folder.is_dir()
    assert (folder.parent.stat().st_mode & 0o077) == 0
    assert Path(folder, "nginx").stat().st_mode & 0o077 == 0


async def test_pods_end_with_a_killed_kubelet_and_come_back_with_the_next(kubelet: KubeletProcess, api: Api) -> None:
    """SIGKILL on the kubelet ends its processes; the next one starts each again in its pod and serves it."""
    await api.apply([service("again"), deployment("again", 2, container())])
    pods = await ready_pods(api, "again", 2)
    base = await served_at(api, "again")
    uids = {each["metadata"]["uid"] for each in pods}
    ids = [each["pid"] for uid in uids for each in kubelet.journal("pod", uid=uid, action="start")]
    kubelet.end(kill=True)  # the last test of the module: there is no kubelet after it

    async def all_dead() -> bool:
        return all(sighting(each) is None for each in ids)

    await eventually(all_dead, "the end of its processes", 5)
    began = time.monotonic()
    kubelet.start()
    after = await ready_pods(api, "again", 2)
    print(f"\nready again {time.monotonic() - began:.2f} s after the start of the next kubelet")
    assert {each["metadata"]["uid"] for each in after} == uids
    assert {each["status"]["containerStatuses"][0]["restartCount"] for each in after} == {1}
    assert {each["status"]["podIP"] for each in after} == {each["status"]["podIP"] for each in pods}
    assert await served_at(api, "again") == base
    await answering(base)
    assert kubelet.end() == 0, (kubelet.events / "kubelet.log").read_text()
    assert not any(map(is_ready, await pods_of(api, "again")))

"""The control plane on its own: real etcd, API server, controllers and Chaos Mesh, and the manifests they are asked."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from seawall.cluster import Access, ApiError, Client
from seawall.cluster.background import status, up
from seawall.cluster.client import wait_until
from seawall.paths import k8s_dir

pytestmark = pytest.mark.real

PARTS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "chaos-controller-manager"]
POD_KILL = {
    "apiVersion": "chaos-mesh.org/v1alpha1",
    "kind": "PodChaos",
    "metadata": {"name": "kill", "namespace": "default"},
    "spec": {"action": "pod-kill", "mode": "one", "selector": {"labelSelectors": {"app": "backend"}}},
}


def objects_in(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    yaml: Any = YAML(typ="safe", pure=True)
    return [each for each in yaml.load_all(path.read_bytes()) if each is not None]


def rendered(folder: Path, access: Access) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder; kubectl has it built in."""
    command = [sys.executable, "-m", "seawall", "cluster", "kubectl", "--state", str(access.state), "--"]
    done = subprocess.run([*command, "kustomize", str(folder)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    yaml: Any = YAML(typ="safe", pure=True)
    return list(yaml.load_all(done.stdout))


def test_all_parts_are_up_in_time_and_in_little_memory(cluster: Access) -> None:
    """Five parts answer; the start took at most 10 s (60 where the machine is crowded); all take at most 900 MiB."""
    now = status(cluster.state)
    assert [part.name for part in now.parts] == PARTS
    assert now.state == "up", now
    assert now.started_in_s is not None
    print(f"\nup after {now.started_in_s:.1f} s, {now.memory_mib:.0f} MiB")
    for part in now.parts:
        print(f"  {part.name}: {(part.memory_kib or 0) / 1024:.0f} MiB")
    crowded = os.getloadavg()[0] > (os.cpu_count() or 1)
    assert now.started_in_s <= (60 if crowded else 10)
    assert 100 < now.memory_mib <= 900


def test_up_again_starts_nothing(cluster: Access) -> None:
    """A cluster that is up is left as it is."""
    before = status(cluster.state)
    assert up(cluster.state, tell=print) is False
    assert [part.pid for part in status(cluster.state).parts] == [part.pid for part in before.parts]


def test_secrets_are_for_the_owner_only(cluster: Access) -> None:
    """The folder is 0700; tokens and keys are 0600; no log and no kubeconfig holds the token."""
    assert stat.S_IMODE(cluster.state.stat().st_mode) == 0o700
    secret = [cluster.token_path, cluster.kubeconfig, *cluster.state.rglob("*.key"), *cluster.state.rglob("*.csv")]
    loose = [path for path in secret if stat.S_IMODE(path.stat().st_mode) != 0o600]
    assert len(secret) > 10
    assert not loose
    told = [path for path in (cluster.kubeconfig, *cluster.logs.iterdir()) if cluster.token in path.read_text("utf-8")]
    assert not told
    assert cluster.token not in repr(cluster)


async def test_nobody_gets_in_without_a_credential(cluster: Access) -> None:
    """The API server refuses requests with no token and with a wrong one, and etcd those with no certificate."""
    trust = ssl.create_default_context(cafile=str(cluster.ca_path))
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await http.get(f"{cluster.api_url}/api/v1/namespaces", headers=headers)
            assert answer.status_code == 401
    etcd = ssl.create_default_context(cafile=str(cluster.state / "pki" / "etcd-ca.crt"))
    async with httpx.AsyncClient(verify=etcd, trust_env=False) as http:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await http.get(f"https://127.0.0.1:{cluster.ports['etcd']}/health")


def test_everything_listens_on_loopback_only(cluster: Access) -> None:
    """No part opens a port that another machine could reach."""
    open_ports: dict[int, list[str]] = {}
    for part in status(cluster.state).parts:
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{part.pid}/net/{table}").read_text().splitlines()[1:]:
                local, _, state = line.split()[1:4]
                if state == "0A":
                    address, port = local.split(":")
                    open_ports.setdefault(int(port, 16), []).append(address)
    for name, port in cluster.ports.items():
        assert open_ports[port] == ["0100007F"] * len(open_ports[port]), name


@pytest.mark.parametrize("folder", [".", "base", "overlays/minikube"])
async def test_the_manifests_are_what_the_api_server_takes(cluster: Access, folder: str) -> None:
    """A server-side dry run accepts all that kustomize renders, with no field that it does not know."""
    objects = rendered(k8s_dir() / folder, cluster)
    async with Client(cluster) as client:
        made = await client.apply(objects, dry_run=True, strict=True)
    kinds = {each["kind"] for each in made}
    assert {"Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "StatefulSet"} <= kinds
    assert ("HorizontalPodAutoscaler" in kinds) == (folder == ".")


async def test_the_autoscaler_is_as_promised(cluster: Access) -> None:
    """`backend-scaler` scales the Deployment `backend` from 1 to 10 at half of the CPU that its pods ask for."""
    async with Client(cluster) as client:
        (made,) = await client.apply(objects_in(k8s_dir() / "hpa.yaml"), dry_run=True, strict=True)
    spec = made["spec"]
    assert (made["apiVersion"], made["metadata"]["name"]) == ("autoscaling/v2", "backend-scaler")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 10)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"}
    assert spec["metrics"][0]["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50},
    }


@pytest.mark.parametrize("file", ["pod-kill", "pod-failure", "network-delay", "network-loss"])
async def test_chaos_mesh_takes_its_manifests(cluster: Access, file: str) -> None:
    """Chaos Mesh's own webhooks accept each of them."""
    async with Client(cluster) as client:
        made = await client.apply(objects_in(k8s_dir() / "chaos" / f"{file}.yaml"), dry_run=True, strict=True)
    assert [each["metadata"]["namespace"] for each in made] == ["default"]
    if file == "pod-kill":
        assert (made[0]["kind"], made[0]["spec"]["schedule"]) == ("Schedule", "@every 1m")


async def test_chaos_mesh_fills_in_and_refuses(cluster: Access) -> None:
    """A selector that names no namespace gets its own; a mode with a value that is no number is refused."""
    wrong = json.loads(json.dumps(POD_KILL))
    wrong["spec"] |= {"mode": "fixed", "value": "some"}
    async with Client(cluster) as client:
        (made,) = await client.apply([POD_KILL], dry_run=True)
        assert made["spec"]["selector"]["namespaces"] == ["default"]
        with pytest.raises(ApiError, match="denied the request"):
            await client.apply([wrong], dry_run=True)


async def test_the_controllers_work(cluster: Access) -> None:
    """A Deployment gets its pods, the scheduler looks at them, and they are gone with it."""
    pod = {"containers": [{"name": "c", "image": "none"}]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "idle", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "idle"}},
            "template": {"metadata": {"labels": {"app": "idle"}}, "spec": pod},
        },
    }
    path = "/api/v1/namespaces/default/pods?labelSelector=app%3Didle"
    async with Client(cluster) as client:

        async def judged(count: int) -> bool:
            pods = (await client.get(path))["items"]
            reasons = [each["reason"] for pod in pods for each in pod["status"].get("conditions", [])]
            return len(pods) == count and reasons == ["Unschedulable"] * count

        await client.apply([deployment])
        await wait_until(lambda: judged(2), what="two pods that no node can take", deadline_s=20)
        await client.delete(deployment)
        await wait_until(lambda: judged(0), what="no pod", deadline_s=20)

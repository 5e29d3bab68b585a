"""Metrics from real CPU time, the load balancer's nginx, and real gateways behind it, on a real control plane."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psutil
import pytest
from cluster_pods import (
    POD_IP,
    KubeletProcess,
    answering,
    container,
    deployment,
    eventually,
    get,
    pods_of,
    ready_pods,
    served_at,
    service,
)

from seawall.answers import marked
from seawall.cluster import Access, ApiError
from seawall.cluster.kubelet import Orders, write_orders
from seawall.cluster.kubelet.api import Api

pytestmark = pytest.mark.real

METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3D"
PROVIDERS = ("gemini", "claude", "openai", "local")


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
    """A client of the cluster; its Deployments are removed after the test."""
    async with Api(kubelet.access) as client:
        yield client
        path = "/apis/apps/v1/namespaces/default/deployments"
        for each in (await client.get(path))["items"]:
            await client.remove(f"{path}/{each['metadata']['name']}", {"propagationPolicy": "Background"})

        async def empty() -> bool:
            return not (await client.get("/api/v1/namespaces/default/pods"))["items"]

        await eventually(empty, "an empty namespace")


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of four providers whose answers are 20 tokens in a second."""
    config = tmp_path_factory.mktemp("emulators") / "config.json"
    healthy = {"first_token_p50_s": 0.01, "first_token_p99_s": 0.02, "tokens_per_second": 20, "tokens": 20}
    config.write_text(json.dumps({"seed": 3, "providers": dict.fromkeys(PROVIDERS, healthy)}))
    command = [sys.executable, "-m", "seawall.emulators", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["ports"]
        process.terminate()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def cpu_milli(pod: dict[str, Any]) -> float:
    """Return the CPU that a PodMetrics tells, in thousandths of a core."""
    return sum(int(each["usage"]["cpu"].removesuffix("n")) / 1e6 for each in pod["containers"])


async def test_metrics_are_the_cpu_of_the_processes(kubelet: KubeletProcess, api: Api) -> None:
    """The busy pod is told at what its process used, the idle one at less; kubectl shows and the journal has it."""
    await api.apply([deployment("busy", 2, container(pre_stop=False))])
    busy, idle = await ready_pods(api, "busy", 2)
    (start,) = kubelet.journal("pod", uid=busy["metadata"]["uid"], action="start")
    url = f"http://{busy['metadata']['annotations']['seawall.dev/address']}:8000/burn"
    process = psutil.Process(start["pid"])

    def used() -> float:
        times = process.cpu_times()
        return times.user + times.system

    async def load() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                await asyncio.gather(client.get(url), asyncio.sleep(0.05))

    loading = asyncio.create_task(load())
    await asyncio.sleep(1)
    before = used()
    began = time.monotonic()
    await asyncio.sleep(4.2)
    real = 1000 * (used() - before) / (time.monotonic() - began)
    told = {each["metadata"]["name"]: each for each in (await api.get(f"{METRICS}busy"))["items"]}
    loading.cancel()
    assert set(told) == {busy["metadata"]["name"], idle["metadata"]["name"]}
    mine = told[busy["metadata"]["name"]]
    print(f"\ntold {cpu_milli(mine):.0f}m, measured {real:.0f}m over 4 s, window {mine['window']}")
    assert cpu_milli(mine) == pytest.approx(real, rel=0.3, abs=15)
    assert cpu_milli(told[idle["metadata"]["name"]]) < 0.5 * cpu_milli(mine)
    assert 4.0 <= float(mine["window"].removesuffix("s")) < 6
    assert any(
        each["pods"] and each["selector"] == "app=busy" for each in kubelet.journal("metrics_answer", status=200)
    )
    command = [sys.executable, "-m", "seawall", "cluster", "--state", str(kubelet.access.state), "kubectl", "--"]
    done = await asyncio.to_thread(run, *command, "top", "pods")
    assert done.returncode == 0, done.stderr
    assert mine["metadata"]["name"] in done.stdout


async def test_an_outage_is_switched_on_and_off(kubelet: KubeletProcess, api: Api) -> None:
    """`unavailable` is 503, `empty` tells of no pod, and without orders all is as before; the journal has each."""
    await api.apply([deployment("out", 1, container(pre_stop=False))])
    await ready_pods(api, "out", 1)

    async def told() -> bool:
        return len((await api.get(f"{METRICS}out"))["items"]) == 1

    await eventually(told, "the first metrics")
    try:
        write_orders(kubelet.access.state, Orders(metrics_outage="unavailable"))
        with pytest.raises(ApiError) as caught:
            await api.get(f"{METRICS}out")
        assert caught.value.status_code == 503
        write_orders(kubelet.access.state, Orders(metrics_outage="empty"))
        assert (await api.get(f"{METRICS}out"))["items"] == []
    finally:
        write_orders(kubelet.access.state, Orders())
    assert await told()
    assert kubelet.journal("metrics_answer", status=503, selector="app=out")


async def test_only_the_api_server_is_answered(kubelet: KubeletProcess) -> None:
    """A client without the aggregation layer's certificate gets no answer, whatever it claims to be."""
    context = ssl.create_default_context(cafile=str(kubelet.access.ca_path))
    url = f"https://127.0.0.1:{kubelet.ready['metrics_port']}/apis/metrics.k8s.io/v1beta1/pods"
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url, headers={"X-Remote-User": "system:admin"})


async def test_nginx_comes_back_when_it_is_killed(kubelet: KubeletProcess, api: Api) -> None:
    """Its death is seen and told, another one serves on the same port, and follows what happens next."""
    await api.apply([service("killed"), deployment("killed", 1, container(pre_stop=False))])
    await ready_pods(api, "killed", 1)
    base = await served_at(api, "killed")
    await answering(base)
    pid = kubelet.journal("process", name="nginx", action="start")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)

    async def another() -> bool:
        return kubelet.journal("process", name="nginx", action="start")[-1]["pid"] != pid

    await eventually(another, "another nginx")
    await answering(base)
    assert kubelet.journal("process", name="nginx", action="exit")[-1]["code"] == -signal.SIGKILL
    await api.apply([deployment("killed", 0, container(pre_stop=False))])

    async def empty() -> bool:
        return await get(base) == 503

    await eventually(empty, "503 of a Service with no pod")


def gateway(ports: dict[str, int]) -> dict[str, Any]:
    """Return the container of a gateway that calls the emulators, as the manifests in `k8s/` have it."""
    names = {
        "gemini": "GEMINI_BASE_URL",
        "claude": "ANTHROPIC_BASE_URL",
        "openai": "OPENAI_BASE_URL",
        "local": "OLLAMA_HOST",
    }
    settings = {names[name]: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    settings |= dict.fromkeys(("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "a-key")
    return {
        "name": "backend",
        "image": "seawall:0.1.0",
        "command": ["seawall", "serve"],
        "args": ["--host", "$(POD_IP)", "--port", "8080"],
        "env": [POD_IP, *({"name": name, "value": value} for name, value in settings.items())],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "resources": {"requests": {"cpu": "200m"}},
    }


async def test_gateways_stream_through_nginx_while_one_is_deleted(api: Api, emulators: dict[str, int]) -> None:
    """Two real gateways serve real streams through nginx, chunk by chunk, and a deletion in the midst cuts none."""
    await api.apply([service("backend"), deployment("backend", 2, gateway(emulators))])
    began = time.monotonic()
    pods = await ready_pods(api, "backend", 2)
    base = await served_at(api, "backend")
    print(f"\n2 gateways ready {time.monotonic() - began:.2f} s after the POST")

    async def stream(number: int) -> tuple[int, bool, float]:
        prompt = marked(f"k{number}", "count to twenty")
        body = {"model": "gemini", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        arrivals: list[float] = []
        text = ""
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as client,
            client.stream("POST", f"{base}/v1/chat/completions", json=body) as answer,
        ):
            async for chunk in answer.aiter_text():
                arrivals.append(time.monotonic())
                text += chunk
        return answer.status_code, text.rstrip().endswith("data: [DONE]"), arrivals[-1] - arrivals[0]

    await eventually(lambda: ok(base), "an answer")
    streams = [asyncio.create_task(stream(number)) for number in range(8)]
    await asyncio.sleep(0.3)
    await api.remove(f"/api/v1/namespaces/default/pods/{pods[0]['metadata']['name']}", {})
    streams += [asyncio.create_task(stream(number)) for number in range(8, 12)]
    outcomes = await asyncio.gather(*streams)
    assert [(status, done) for status, done, _ in outcomes] == [(200, True)] * 12
    # Buffered somewhere, a whole stream would come at once; a crowded machine may hold up a few.
    assert statistics.median(spread for _, _, spread in outcomes) > 0.3
    assert len(await pods_of(api, "backend")) >= 2


async def ok(base: str) -> bool:
    """Whether a gateway answers."""
    return await get(f"{base}/healthz") == 200

"""Scenarios on a real control plane: pods are gateway processes, and Chaos Mesh kills them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.kubernetes_api import KubernetesApi
from faults.permission import ALLOWED
from seawall.cluster import Access
from seawall.suite import LATE

pytestmark = pytest.mark.real

Json = dict[str, Any]

SCENARIO = """
version: 1
title: pods under load
arenas: [cluster]
cluster: {cpu_request: 50m, %(cluster)s}
system: {settings: {LATENCY_LIMIT: 0s}}
providers: {gemini: {tokens_per_second: 10, tokens: 25}}
load: {executor: constant-arrival-rate, rate: 10/s, duration: %(duration)s, stream: 60%%}
faults:
  - {id: harm, at: 2s, duration: 4s, target: backend, %(fault)s}
expect:
  thresholds:
    - {metric: success_rate, limit: ">= 99%%"}
"""
KILL = "chaos_mesh: {kind: PodChaos, spec: {action: pod-kill, mode: one, selector: {labelSelectors: {app: %s}}}}"
MADE = (
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "/apis/chaos-mesh.org/v1alpha1/namespaces/default/podchaos",
    "/api/v1/namespaces/default/pods",
)


@pytest.fixture
def api(cluster_with_nodes: Access) -> Iterator[KubernetesApi]:
    """The session's cluster; nothing is left in it by a test."""
    found = KubernetesApi(kubeconfig=str(cluster_with_nodes.kubeconfig), context="seawall-local", is_local=True)
    yield found
    assert left_in(found) == []


def left_in(api: KubernetesApi) -> list[str]:
    """Return what is there of all that a run makes."""
    return [f"{path}/{each['metadata']['name']}" for path in MADE for each in api.get(path)["items"]]


def command(access: Access, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return a command of ours, and an environment in which the session's cluster is the local one that is up."""
    return [sys.executable, "-m", "seawall", *arguments], {**os.environ, "SEAWALL_STATE": str(access.state.parent)}


def seawall(access: Access, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    argv, environment = command(access, *arguments)
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=110, check=False)


def written(tmp_path: Path, fault: str, *, cluster: str = "replicas: 2", duration: str = "8s") -> Path:
    """Write a scenario and return its file."""
    path = tmp_path / "pods.yaml"
    path.write_text(SCENARIO % {"fault": fault, "cluster": cluster, "duration": duration}, "utf-8")
    return path


def run(access: Access, tmp_path: Path, scenario: Path) -> tuple[dict[str, Json], list[Json]]:
    """Run a scenario on the cluster; return the checks that did not pass by name, but for lag, and its journal."""
    done = seawall(access, "run", str(scenario), "--arena", "cluster", "--no-repeat", "--out", str(tmp_path / "out"))
    folders = [path for path in (tmp_path / "out").glob("pods-*") if (path / "verdict.json").is_file()]
    assert len(folders) == 1, done.stdout + done.stderr
    verdict = json.loads((folders[0] / "verdict.json").read_text("utf-8"))
    bad = {check["name"]: check for check in verdict["checks"] if check["verdict"] != "pass" and check["name"] != LATE}
    lines = (folders[0] / "journal.jsonl").read_text("utf-8").splitlines()
    return bad, [json.loads(line) for line in lines]


def test_a_killed_pod_takes_its_streams_along_and_is_replaced(
    cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path
) -> None:
    """
    Real PodChaos ends a real process with streams open; they are told, another pod serves, and all is removed.

    Beside it a selector that matches nothing harms nobody, and that alone makes the run invalid.
    """
    scenario = written(tmp_path, KILL % "backend", cluster="replicas: 2, forced_deletion: at-once", duration="10s")
    another = f"  - {{id: nothing, at: 2s, duration: 4s, target: backend, {KILL % 'nobody'}}}\nexpect:"
    text = scenario.read_text("utf-8").replace('">= 99%"', '">= 70%"').replace("expect:", another)
    scenario.write_text(text, "utf-8")
    bad, journal = run(cluster_with_nodes, tmp_path, scenario)
    assert {name: check["verdict"] for name, check in bad.items()} == {"fault nothing was in force and met": "invalid"}
    (active,) = [each for each in journal if each["kind"] == "fault" and each["phase"] == "active"]
    (victim,) = active["evidence"]["pods"]
    pods = [each for each in journal if each["kind"] == "pod"]
    (end,) = [each for each in pods if each["action"] == "exit" and f"default/{each['name']}" == victim]
    assert end["code"] == -9
    cut = [each for each in journal if each["kind"] == "request" and each["outcome"] == "cut"]
    assert cut
    assert any(each["action"] == "ready" and each["mono_ns"] > end["mono_ns"] for each in pods)
    served = {each["worker"] for each in journal if each["kind"] == "attempt" and each["start_ns"] > end["mono_ns"]}
    assert served
    assert f"gateway-{end['pid']}" not in served


def test_a_readiness_probe_that_lies_fails(cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path) -> None:
    """
    When pods count as ready before they serve, a rolling update loses requests, and the run says so.

    Without a pause before its end the old pod is gone while the new one still starts, however fast the machine.
    """
    lie = "replicas: 1, readiness: none, pre_stop: 0s"
    scenario = written(tmp_path, "rollout: restart", cluster=lie, duration="11s")
    # A gateway starts in a fraction of a second: so many requests, and three updates, that some fall into it.
    text = scenario.read_text("utf-8").replace("10/s", "100/s").replace("60%", "0%").replace(">= 99%", ">= 100%")
    update = "  - {{id: {}, at: {}s, duration: 2s, target: backend, rollout: restart}}\n"
    more = update.format("second", 5) + update.format("third", 8)
    text = text.replace("at: 2s, duration: 4s", "at: 2s, duration: 2s").replace("expect:", more + "expect:")
    scenario.write_text(text, "utf-8")
    bad, _ = run(cluster_with_nodes, tmp_path, scenario)
    assert bad["success_rate >= 100%"]["verdict"] == "fail"


def test_streams_cut_by_an_end_without_grace_fail(
    cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path
) -> None:
    """A rolling update that gives streams no time to end is no excuse for cutting them."""
    bad, _ = run(
        cluster_with_nodes,
        tmp_path,
        written(tmp_path, "rollout: restart", cluster="replicas: 2, grace: 1s, pre_stop: 0s"),
    )
    assert bad["a provider that is well answers"]["verdict"] == "fail"
    assert "shutting_down" in bad["a provider that is well answers"]["reason"]


def test_what_a_killed_run_leaves_is_removed_by_a_recovery(
    cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path
) -> None:
    """After SIGKILL in the middle of a fault its object, the Deployment and all pods go with `seawall recover`."""
    scenario = written(tmp_path, KILL % "nobody", cluster="replicas: 1", duration="30s")
    argv, environment = command(cluster_with_nodes, "run", str(scenario), "--arena", "cluster", "--out", str(tmp_path))
    with (tmp_path / "out.log").open("w") as log:
        running = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: bool(api.get(MADE[3])["items"]))
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert len(left_in(api)) >= 4
    done = seawall(cluster_with_nodes, "recover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all clean" in done.stdout
    eventually(lambda: not left_in(api))


def test_what_is_not_allowed_is_refused_with_one_message_and_nothing_applied(
    cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path
) -> None:
    """A context and a namespace must be named, the namespace must allow faults, and `--plan` applies nothing."""
    scenario = str(written(tmp_path, KILL % "backend"))
    theirs = ("run", scenario, "--arena", "cluster", "--kubeconfig", str(cluster_with_nodes.kubeconfig))
    named = (*theirs, "--context", "seawall-local", "--namespace")
    refusals = {
        theirs: "--context",
        (*theirs, "--context", "seawall-local"): "--namespace",
        (*named, "kube-public"): "does not allow faults",
        (*theirs, "--context", "another", "--namespace", "default"): "another",
    }
    for arguments, told in refusals.items():
        done = seawall(cluster_with_nodes, *arguments, "--plan")
        assert done.returncode != 0, done.stdout
        assert told in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = seawall(cluster_with_nodes, *named, "default", "--plan")
    assert done.returncode == 0, done.stderr
    assert "harm: PodChaos pod-kill: no pod that is there now (mode one of them)" in done.stdout
    assert left_in(api) == []


def eventually(check: Any, within_s: float = 60.0) -> None:
    """Ask until it is so."""
    limit = time.monotonic() + within_s
    while True:
        with contextlib.suppress(Exception):
            if check():
                return
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_a_label_removed_in_mid_run_stops_the_run_and_undoes_what_is_active(
    cluster_with_nodes: Access, api: KubernetesApi, tmp_path: Path
) -> None:
    """While a fault of 40 s is in force the namespace loses its label: the run ends at once, and nothing is left."""
    scenario = written(tmp_path, KILL % "nobody", cluster="replicas: 1", duration="45s")
    scenario.write_text(scenario.read_text("utf-8").replace("duration: 4s", "duration: 40s"), "utf-8")
    argv, environment = command(cluster_with_nodes, "run", str(scenario), "--arena", "cluster", "--out", str(tmp_path))
    namespace = "/api/v1/namespaces/default"
    label, allowed = ALLOWED
    with (tmp_path / "out.log").open("w") as log:
        running = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: bool(api.get(MADE[3])["items"]))
        api.patch(namespace, {"metadata": {"labels": {label: None}}})
        removed_s = time.monotonic()
        eventually(lambda: not api.get(MADE[3])["items"], 15.0)
        code = running.wait(60)
        took_s = time.monotonic() - removed_s
    finally:
        api.patch(namespace, {"metadata": {"labels": {label: allowed}}})
        running.kill()
        running.wait()
    said = (tmp_path / "out.log").read_text("utf-8")
    assert code == 4, said
    assert "does not allow faults (any more)" in said
    assert took_s < 35, said

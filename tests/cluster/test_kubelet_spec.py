"""What the kubelet makes of a spec, with no process and no server: environment, probes, back-off, status, use."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from router.errors import ConfigurationError
from seawall.cluster.kubelet.addresses import Addresses
from seawall.cluster.kubelet.backoff import Backoff
from seawall.cluster.kubelet.control import Control, Orders, write_orders
from seawall.cluster.kubelet.environment import MissingReference, PodFacts, Sources, environment, expanded, mapped
from seawall.cluster.kubelet.options import command_of, parse_options
from seawall.cluster.kubelet.probes import HttpGet, ProbeSpec, ProbeState, TcpSocket, Unsupported, probe_specs
from seawall.cluster.kubelet.quantities import milli, number
from seawall.cluster.kubelet.scripted import SCRIPTED, Script, script_of
from seawall.cluster.kubelet.status import (
    ContainerView,
    pod_status,
    state_running,
    state_terminated,
    state_waiting,
)
from seawall.cluster.kubelet.usage import ProcessUse, UsageWindow, tree_use
from seawall.cluster.kubelet.volumes import mounts_of, prepare

POD: dict[str, Any] = {
    "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"}},
    "spec": {"nodeName": "n1", "containers": [{"name": "web", "resources": {"limits": {"memory": "64Mi"}}}]},
}
FACTS = PodFacts(pod=POD, address="127.9.0.1", host_ip="127.0.0.1", allocatable={"cpu": "4", "memory": "1Gi"})
SOURCES = Sources(config_maps={"c": {"A": "1", "B": "2"}}, secrets={"s": {"KEY": "secret"}})


def of(*variables: dict[str, Any], **fields: Any) -> dict[str, str]:
    """Return the environment of a container with these variables."""
    container = {"name": "web", "env": list(variables), "resources": {"limits": {"memory": "64Mi"}}, **fields}
    return environment(container, FACTS, SOURCES)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$(A)/$(B)", "1/2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NONE)", "$(NONE)"),
        ("$A ${A} $(", "$A ${A} $("),
        ("a$$b", "a$b"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, meant: str) -> None:
    """`$(NAME)` is replaced, `$$` is a dollar, and what is unknown stays as it is."""
    assert expanded(text, {"A": "1", "B": "2"}) == meant


def test_a_variable_sees_only_those_before_it() -> None:
    """An expansion takes what was defined earlier, `envFrom` included, and never what comes later."""
    made = of(
        {"name": "X", "value": "$(A)$(Y)"}, {"name": "Y", "value": "y"}, envFrom=[{"configMapRef": {"name": "c"}}]
    )
    assert made == {"A": "1", "B": "2", "X": "1$(Y)", "Y": "y"}


def test_every_source_of_a_value_is_known() -> None:
    """ConfigMap and Secret keys, fields, labels and resources give values; an optional one that lacks gives none."""

    def field(path: str) -> dict[str, Any]:
        return {"valueFrom": {"fieldRef": {"fieldPath": path}}}

    made = of(
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "B"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "KEY"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "B", "optional": True}}},
        {"name": "IP", **field("status.podIP")},
        {"name": "NODE", **field("spec.nodeName")},
        {"name": "LABEL", **field("metadata.labels['app']")},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        envFrom=[{"prefix": "P_", "secretRef": {"name": "s"}}],
    )
    assert made == {
        "P_KEY": "secret",
        "MAP": "2",
        "SECRET": "secret",
        "IP": "127.9.0.1",
        "NODE": "n1",
        "LABEL": "web",
        "MEMORY": "64",
        "CPUS": "4",
    }


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"secretKeyRef": {"name": "gone", "key": "K"}}, "Secret gone is not there"),
        ({"configMapKeyRef": {"name": "c", "key": "K"}}, "has no key K"),
        ({"fieldRef": {"fieldPath": "status.nonsense"}}, "is no field"),
    ],
)
def test_what_is_missing_is_named(source: dict[str, Any], told: str) -> None:
    """A reference to what is not there is refused in words that say what, and never a value."""
    with pytest.raises(MissingReference, match=told):
        of({"name": "X", "valueFrom": source})


def test_paths_below_a_mount_are_turned_into_its_folder(tmp_path: Path) -> None:
    """Mounted files are written, and paths in arguments lead to them; other text like them is left alone."""
    spec = {"volumes": [{"name": "files", "configMap": {"name": "c", "items": [{"key": "A", "path": "in/a"}]}}]}
    volumes = prepare(spec, tmp_path, SOURCES)
    mounts = mounts_of({"volumeMounts": [{"name": "files", "mountPath": "/etc/app"}]}, volumes)
    assert (tmp_path / "files" / "in" / "a").read_text() == "1"
    assert mapped("--file=/etc/app/in/a", mounts) == f"--file={tmp_path}/files/in/a"
    assert mapped("/etc/app", mounts) == f"{tmp_path}/files"
    assert mapped("/etc/application /x/etc/app", mounts) == "/etc/application /x/etc/app"
    leads_out = {"volumes": [{"name": "f", "configMap": {"name": "c", "items": [{"key": "A", "path": "../../a"}]}}]}
    with pytest.raises(Unsupported, match="leads out"):
        prepare(leads_out, tmp_path, SOURCES)


@pytest.mark.parametrize(
    ("quantity", "thousandths"),
    [("200m", 200), ("1", 1000), ("0.5", 500), ("1n", 1), ("2k", 2_000_000), ("1e1", 10_000)],
)
def test_quantities_are_read(quantity: str, thousandths: int) -> None:
    """CPU is in thousandths, rounded up; suffixes and exponents count."""
    assert milli(quantity) == thousandths
    assert number("1Mi") == 2**20
    with pytest.raises(ValueError, match="no quantity"):
        number("1 core")


def test_a_probe_turns_only_at_its_thresholds() -> None:
    """Three failures in a row make it fail, two successes in a row make it good again; one odd answer begins anew."""
    spec = ProbeSpec(kind="readiness", action=TcpSocket(port=1), success_threshold=2, failure_threshold=3)
    state = ProbeState(spec)
    assert state.result is None
    assert [state.take(ok=ok) for ok in (True, True)] == [False, True]
    assert [state.take(ok=ok) for ok in (False, False, True, False, False)] == [False] * 5
    assert state.result is True
    assert state.take(ok=False)
    assert [state.take(ok=ok) for ok in (False, True, False, True, True)] == [False, False, False, False, True]
    assert state.result is True


def test_probes_have_kubernetes_defaults_and_named_ports() -> None:
    """What a probe does not say is as in Kubernetes; a port's name is looked up, and an unknown one refused."""
    container: dict[str, Any] = {
        "name": "web",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
        "livenessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 3, "terminationGracePeriodSeconds": 1},
    }
    found = probe_specs(container)
    action = HttpGet(port=8080, path="/readyz", tls=False, headers={})
    assert found["readiness"] == ProbeSpec(
        kind="readiness", action=action, period_s=10, timeout_s=1, failure_threshold=3
    )
    assert (found["liveness"].period_s, found["liveness"].grace_s) == (3, 1)
    container["readinessProbe"]["httpGet"]["port"] = "nope"
    with pytest.raises(Unsupported, match="no port named 'nope'"):
        probe_specs(container)
    with pytest.raises(Unsupported, match="grpc"):
        probe_specs({"name": "web", "startupProbe": {"grpc": {"port": 1}}})


def test_the_back_off_doubles_and_is_forgotten() -> None:
    """At once, 10 s, 20 s, … up to 300 s; after 600 s without a restart it begins anew; a scale shortens all of it."""
    backoff, now, delays = Backoff(), 0.0, []
    for _ in range(8):
        delays.append(backoff.delay_s(now))
        now += delays[-1] + 1
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.delay_s(now + 601) == 0
    short = Backoff(0.1)
    assert [short.delay_s(number / 10) for number in range(3)] == [0, 1, 2]


def view(state: dict[str, Any], **fields: Any) -> ContainerView:
    """Return a container in a state."""
    return ContainerView(name="web", image="i", state=state, **fields)


def ended(code: int) -> dict[str, Any]:
    """Return the state of a container that ended so."""
    return state_terminated(code, started_at="t0", finished_at="t1", id="1")


def status(policy: str, *containers: ContainerView, **fields: Any) -> dict[str, Any]:
    """Return the status of a pod of these containers."""
    known: dict[str, Any] = {"init": [], "former": [], "now": "now", "address": "10.244.0.1", **fields}
    return pod_status(
        {"restartPolicy": policy, "containers": []}, containers=containers, host_ip="h", started_at="t", **known
    )


@pytest.mark.parametrize(
    ("policy", "state", "last", "phase"),
    [
        ("Always", state_waiting("ContainerCreating"), {}, "Pending"),
        ("Always", state_running("t"), {}, "Running"),
        ("Always", state_waiting("CrashLoopBackOff"), ended(1), "Running"),
        ("Always", ended(0), {}, "Running"),
        ("Never", ended(0), {}, "Succeeded"),
        ("Never", ended(3), {}, "Failed"),
        ("OnFailure", ended(0), {}, "Succeeded"),
        ("OnFailure", ended(3), {}, "Running"),
    ],
)
def test_the_phase_follows_from_the_containers(policy: str, state: Any, last: Any, phase: str) -> None:
    """Each state of a container under each restart policy gives the phase that a real kubelet gives."""
    assert status(policy, view(state, last_state=last))["phase"] == phase


def test_a_signal_is_told_as_such() -> None:
    """A process that was killed has 128 + n as its exit code, and n as its signal."""
    told = ended(-9)["terminated"]
    assert (told["exitCode"], told["signal"], told["reason"]) == (137, 9, "Error")


def test_conditions_keep_their_time_while_they_hold() -> None:
    """A condition that is as it was keeps its transition time; one that turns gets the new one, and says why."""
    running = view(state_running("t"), started=True)
    first = status("Always", running)["conditions"]
    turned = status("Always", view(state_running("t"), ready=True), former=first, now="later")["conditions"]
    times = {each["type"]: (each["status"], each["lastTransitionTime"]) for each in turned}
    assert times["Initialized"] == ("True", "now")
    assert times["Ready"] == times["ContainersReady"] == ("True", "later")
    (unready,) = (each for each in first if each["type"] == "Ready")
    assert "unready status: [web]" in unready["message"]


def test_cpu_is_that_of_the_window_and_never_less_than_nothing() -> None:
    """A window gives nothing before it is covered; then the mean over it; time that seems to go back is no use."""
    window = UsageWindow(4.0)
    for quarter in range(16):
        at = quarter / 4
        assert window.usage() is None
        window.add(at, 1000 + at, ProcessUse(at * 0.1, 5))
    window.add(4.0, 1004.0, ProcessUse(0.4, 6))
    usage = window.usage()
    assert usage is not None
    assert (round(usage.cpu_milli), usage.memory_bytes, usage.end_wall_s, usage.window_s) == (100, 6, 1004.0, 4.0)
    for quarter in range(17, 60):
        window.add(quarter / 4, 1000 + quarter / 4, ProcessUse(0.3, 6))
    usage = window.usage()
    assert usage is not None
    assert (usage.cpu_milli, usage.window_s) == (0, 4.0)


@pytest.mark.real
def test_the_use_of_children_counts() -> None:
    """What a living child and one that has ended have used is their parent's too."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    code += f"child = subprocess.Popen([sys.executable, '-c', {burn + 'time.sleep(60)'!r}])\n"
    code += "print('up', flush=True)\nchild.wait()\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            limit = time.monotonic() + 30
            while (use := tree_use(parent.pid)) is not None and use.cpu_s < 0.5 and time.monotonic() < limit:
                time.sleep(0.05)
            assert use is not None
            assert use.cpu_s >= 0.5  # neither alone has so much
            assert use.memory_bytes > 2 * 2**20
        finally:
            os.killpg(parent.pid, 9)
    assert tree_use(parent.pid) is None


def test_only_known_commands_are_run() -> None:
    """Python, our command and what was allowed are run; a shell, a path of somebody else's or nothing are refused."""
    assert command_of(["python", "-V"], {}) == [sys.executable, "-V"]
    assert command_of(["seawall", "serve"], {}) == [sys.executable, "-m", "seawall", "serve"]
    assert command_of(["redis-server"], {"redis-server": "/opt/redis-server"}) == ["/opt/redis-server"]
    for words in (["sh", "-c", "true"], ["/bin/true"], ["/opt/redis-server"], []):
        with pytest.raises(Unsupported, match=r"allowed|must have a command"):
            command_of(words, {"redis-server": "/opt/redis-server"})


def test_bad_options_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    """A bad command line ends with 2 and names every problem."""
    with pytest.raises(SystemExit) as caught:
        parse_options(["--state", "x", "--cpu", "many", "--nodes", "0", "--allow", "none=/no/such/program"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert all(word in told for word in ("--cpu", "--nodes must be from 1 to 50", "/no/such/program"))
    assert issubclass(ConfigurationError, Exception)


def test_a_script_gives_the_use_of_its_time() -> None:
    """The last step that has begun counts; what is no script is refused in words."""
    script = Script(cpu_milli=((0, 50), (30, 200)))
    assert [script.cpu_at(at) for at in (-1, 0, 29.9, 30, 99)] == [50, 50, 50, 200, 200]
    for text in ("{", '{"cpu": 1}', '{"cpu_milli": [[5, 1], [2, 1]]}', '{"cpu_milli": []}'):
        with pytest.raises(ValueError, match=r"seawall\.dev/scripted"):
            script_of({"metadata": {"annotations": {SCRIPTED: text}}})
    assert script_of({"metadata": {}}) is None


def test_addresses_go_on_after_a_restart(tmp_path: Path) -> None:
    """No address is given twice, also by the next kubelet, and two kubelets of a machine never share one."""
    with Addresses(tmp_path) as first:
        given = [first.next() for _ in range(300)]
        with Addresses(tmp_path) as other:
            assert other.next().real.split(".")[1] != given[0].real.split(".")[1]
    with Addresses(tmp_path) as later:
        given.append(later.next())
    identities = [each.identity for each in given]
    assert len(set(identities)) == 301
    assert all(each.startswith("10.244.") and each.split(".")[3] not in {"0", "255"} for each in identities)
    assert all(each.real.split(".")[2:] == each.identity.split(".")[2:] for each in given)


def test_orders_are_read_again_when_they_change(tmp_path: Path) -> None:
    """New orders are in force at the next look, bad ones change nothing, and none are none."""
    (tmp_path / "kubelet").mkdir()
    control = Control(tmp_path / "kubelet")
    assert control.orders() == Orders()
    write_orders(tmp_path, Orders(metrics_outage="empty"))
    assert control.orders().metrics_outage == "empty"
    (tmp_path / "kubelet" / "control.json").write_text('{"metrics_outage": "later"}')
    assert control.orders().metrics_outage == "empty"
    (tmp_path / "kubelet" / "control.json").unlink()
    assert control.orders() == Orders()

"""Blast radius: what was not named is not reached, however it is written, and whoever answers in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faults.addresses import is_loopback
from faults.base import FaultError, Undo
from faults.budget import BudgetFault
from faults.chaos_mesh import ChaosMeshFault, scoped
from faults.down import DownFault
from faults.kubernetes_api import KubernetesApi
from faults.proxy import OwnProxy
from faults.registry import undo, verify
from faults.respond import RespondFault
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError
from faults.undo import UndoFile
from seawall.arenas.cluster_target import ClusterChoice
from seawall.arenas.proxies import OwnProxies
from seawall.control.access import Access, Denied
from seawall.emulators.steps import Behaviour

real = pytest.mark.real
Scripted = Callable[..., AbstractContextManager[tuple[str, list[str]]]]
LOOPBACK = [f"127.{n}.0.1" for n in range(3)] + ["localhost", "::1", "0:0:0:0:0:0:0:1"]
EXAMPLES = settings(max_examples=300, deadline=None)


def _ipv4_forms(address: IPv4Address) -> st.SearchStrategy[str]:
    """Return the ways in which resolvers take an IPv4 address: dotted, shortened, octal, hexadecimal, one number."""
    number, octets = int(address), address.packed
    return st.sampled_from(
        [
            str(address),
            str(number),
            hex(number),
            oct(number).replace("0o", "0"),
            f"{octets[0]}.{number & 0xFFFFFF}",
            f"{octets[0]}.{octets[1]}.{number & 0xFFFF}",
            ".".join(f"0{octet:o}" for octet in octets),
            ".".join(hex(octet) for octet in octets),
            f"{address}.",
            f"::ffff:{address}",
            f"::{address}",
            f"64:ff9b::{address}",
        ]
    )


NAMES = st.from_regex(r"\A[a-zA-Z0-9]([a-zA-Z0-9-]{0,12}[a-zA-Z0-9])?(\.[a-zA-Z0-9-]{1,8}){0,3}\.?\Z")
TRICKS = st.sampled_from(
    [
        "",
        "0.0.0.0",
        "::",
        "localhost.",
        "localhost.evil.test",
        "127.0.0.1.nip.io",
        "127.0.0.1.",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "::1%evil.test",
        "::1%25lo",
        "127.0.0.1%00.evil.test",
        "127.0.0.1\n",
        " 127.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "LOCALHOST\u0000",
        "ip6-localhost",
    ]
)
HOSTS = st.one_of(
    st.ip_addresses(v=4).flatmap(lambda found: _ipv4_forms(cast("IPv4Address", found))),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda found: cast("IPv6Address", found).exploded),
    NAMES,
    TRICKS,
    st.text(max_size=20),
)


def _is_here(host: str) -> bool:
    """Say what may be harmed, worked out in another way than the code does: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        found = ip_address(host)
        inner = getattr(found, "ipv4_mapped", None) or found
        if "%" not in host:
            return inner.packed[:1] == b"\x7f" if inner.version == 4 else int(inner) == 1
    return False


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@EXAMPLES
@given(HOSTS)
@example("2130706433")
@example("::1%evil.test")
def test_only_loopback_is_loopback(host: str) -> None:
    """No name but localhost and no address outside 127.0.0.0/8 and ::1 counts as this machine, in whatever form."""
    assert not is_loopback(host) or _is_here(host)


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_taken(host: str, tmp_path: Path) -> None:
    """What is this machine is taken for it, so that the refusals below mean something."""
    assert is_loopback(host)
    assert Toxiproxy(f"http://{_authority(host)}:8474").url
    with UndoFile.create(tmp_path, "run") as undo_file:
        OwnProxies("run", undo_file, print).attach(f"http://{_authority(host)}:1", is_external=True)


@EXAMPLES
@given(HOSTS, st.sampled_from(["{}", "user@{}", "127.0.0.1@{}", "127.0.0.1:80@{}", "{}#@127.0.0.1", "{}\\@127.0.0.1"]))
def test_no_fault_is_bound_to_another_machine(host: str, form: str) -> None:
    """A fault, a proxy or an undo record whose URL leads elsewhere is refused before anything is sent."""
    if _is_here(host.lower()):
        return
    place = form.format(_authority(host))
    refused = 0
    for bind in (
        lambda: Toxiproxy(f"http://{place}:8474"),
        lambda: OwnProxy(name="p", upstream="127.0.0.1:1", url=f"http://{place}:8474").create(),
        lambda: DownFault(id="f", target="gemini", proxy="p", url=f"http://{place}:8474").inject(),
        lambda: undo(Undo(kind="proxy", arguments={"url": f"http://{place}:8474", "proxy": "p"})),
        lambda: BudgetFault(id="f", run="r", url=f"redis://{place}:6379/0", limit_micro_usd=2, remaining_micro_usd=1),
        lambda: undo(_respond(f"http://{place}:9000").prepare()),
    ):
        try:
            bind()
        except FaultError:
            refused += 1
    assert refused == 6


@pytest.mark.parametrize("query", ["?host=10.0.0.1", "?path=/run/other.sock", "?port=1"])
def test_a_redis_url_has_no_second_address(query: str) -> None:
    """The client of Redis takes addresses from a query too: a budget's URL has none, nor in an undo record."""
    url = f"redis://127.0.0.1:6379/0{query}"
    with pytest.raises(FaultError, match="not on this machine"):
        BudgetFault(id="f", run="r", url=url, limit_micro_usd=2, remaining_micro_usd=1)
    record = {"url": url, "day": "2026-01-01", "delta": 1, "adjustment": "a", "harness": 1, "harness_started": ""}
    with pytest.raises(FaultError):
        undo(Undo(kind="budget", arguments=record))


@pytest.mark.parametrize("url", ["http://10.1.2.3:8474", "http://toxiproxy.test:8474", "http://[fe80::1]:8474"])
def test_a_toxiproxy_elsewhere_is_not_used(url: str, tmp_path: Path) -> None:
    """A Toxiproxy on another machine is refused even where SEAWALL_TOXIPROXY_URL names it: its proxies lead nowhere."""
    with (
        UndoFile.create(tmp_path, "run") as undo_file,
        pytest.raises(FaultError, match="not on this machine"),
    ):
        OwnProxies("run", undo_file, print).attach(url, is_external=True)


def test_redirects_are_not_followed(scripted: Scripted) -> None:
    """A Toxiproxy that redirects is an error; nobody asks the place that it names."""
    with scripted(lambda _method, _path: (307, "http://10.0.0.1/")) as (url, calls):
        with pytest.raises(ToxiproxyError, match="307"):
            Toxiproxy(url).version()
        assert calls == ["GET /version"]


def test_a_proxy_that_listens_elsewhere_is_not_used(scripted: Scripted) -> None:
    """Where a Toxiproxy says that our proxy listens on another machine, no traffic is sent there."""
    said = {"name": "p", "listen": "10.0.0.1:80", "upstream": "127.0.0.1:1", "enabled": True, "toxics": []}
    with (
        scripted(lambda _method, _path: (201, json.dumps(said))) as (url, _),
        pytest.raises(ToxiproxyError, match="otherwise than asked"),
    ):
        Toxiproxy(url).create_proxy("p", "127.0.0.1:1")


@real
def test_somebody_elses_proxy_of_our_name_is_left_alone(server: Toxiproxy) -> None:
    """Creation, faults and undo leave a proxy of the very name that leads elsewhere as it was."""
    others = server.create_proxy("seawall-run-gemini", "127.0.0.1:9")
    try:
        ours = OwnProxy(name=others.name, upstream="127.0.0.1:10", url=server.url)
        record = ours.prepare()
        with pytest.raises(ToxiproxyError, match="409"):
            ours.create()
        for fault in _faults(server, others, "127.0.0.1:10"):
            with pytest.raises(ToxiproxyError, match="not ours"):
                fault.inject()
        undo(record)
        assert verify(record)
        assert server.proxy(others.name) == others
    finally:
        server.delete_proxy(others.name)


@real
def test_our_own_proxy_is_harmed_and_deleted(server: Toxiproxy) -> None:
    """The same steps work on the proxy that is ours, so that the test above means something."""
    ours = OwnProxy(name="seawall-run-claude", upstream="127.0.0.1:10", url=server.url)
    record = ours.prepare()
    made = ours.create()
    for fault in _faults(server, made, "127.0.0.1:10"):
        fault.inject()
    found = server.proxy(made.name)
    assert found is not None
    assert (found.enabled, len(found.toxics)) == (False, 1)
    undo(record)
    assert verify(record)
    assert server.proxy(made.name) is None


@EXAMPLES
@given(HOSTS, st.integers(0, 65535))
def test_the_control_api_answers_to_its_own_names_only(host: str, port: int) -> None:
    """A name that DNS has turned to loopback (rebinding) opens nothing, not even with the token."""
    access = Access(7423)
    given_host = f"{_authority(host)}:{port}"
    if given_host.lower() in {"127.0.0.1:7423", "localhost:7423", "[::1]:7423"}:
        return
    for headers in ({"host": given_host}, {"host": "127.0.0.1:7423", "origin": f"http://{given_host}"}):
        with pytest.raises(Denied):
            access.require("POST", {**headers, "x-seawall-token": access.token})


def test_a_kubeconfigs_defaults_are_never_taken() -> None:
    """Context and namespace must be named; neither the current context nor its namespace is taken."""
    path = Path("kubeconfig")
    assert "--context" in (ClusterChoice(kubeconfig=path, namespace="x").problem() or "")
    assert "--namespace" in (ClusterChoice(kubeconfig=path, context="x").problem() or "")
    assert ClusterChoice(kubeconfig=path, context="x", namespace="y").problem() is None


_SELECTORS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "namespaces": st.lists(st.sampled_from(["ours", "theirs", "kube-system"]), min_size=1, max_size=2),
        "pods": st.dictionaries(st.sampled_from(["ours", "theirs"]), st.just(["pod"]), min_size=1),
        "labelSelectors": st.just({"app": "backend"}),
    },
)
_SPECS = _SELECTORS.flatmap(
    lambda one: _SELECTORS.flatmap(
        lambda two: st.sampled_from(
            [
                {"mode": "one", "selector": one},
                {"mode": "one", "selector": one, "target": {"mode": "all", "selector": two}},
                {"schedule": "@every 1m", "podChaos": {"selector": one}},
                {"schedule": "@every 1m", "networkChaos": {"selector": one, "target": {"selector": two}}},
            ]
        )
    )
)


@EXAMPLES
@given(_SPECS)
def test_a_selector_never_leaves_the_namespace(spec: dict[str, Any]) -> None:
    """Whatever a spec selects, its target and its list of pods too, is in the run's namespace, or it is refused."""
    try:
        made = scoped(spec, "ours")
    except FaultError:
        assert _namespaces(spec) - {"ours"}
        return
    assert _namespaces(made) == {"ours"}


class _Cluster(KubernetesApi, frozen=True, kw_only=True):
    """An API whose namespace has the labels given, and which remembers what is applied."""

    labels: dict[str, str]
    applied: list[str]

    def find(self, path: str) -> dict[str, Any] | None:
        """Return the namespace."""
        return {"metadata": {"labels": self.labels}}

    def apply(self, each: Any, *, dry_run: bool = False) -> dict[str, Any]:
        """Remember an object that is kept."""
        if not dry_run:
            self.applied.append(str(each["kind"]))
        return dict(each)

    def path_of(self, each: Any) -> str:
        """Return a path."""
        return f"/{each['metadata']['name']}"


def test_a_label_removed_in_mid_run_stops_the_next_fault() -> None:
    """Each injection looks at the namespace's label anew: once it is gone nothing more is applied."""
    cluster = _Cluster(kubeconfig="k", context="c", labels={"seawall.dev/chaos": "allowed"}, applied=[])
    fault = ChaosMeshFault(
        id="kill", target="backend", api=cluster, namespace="ours", run="r", kind="PodChaos", spec={"selector": {}}
    )
    fault.prepare()
    fault.inject()
    assert cluster.applied == ["PodChaos"]
    cluster.labels.clear()
    with pytest.raises(FaultError, match="does not allow faults"):
        fault.inject()
    assert cluster.applied == ["PodChaos"]


def _faults(server: Toxiproxy, proxy: ProxyInfo, upstream: str) -> list[ToxicFault | DownFault]:
    latency = {"latency": 1}
    common: dict[str, Any] = {"target": "gemini", "proxy": proxy.name, "url": server.url, "upstream": upstream}
    toxic = ToxicFault(id="slow", run="r", type="latency", attributes=latency, **common)
    return [toxic, DownFault(id="down", **common)]


def _respond(url: str) -> RespondFault:
    return RespondFault(
        id="f", target="gemini", admin_url=url, token_env="PATH", behaviour=Behaviour(fault_id="f", status=503)
    )


def _namespaces(spec: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for key, value in spec.items():
        if key == "selector":
            found |= {*value.get("namespaces", []), *value.get("pods", {})}
        elif isinstance(value, dict):
            found |= _namespaces(value)
    return found

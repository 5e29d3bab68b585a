"""The air gap, proven: in a network with nothing but loopback, strace sees no call to anything but what is allowed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
HOUSE, REBOUND = "10.20.30.40", "10.9.8.5"  # as inside.py has them
NAME_SERVER = "127.0.0.1:53"
CACHE = "/var/run/nscd/socket"  # of names, on this machine: the C library looks whether there is one
TRANSPORTS = ("httptools", "pyreqwest", "httpx")
CALL = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\((.*)")
PLACE = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')
UNIX = re.compile(r'sa_family=AF_UNIX, sun_path=@?"([^"]*)"')


class Proof(NamedTuple):
    """What came of all cases: the ports, the answers and the names asked for by case, and the folder of the traces."""

    ports: dict[str, int]
    cases: dict[str, Any]
    names: dict[str, list[str]]
    folder: Path

    def places(self, case: str) -> set[str]:
        """Return every place that a case's processes called, or tried to: `host:port`, or a Unix socket's path."""
        return places_in((self.folder / f"{case}.trace").read_text(encoding="utf-8", errors="replace")) - {CACHE}

    def local(self, name: str) -> str:
        """Return where a server of the test is."""
        return f"127.0.0.1:{self.ports[name]}"

    def house(self, name: str) -> str:
        """Return where a server of the test is that is elsewhere in the house."""
        return f"{HOUSE}:{self.ports[name]}"


def places_in(trace: str) -> set[str]:
    """Return the places in the lines of a trace."""
    found: set[str] = set()
    for line in trace.splitlines():
        call = CALL.search(line)
        if call is None:
            continue
        found |= {f"{four or six}:{port}" for port, four, six in PLACE.findall(call.group(2))}
        found |= set(UNIX.findall(call.group(2)))
    return found


def _unshare() -> list[str]:
    """Return what starts a command in a network of its own: as root, else in a user namespace."""
    for tool in ("unshare", "mount", "strace"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH; install it to have the air gap proven")
    ways = (["unshare", "--net", "--mount"], ["unshare", "--user", "--map-root-user", "--net", "--mount"])
    for way in ways if os.geteuid() == 0 else ways[1:]:
        if subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    pytest.skip("no network namespace can be made here: neither as root nor in a user namespace")


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """Carry out all cases, once."""
    folder = tmp_path_factory.mktemp("airgap")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEAWALL_")}
    command = [*_unshare(), sys.executable, str(HERE / "inside.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return Proof(found["ports"], found["cases"], found["names"], folder)


def test_strace_shows_what_goes_astray(proof: Proof) -> None:
    """Without the air gap the same caller is seen to call clouds and proxies, so that silence below means something."""
    assert "10.9.8.6:80" in proof.places("open")
    assert proof.local("trap") in proof.places("open")


def test_routers_call_nothing_but_ollama(proof: Proof) -> None:
    """The plain router and the equipped one, on every transport, JSON and streams: only OLLAMA_HOST's origin."""
    answers: dict[str, list[str]] = proof.cases["routers"]
    assert set(answers) == {"plain", "equipped", *TRANSPORTS}
    for name, found in answers.items():
        assert set(found) == {"answered", "airgap", "all_clouds_down"}, (name, found)
        assert "answered" in found[::2], "JSON"
        assert "answered" in found[1::2], "streams"
    assert proof.places("routers") == {proof.local("ollama")}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_gateway_calls_nothing_but_ollama_and_its_collector(proof: Proof, transport: str) -> None:
    """The gateway on every transport, with traces: only OLLAMA_HOST's origin, and a collector on this machine."""
    found = proof.cases[f"gateway-{transport}"]
    assert set(found) == {"answered", "airgap", "all_clouds_down"}, found
    places = proof.places(f"gateway-{transport}")
    assert proof.local("ollama") in places
    assert places <= {proof.local("ollama"), proof.local("collector")}


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("redis", "REDIS_URL"),
        ("breakers", "REDIS_URL"),
        ("telemetry", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("deployment", "DEPLOYMENTS"),
    ],
)
def test_what_leads_out_is_refused_at_the_start(proof: Proof, case: str, named: str) -> None:
    """A Redis, a collector or a deployment elsewhere ends the gateway at its start, by name, with nothing called."""
    found = proof.cases[f"refused-{case}"]
    assert found["refused"] == 2, found
    assert named in found["said"]
    assert not proof.places(f"refused-{case}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_name_is_asked_for_only_where_it_is_ollamas(proof: Proof, transport: str) -> None:
    """With a name in OLLAMA_HOST that name alone is resolved: no cloud's, no proxy's, none that a redirect names."""
    case = f"name-{transport}"
    (found,) = proof.cases[case].values()
    assert {"answered", "airgap"} <= set(found), found
    assert proof.names[case] == ["ollama.test"]
    assert proof.places(case) == {NAME_SERVER, proof.local("ollama")}


def test_a_name_that_rebinds_leads_where_it_says_and_nowhere_else(proof: Proof) -> None:
    """Who names Ollama trusts its name server: only that origin's port is called there, and clouds stay refused."""
    (found,) = proof.cases["name-rebound"].values()
    assert {"airgap", "all_clouds_down"} <= set(found), found
    assert proof.names["name-rebound"] == ["rebound.test"]
    known = {NAME_SERVER, proof.local("ollama"), f"{REBOUND}:{proof.ports['ollama']}"}
    assert proof.places("name-rebound") == known


def test_a_name_that_nobody_knows_leads_nowhere(proof: Proof) -> None:
    """An Ollama whose name is unknown is down: no other name is tried, and nothing but the name server is asked."""
    (found,) = proof.cases["name-unknown"].values()
    assert set(found) == {"airgap", "all_clouds_down"}, found
    assert proof.names["name-unknown"] == ["nobody.test"]
    assert proof.places("name-unknown") == {NAME_SERVER}


@pytest.mark.parametrize(("case", "listed"), [("deployment", "house"), ("collector", "house_collector")])
def test_what_is_listed_is_called_and_nothing_beside_it(proof: Proof, case: str, listed: str) -> None:
    """An origin in AIRGAP_ALLOW is called, at its very port; where it redirects to, nobody goes."""
    found = proof.cases[f"listed-{case}"]
    assert "answered" in found, found
    assert set(found) <= {"answered", "airgap", "all_clouds_down"}
    places = proof.places(f"listed-{case}")
    assert proof.house(listed) in places
    assert places <= {proof.local("ollama"), proof.house(listed)}


def test_a_listed_redis_is_called_and_nothing_beside_it(proof: Proof) -> None:
    """A Redis in AIRGAP_ALLOW is asked for the budget; that it is none is no reason to call anybody else."""
    places = proof.places("listed-redis")
    assert places <= {proof.local("ollama"), proof.house("house")}
    assert set(proof.cases["listed-redis"]) <= {"answered", "airgap", "all_clouds_down"}


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("deployment-port", "DEPLOYMENTS"),
        ("deployment-scheme", "DEPLOYMENTS"),
        ("collector-port", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("redis-name", "REDIS_URL"),
    ],
)
def test_what_is_nearly_listed_is_refused(proof: Proof, case: str, named: str) -> None:
    """Another port, another scheme or a longer name than AIRGAP_ALLOW has is refused at the start, with no call."""
    found = proof.cases[f"refused-{case}"]
    assert found["refused"] == 2, found
    assert named in found["said"]
    assert not proof.places(f"refused-{case}")


def test_places_are_read_from_every_call() -> None:
    """The reader of traces knows IPv4, IPv6 and Unix sockets, connected or not, and calls in other threads."""
    trace = """\
12 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.8.7")}, 16) = -1 ENETUNREACH
13 sendto(4, "x", 1, MSG_NOSIGNAL, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("1.1.1.1")}, 16) = 1
14 connect(5, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001::1", &sin6_addr)}
15 connect(6, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110 <unfinished ...>
16 accept4(7, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("9.9.9.9")}, [16], 0) = 8
17 sendto(8, "HTTP/1.1 200 OK", 15, MSG_NOSIGNAL, NULL, 0) = 15
"""  # noqa: E501 - as strace writes it
    assert places_in(trace) == {"10.9.8.7:80", "1.1.1.1:53", "2001::1:443", "/var/run/nscd/socket"}

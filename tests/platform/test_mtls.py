"""Mutual TLS, ended by the gateway itself and by a real nginx in front of it: who gets in, and who is told what."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_parts import Pki, Running, ended, listening

from router.budget import Reservation
from router.errors import BudgetStoreDown
from router.settings import Settings
from seawall import stores
from seawall.certs import Authority
from seawall.ports import HeldPort
from seawall.toolchain import resolve

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
NGINX = Path(__file__).parents[2] / "k8s" / "nginx"
Start = Callable[..., Any]


def tls_flags(authority: Authority, *more: str) -> list[str]:
    """Return the flags of a gateway that shows the certificate of backend and asks its clients for one."""
    return [
        *("--tls-cert", str(authority.cert_path("backend")), "--tls-key", str(authority.key_path("backend"))),
        *("--tls-client-ca", str(authority.cert_path("ca")), "--tls-crl", str(authority.crl_path), *more),
    ]


@pytest.fixture(scope="module")
def plain(start_gateway: Start) -> Iterator[Running]:
    """A gateway without TLS, which belongs behind nginx."""
    with start_gateway() as running:
        yield running


@pytest.fixture(scope="module")
def own(start_gateway: Start, pki: Pki) -> Iterator[Running]:
    """A gateway that ends mutual TLS itself, for the service web only."""
    with start_gateway(*tls_flags(pki.authority, "--tls-client-names", "web,someone")) as running:
        yield running


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis that speaks plain TCP."""
    program = resolve("redis").path
    assert program is not None
    with HeldPort() as held:
        options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path_factory.mktemp("redis"))]
        command = [str(program), "--port", str(held.port), *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process, ended(process):
            listening(held.port)
            yield held.port


@pytest.fixture(scope="module")
def nginx(plain: Running, redis_port: int, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The ports for HTTP and for Redis of an nginx with the files of k8s/nginx; only places are replaced in them."""
    program = resolve("nginx").path
    folder = tmp_path_factory.mktemp("nginx")
    with HeldPort() as http, HeldPort() as tcp:
        places = {
            "/tmp/": f"{folder}/",  # noqa: S108 - what it is called in a container
            "/etc/nginx/certs": str(pki.authority.folder),
            "/etc/nginx": str(folder),
            "server backend:80;": f"server 127.0.0.1:{plain.port};",
            "server redis:6379;": f"server 127.0.0.1:{redis_port};",
            "listen 8443": f"listen 127.0.0.1:{http.port}",
            "listen 6380": f"listen 127.0.0.1:{tcp.port}",
            "worker_processes auto;": "worker_processes 1;" + (" user root;" if os.getuid() == 0 else ""),
        }
        replaced: set[str] = set()
        for source in NGINX.rglob("*.conf"):
            text = source.read_text(encoding="utf-8")
            replaced |= {place for place in places if place in text}
            for place, ours in places.items():
                text = text.replace(place, ours)
            target = folder / source.relative_to(NGINX)
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
        assert replaced == set(places)
        command = [str(program), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        with subprocess.Popen(command) as process, ended(process):
            listening(http.port)
            listening(tcp.port)
            yield {"http": http.port, "tcp": tcp.port, "process": process}


@pytest.fixture(params=["gateway", "nginx"])
def front(request: pytest.FixtureRequest, own: Running, nginx: Any) -> tuple[str, int]:
    """What ends TLS, and its port."""
    return request.param, own.port if request.param == "gateway" else nginx["http"]


def asked(port: int, context: ssl.SSLContext, body: dict[str, Any]) -> httpx.Response:
    """Return the answer to a chat request over TLS."""
    with httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=20, trust_env=False) as client:
        return client.post(CHAT, json=body)


def test_the_right_certificate_gets_an_answer(front: tuple[str, int], pki: Pki, question: Any) -> None:
    """A client with a certificate of our CA and an allowed name is served."""
    answer = asked(front[1], pki.client("web"), question())
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("who", "alert"),
    [
        ("nothing", "CERTIFICATE_REQUIRED"),
        ("others", "UNKNOWN_CA"),
        ("expired", "CERTIFICATE_EXPIRED"),
        ("revoked", "CERTIFICATE_REVOKED"),
    ],
)
def test_whom_we_do_not_believe_gets_no_answer(
    front: tuple[str, int], pki: Pki, question: Any, who: str, alert: str
) -> None:
    """No certificate, another CA's, an expired and a revoked one: a TLS alert that says it, or nginx's own 400."""
    context = {
        "nothing": lambda: pki.client(None),
        "others": lambda: pki.client("web", of=pki.others),
    }.get(who, lambda: pki.client(who))()
    if front[0] == "nginx":
        answer = asked(front[1], context, question())
        assert answer.status_code == 400
        assert "SSL certificate" in answer.text
        return
    with pytest.raises(httpx.TransportError, match=alert):
        asked(front[1], context, question())


def test_whom_we_believe_but_did_not_invite_gets_403(front: tuple[str, int], pki: Pki, question: Any) -> None:
    """A good certificate of another name is refused, on every path."""
    answer = asked(front[1], pki.client("stranger"), question())
    assert answer.status_code == 403
    if front[0] == "gateway":
        assert answer.json()["error"]["code"] == "client_not_allowed"
    with httpx.Client(verify=pki.client("stranger"), trust_env=False) as client:
        assert client.get(f"https://localhost:{front[1]}/healthz").status_code == 403


def test_a_server_of_another_name_is_not_believed(front: tuple[str, int], pki: Pki) -> None:
    """The certificate shown is good for its hosts and for no other."""
    context = pki.client("web")
    with (
        socket.create_connection(("127.0.0.1", front[1]), 5) as plain_socket,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        context.wrap_socket(plain_socket, server_hostname="elsewhere")


def test_old_tls_is_refused(front: tuple[str, int], pki: Pki) -> None:
    """TLS 1.1 finds nobody to talk to; 1.2 and 1.3 do."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = pki.client("web")
        context.minimum_version = context.maximum_version = version
        with httpx.Client(verify=context, trust_env=False) as client:
            assert client.get(f"https://localhost:{front[1]}/healthz").status_code == 200
    context = pki.client("web")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", front[1]), 5) as plain_socket, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain_socket, server_hostname="localhost")


def test_a_stream_passes_chunk_by_chunk(front: tuple[str, int], pki: Pki, question: Any) -> None:
    """The tokens of a stream of half a second arrive one after the other, and not at its end."""
    times: list[float] = []
    with (
        httpx.Client(verify=pki.client("web"), timeout=20, trust_env=False) as client,
        client.stream("POST", f"https://localhost:{front[1]}{CHAT}", json=question(stream=True)) as answer,
    ):
        assert answer.status_code == 200
        last = ""
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic())
                last = line
    assert last == "data: [DONE]"
    assert len(times) >= 20
    assert times[-1] - times[0] > 0.25
    assert len({round(moment, 2) for moment in times}) >= 8


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_a_reload(
    front: tuple[str, int], own: Running, nginx: Any, pki: Pki, version: ssl.TLSVersion
) -> None:
    """Whoever comes back after SIGHUP is checked again: a resumed session would let a revoked client in."""
    context = pki.client("web")
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", front[1]), 5) as plain_socket,
            context.wrap_socket(plain_socket, server_hostname="localhost", session=session) as stream,
        ):
            stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
            assert not stream.session_reused
            session = stream.session
        before = own.says.count("certificates read again")
        process = own.process if front[0] == "gateway" else nginx["process"]
        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 15
        while front[0] == "gateway" and own.says.count("certificates read again") == before:
            assert time.monotonic() < end
            time.sleep(0.02)


async def test_redis_is_reached_with_the_gateways_certificate_only(nginx: Any, pki: Pki) -> None:
    """The budget's store works through nginx's stream with the certificate of backend, and with no other."""

    def store(name: str | None) -> Any:
        files = {"ssl_ca_certs": pki.authority.cert_path("ca")}
        if name is not None:
            files |= {"ssl_certfile": pki.authority.cert_path(name), "ssl_keyfile": pki.authority.key_path(name)}
        query = "&".join(f"{key}={path}" for key, path in files.items())
        url = f"rediss://localhost:{nginx['tcp']}/0?{query}"
        settings = {"BUDGET_STORE": "redis", "REDIS_URL": url, "BUDGET_STORE_TIMEOUT": "5s", "AIRGAP_MODE": "true"}
        return stores.from_settings(Settings.from_environment(settings, dotenv=None))

    now = time.time()
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    reservation = Reservation(id="mtls-1", day=day, micro_usd=1000, expires_at_s=now + 60)
    for name in (None, "web", "revoked", "expired"):
        refused = store(name)
        with pytest.raises(BudgetStoreDown):
            await refused.reserve(reservation, 10_000_000, now)
        await refused.aclose()
    good = store("backend")
    try:
        assert (await good.reserve(reservation, 10_000_000, now)).total_micro_usd == 1000
        assert (await good.settle(reservation, 700)).total_micro_usd == 700
    finally:
        await good.aclose()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_expired_certificate_is_renewed_without_a_restart(
    start_gateway: Start, tmp_path: Path, question: Any, workers: int
) -> None:
    """Clients of an expired certificate are told so by TLS, the gateway stays up, and SIGHUP brings the renewed one."""
    pki = Pki(tmp_path)
    authority = pki.authority
    for path in (authority.cert_path("expired"), authority.key_path("expired")):
        path.rename(path.with_name(path.name.replace("expired", "backend")))
    many = ["--workers", str(workers)] if workers > 1 else []
    with start_gateway(*tls_flags(authority), *many, BUDGET_STORE="sqlite", DRAIN_DELAY="0") as gateway:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match="certificate has expired"):
                asked(gateway.port, pki.client("web"), question())
        assert "send SIGHUP" in gateway.says
        # Renewed under another name for its hosts, put in place as `seawall certs renew` would.
        authority.issue("renewed", kind="ecdsa")
        for part in ("cert", "key"):
            (authority.folder / f"renewed-{part}.pem").replace(authority.folder / f"backend-{part}.pem")
        gateway.process.send_signal(signal.SIGHUP)
        answered(gateway, pki.client("web"), question, workers)
        assert gateway.process.poll() is None
        gateway.process.terminate()
        assert gateway.process.wait(10) == 0


def answered(gateway: Running, context: ssl.SSLContext, question: Any, workers: int) -> None:
    """Wait until every worker has read its files again, and has answered."""
    end = time.monotonic() + 15
    while gateway.says.count("certificates read again") < workers:
        assert time.monotonic() < end, gateway.says
        time.sleep(0.02)
    for _ in range(2 * workers):
        assert asked(gateway.port, context, question()).status_code == 200


def test_a_revocation_holds_from_the_next_reload_on(start_gateway: Start, tmp_path: Path, question: Any) -> None:
    """After SIGHUP a revoked client is out, on its open connection too; files that do not fit change nothing."""
    pki = Pki(tmp_path)
    authority = pki.authority
    with (
        start_gateway(*tls_flags(authority)) as gateway,
        httpx.Client(base_url=f"https://localhost:{gateway.port}", verify=pki.client("web"), trust_env=False) as client,
    ):
        assert client.get("/healthz").status_code == 200
        authority.revoke("web")
        assert client.get("/healthz").status_code == 200
        good = authority.key_path("backend").read_bytes()
        authority.key_path("backend").write_bytes(authority.key_path("db").read_bytes())
        gateway.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 15
        while "is not the key of" not in gateway.says:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "the certificates in use stay" in gateway.says
        assert asked(gateway.port, pki.client("stranger"), question()).status_code == 200
        authority.key_path("backend").write_bytes(good)
        gateway.process.send_signal(signal.SIGHUP)
        answered(gateway, pki.client("stranger"), question, 1)
        with pytest.raises(httpx.TransportError, match="CERTIFICATE_REVOKED"):
            client.get("/healthz")


async def test_a_reload_loses_no_request(start_gateway: Start, pki: Pki, question: Any) -> None:
    """Streams under way when certificates are read again end whole, and new connections find somebody all the while."""
    with start_gateway(*tls_flags(pki.authority)) as gateway:
        context = pki.client("web")
        async with httpx.AsyncClient(
            base_url=f"https://localhost:{gateway.port}", verify=context, timeout=20, trust_env=False
        ) as client:
            streams = [asyncio.create_task(client.post(CHAT, json=question(stream=True))) for _ in range(8)]
            others: list[httpx.Response] = []
            for _ in range(5):
                await asyncio.sleep(0.05)
                gateway.process.send_signal(signal.SIGHUP)
                async with httpx.AsyncClient(verify=context, timeout=20, trust_env=False) as newcomer:
                    others.append(await newcomer.get(f"https://localhost:{gateway.port}/healthz"))
            answers = await asyncio.gather(*streams)
        assert [answer.status_code for answer in others] == [200] * 5
        assert all(answer.text.rstrip().endswith("data: [DONE]") for answer in answers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TLS_KEY": "db-key.pem"}, "is not the key of TLS_CERT"),
        ({"TLS_KEY": ""}, "TLS_CERT and TLS_KEY go together"),
        ({"TLS_KEY": "backend-cert.pem"}, "holds no private key"),
        ({"TLS_CERT": "nowhere.pem"}, "cannot be read: No such file"),
        ({"TLS_CERT": "crl.pem"}, "holds no certificate"),
        ({"TLS_CLIENT_CA": "web-cert.pem"}, "is not a CA's certificate"),
        ({"TLS_CLIENT_CA": ""}, "need TLS_CLIENT_CA"),
        ({"TLS_CRL": "others"}, "was not signed by TLS_CLIENT_CA"),
        ({"TLS_CRL": "ca-cert.pem"}, "holds no list of revoked"),
        ({"TLS_CERT": "", "TLS_KEY": ""}, "TLS_CLIENT_CA needs TLS_CERT"),
    ],
)
def test_files_that_do_not_fit_one_another_are_told_at_the_start(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, str], words: str
) -> None:
    """The gateway does not start, names the setting and the file, and ends with 2; nothing of a key is shown."""
    from seawall.gateway.serve import main

    files = {"TLS_CERT": "backend-cert.pem", "TLS_KEY": "backend-key.pem", "TLS_CLIENT_CA": "ca-cert.pem"}
    for name, file in (files | {"TLS_CRL": "crl.pem"} | change).items():
        path = str(pki.others.crl_path) if file == "others" else str(pki.authority.folder / file) if file else ""
        monkeypatch.setenv(name, path)
    assert main(["--port", "0"]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert not re.search(r"[A-Za-z0-9+/]{40}", said.err)
    assert "Seawall gateway on" not in said.out

"""
Runs in a network namespace with nothing but loopback: an Ollama that also redirects, traps, and ours under strace.

Loopback has a second address, HOUSE, for what is elsewhere in the house; the name server is ours and notes each
question. It says of ollama.test that it is here, and of rebound.test so for the first time and then somewhere else.

    inside.py FOLDER

Each case is a process of ours under `strace -f -e trace=network`, whose lines are in FOLDER/<case>.trace. Prints one
line of JSON: the ports, and what each case answered.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

HERE = Path(__file__).parent
HOUSE = "10.20.30.40"
REBOUND = "10.9.8.5"
ELSEWHERE = ("http://10.9.8.7:11434/api/chat", "http://cloud.test/api/chat", "http://127.0.0.1:{trap}/api/chat")
TRANSPORTS = ("httptools", "pyreqwest", "httpx")
SAID = {
    "model": "llama3",
    "message": {"role": "assistant", "content": "from home"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 3,
    "eval_count": 2,
}


def main(folder: Path) -> None:
    """Carry out all cases."""
    _loopback_up()
    _name_server(folder)
    trap = _served(_Trap)
    _Ollama.elsewhere = [place.format(trap=trap) for place in ELSEWHERE]
    ports = {"trap": trap, "ollama": _served(_Ollama), "collector": _served(_Collector)}
    hostile = _hostile(ports)
    sealed = {**hostile, "AIRGAP_MODE": "True"}
    cases: dict[str, Any] = {
        "routers": _caller(folder, "routers", sealed, "plain", "equipped", *TRANSPORTS),
        # The same without the air gap goes astray: what the traces of the others lack, a trace would show.
        "open": _caller(folder, "open", hostile, "plain"),
    }
    for name in TRANSPORTS:
        traced = {**sealed, "TRANSPORT": name, "TELEMETRY": "otel"}
        traced["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{ports['collector']}"
        cases[f"gateway-{name}"] = _gateway(folder, f"gateway-{name}", traced)
    astray = {
        "redis": {"BUDGET_STORE": "redis", "REDIS_URL": "redis://10.9.8.7:6379/0"},
        "breakers": {"BREAKER_STORE": "redis", "REDIS_URL": "redis://redis.test:6379/0"},
        "telemetry": {"TELEMETRY": "otel", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.9.8.7:4318"},
        "deployment": {"DEPLOYMENTS": '{"local": [{"name": "far", "base_url": "http://10.9.8.7:11434"}]}'},
    }
    for name, settings in astray.items():
        cases[f"refused-{name}"] = _gateway(folder, f"refused-{name}", {**sealed, **settings})
    ports |= {"house": _served(_Ollama, HOUSE), "house_collector": _served(_Collector, HOUSE)}
    asked = {name: _asked_of_names(case) for name, case in _named(folder, sealed, ports).items()}
    cases |= {name: found for name, (found, _) in asked.items()} | _listed(folder, sealed, ports)
    names = {name: questions for name, (_, questions) in asked.items()}
    print(json.dumps({"ports": ports, "cases": cases, "names": names}), flush=True)


def _named(folder: Path, sealed: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, Callable[[], Any]]:
    """Return the cases in which OLLAMA_HOST is a name."""

    def of(case: str, name: str, *kinds: str) -> Callable[[], Any]:
        environment = {**sealed, "OLLAMA_HOST": f"http://{name}:{ports['ollama']}"}
        return lambda: _caller(folder, case, environment, *kinds)

    return {
        **{f"name-{kind}": of(f"name-{kind}", "ollama.test", kind) for kind in TRANSPORTS},
        "name-rebound": of("name-rebound", "rebound.test", "plain"),
        "name-unknown": of("name-unknown", "nobody.test", "plain"),
    }


def _listed(folder: Path, sealed: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, Any]:
    """Carry out the cases in which AIRGAP_ALLOW lists something of the house."""
    near, collector = f"http://{HOUSE}:{ports['house']}", f"http://{HOUSE}:{ports['house_collector']}"
    second = json.dumps({"local": [{"name": "near", "base_url": near}]})
    traced = {"TELEMETRY": "otel", "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    budget = {"BUDGET_STORE": "redis", "REDIS_URL": f"redis://{HOUSE}:{ports['house']}/0"}
    cases = {
        "listed-deployment": {"DEPLOYMENTS": second, "AIRGAP_ALLOW": near},
        "listed-collector": {**traced, "AIRGAP_ALLOW": f"{HOUSE}:{ports['house_collector']}"},
        "listed-redis": {**budget, "AIRGAP_ALLOW": HOUSE},
        "refused-deployment-port": {"DEPLOYMENTS": second, "AIRGAP_ALLOW": collector},
        "refused-deployment-scheme": {"DEPLOYMENTS": second, "AIRGAP_ALLOW": near.replace("http:", "https:")},
        "refused-collector-port": {**traced, "AIRGAP_ALLOW": f"{HOUSE}:{ports['house']}"},
        "refused-redis-name": {**budget, "AIRGAP_ALLOW": f"{HOUSE}.test"},
    }
    return {name: _gateway(folder, name, {**sealed, **settings}) for name, settings in cases.items()}


def _asked_of_names(case: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Carry out a case; return what came of it, and the names that were asked for meanwhile."""
    _questions.clear()
    return case(), sorted(set(_questions))


_questions: list[str] = []


def _name_server(folder: Path) -> None:
    """Answer on 127.0.0.1:53, and have this namespace's resolver ask there and nowhere else."""
    for target, text in (("/etc/resolv.conf", "nameserver 127.0.0.1\n"), ("/etc/nsswitch.conf", "hosts: files dns\n")):
        ours = folder / Path(target).name
        ours.write_text(text, "ascii")
        command = ["mount", "--bind", str(ours), os.path.realpath(target)]
        subprocess.run(command, check=True)
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 53))
    threading.Thread(target=_answer_names, args=(one,), daemon=True).start()


def _answer_names(one: socket.socket) -> None:
    """Answer A questions, with a TTL of 0; there are no other addresses, and no other names."""
    rebounds = 0
    while True:
        question, sender = one.recvfrom(4096)
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
            at += 1 + question[at]
        name, kind = ".".join(labels), question[at + 1 : at + 3]
        _questions.append(name)
        address = {"ollama.test": "127.0.0.1", "rebound.test": REBOUND if rebounds else "127.0.0.1"}.get(name)
        is_answered = kind == b"\0\1" and address is not None
        rebounds += is_answered and name == "rebound.test"
        flags = b"\x81\x80" if address is not None else b"\x81\x83"  # no such name
        counts = b"\0\1" + (b"\0\1" if is_answered else b"\0\0") + b"\0\0\0\0"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address or "0.0.0.0")
        one.sendto(question[:2] + flags + counts + question[12 : at + 5] + (answer if is_answered else b""), sender)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), "content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Ollama(_Handler):
    """Answers two of three calls, and sends the third elsewhere."""

    elsewhere: list[str]
    calls = 0

    def do_GET(self) -> None:
        """Redirect health checks."""
        self.say(302, location=self.elsewhere[0])

    def do_POST(self) -> None:
        """Answer or redirect."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        type(self).calls += 1
        if self.calls % 3:
            kind = "application/x-ndjson" if asked.get("stream") else "application/json"
            self.say(200, json.dumps(SAID).encode() + b"\n", **{"content-type": kind})
        else:
            place = self.elsewhere[self.calls // 3 % len(self.elsewhere)]
            self.say((301, 302, 303, 307, 308)[self.calls // 3 % 5], location=place)


class _Collector(_Handler):
    """A collector of traces that would send them elsewhere."""

    def do_POST(self) -> None:
        """Redirect."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.say(307, location="http://10.9.8.7:4318/v1/traces")


class _Trap(_Handler):
    """A proxy, a cloud: nobody may come here."""

    def do_GET(self) -> None:
        """Refuse."""
        self.say(502)

    do_POST = do_CONNECT = do_GET  # noqa: N815 - the library's names


def _served(handler: type[_Handler], address: str = "127.0.0.1") -> int:
    server = ThreadingHTTPServer((address, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def _loopback_up() -> None:
    """Do what `ip link set lo up` does: read the flags (SIOCGIFFLAGS) and set IFF_UP | IFF_RUNNING."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(one, 0x8913, request))[1]
        fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", flags | 0x1 | 0x40))
        # And `ip addr add HOUSE/32 dev lo` (SIOCSIFADDR, SIOCSIFNETMASK), under the name of an alias.
        for order, address in ((0x8916, HOUSE), (0x891C, "255.255.255.255")):
            fcntl.ioctl(one, order, struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(address)))


def _hostile(ports: Mapping[str, int]) -> dict[str, str]:
    """Return an environment in which everything that can lead out does."""
    trap = f"http://127.0.0.1:{ports['trap']}"
    astray = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    keys = ("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY")
    return {
        **os.environ,
        **dict.fromkeys(astray, trap),
        **dict.fromkeys(keys, "a-key"),
        "GEMINI_BASE_URL": "http://10.9.8.7",
        "ANTHROPIC_BASE_URL": "http://cloud.test",
        "OPENAI_BASE_URL": f"{trap}/v1",
        "OLLAMA_HOST": f"http://127.0.0.1:{ports['ollama']}",
        "REDIS_URL": "redis://10.9.8.7:6379/0",
        "DEPLOYMENTS": '{"gemini": [{"name": "far", "api_key": "k", "base_url": "http://10.9.8.6"}]}',
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.9.8.7:4318",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
        "RES_OPTIONS": "timeout:1 attempts:1",
    }


def _strace(folder: Path, case: str, *command: str) -> list[str]:
    return ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(folder / f"{case}.trace"), *command]


def _caller(folder: Path, case: str, environment: Mapping[str, str], *names: str) -> Any:
    command = _strace(folder, case, sys.executable, str(HERE / "caller.py"), *names)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr[-2000:]


def _gateway(folder: Path, case: str, environment: Mapping[str, str]) -> Any:
    command = _strace(folder, case, sys.executable, "-m", "seawall.gateway", "--port", "0", "--ready-json")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            return {"refused": process.wait(20), "said": process.stderr.read()[-500:]}
        ready = json.loads(line)
        try:
            return [
                _asked(ready["port"], model, stream=stream)
                for model in ("seawall", "local", "gemini", "gpt-4o", "auto")
                for stream in (False, True, False, True)
            ]
        finally:
            with suppress(ProcessLookupError):
                os.kill(ready["pid"], 15)
            process.communicate(timeout=20)


def _asked(port: int, model: str, *, stream: bool) -> str:
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Who?"}]}).encode()
    url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"content-type": "application/json"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, body, headers)
    try:
        answer: HTTPResponse = direct.open(request, timeout=20)
        with answer:
            return "answered" if b"from home" in answer.read() else "something else"
    except HTTPError as error:
        return str(json.loads(error.read())["error"]["code"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""
Runs in a network namespace with nothing but loopback: an Ollama that also redirects, traps, and ours under strace.

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
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

HERE = Path(__file__).parent
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
    print(json.dumps({"ports": ports, "cases": cases}), flush=True)


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


def _served(handler: type[_Handler]) -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def _loopback_up() -> None:
    """Do what `ip link set lo up` does: read the flags (SIOCGIFFLAGS) and set IFF_UP | IFF_RUNNING."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(one, 0x8913, request))[1]
        fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", flags | 0x1 | 0x40))


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

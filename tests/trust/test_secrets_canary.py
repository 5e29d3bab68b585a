"""No secret in anything that is written: every kind of run with marked keys, and every byte of it searched."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from canaries import Canaries, forms_of
from command_harness import Harness, until, wait_for
from cryptography.hazmat.primitives import serialization
from echo import MODES, REPEATING, Echo, asked
from trustme import CA

from seawall.scenario import load_scenario

ROOT = Path(__file__).parents[2]
SIMULATED = [
    path
    for folder in ("scenarios", "scenarios/regressions")
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if "simulation" in load_scenario(path).scenario.arenas
]
FAILING = """
version: 1
title: {title}
arenas: [simulation]
seed: 7
system: {{settings: {{first_byte_timeout: 500ms}}}}
load: {{executor: constant-arrival-rate, rate: 20/s, duration: 9s}}
faults: [{{id: dark, at: 3s, duration: 3s, target: gemini, toxic: {{type: timeout, attributes: {{timeout: 0}}}}}}]
expect: {{sometimes: [{{breaker: openai, reaches: open}}]}}
"""
BROKEN = """
from router.hybrid import HybridRouter
from router.errors import AllCloudsDownError


class Hasty(HybridRouter):
    async def complete(self, request):
        reply = await super().complete(request)
        if len(reply.attempts) > 1:
            raise AllCloudsDownError("the first provider failed", attempts=list(reply.attempts))
        return reply


make_router = Hasty
"""


@pytest.mark.parametrize("kind", ["a key", "a master key"])
def test_the_search_finds_a_secret_in_every_form(kind: str, canaries: Canaries) -> None:
    """Each spelling of a secret is found in the middle of noise, and nothing is found where none is."""
    secret = canaries.new(kind) if kind == "a key" else canaries.keep(kind, base64.b64encode(os.urandom(32)).decode())
    noise = secrets.token_bytes(4096) + b"sk-" + secrets.token_hex(200).encode()
    assert canaries.found_in(noise) == []
    for form, spelled in forms_of(secret).items():
        assert canaries.found_in(noise + spelled + noise), form
    for before in range(4):
        told = base64.b64encode(b"user:password"[:before] + secret.encode() + b"more")
        assert canaries.found_in(noise + told), before


@pytest.mark.real
@pytest.mark.timeout(150)
def test_simulations_hunts_and_plugins_write_no_secret(tmp_path: Path, canaries: Canaries) -> None:
    """Every scenario of the simulation, one that fails, a hunt with a find, a pytest run with failures: no key."""
    environment = os.environ | canaries.environment() | {"SEAWALL_STATE": str(tmp_path / "state"), "NO_COLOR": "1"}
    project, out = tmp_path / "project", tmp_path / "out"
    project.mkdir()
    (project / "failing.yaml").write_text(FAILING.format(title=canaries.control))
    (project / "broken_router.py").write_text(BROKEN)
    (project / "test_mine.py").write_text(
        "import pytest\n\n@pytest.mark.seawall('failing.yaml')\ndef test_it():\n    pass\n\n"
        "def test_langchain():\n    from seawall.langchain import ChatSeawall\n    model = ChatSeawall()\n"
        "    from seawall.equipped import EquippedRouter\n    router = EquippedRouter()\n    assert model is router\n"
    )
    seawall, files = ["-m", "seawall"], [str(path) for path in (*SIMULATED, project / "failing.yaml")]
    commands = {
        "run": [*seawall, "run", "--arena", "simulation", "--brief", "--out", str(out), *files],
        "hunt": [
            *seawall,
            "hunt",
            "--seed",
            "4",
            "--schedules",
            "200",
            "--out",
            str(tmp_path / "finds"),
            "--router",
            "broken_router:make_router",
        ],
        "plan": [*seawall, "run", "--plan", "primary-dark"],
        "version": [*seawall, "version"],
        "pytest": ["-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", "--showlocals", "test_mine.py"],
    }
    paths = {"PYTHONPATH": f"{project}:{ROOT}"}
    said = {
        name: subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=environment | paths,
            capture_output=True,
            timeout=120,
            check=False,
        )
        for name, words in commands.items()
    }
    codes = {name: done.returncode for name, done in said.items()}
    assert codes == {"run": 3, "hunt": 1, "plan": 0, "version": 0, "pytest": 1}, said
    leaks = {name: found for name, done in said.items() if (found := canaries.found_in(done.stdout + done.stderr))}
    assert leaks == {}
    assert canaries.found_below(tmp_path) == {}
    assert b"EquippedRouter" in said["pytest"].stdout, "the failure shows its values"
    (run,) = out.glob("failing-*")
    for name in ("journal.jsonl", "index.html", "summary.md"):
        assert canaries.holds_control((run / name).read_bytes()), name
    assert {path.name for path in run.iterdir()} > {"junit.xml", "verdict.json"}
    assert list((tmp_path / "finds").glob("*.yaml"))
    print(f"{len(files)} simulations, a hunt, a pytest run: {canaries.searched_bytes / 1e6:.1f} MB searched")


@pytest.mark.real
@pytest.mark.parametrize("form", ["json", "text"])
async def test_a_gateway_writes_no_secret(form: str, start_gateway: Any, tmp_path: Path, canaries: Canaries) -> None:
    """Providers that echo the key in every kind of answer, with logs at debug: nothing that is written."""
    environment = canaries.environment()
    key_file, cert_file = tmp_path / "key.pem", tmp_path / "cert.pem"
    _write_certificate(key_file, cert_file, canaries)
    events = tmp_path / "events"
    for folder in (events, tmp_path / "transcripts", tmp_path / "keys"):
        folder.mkdir()
    async with AsyncExitStack() as stack:
        echo, collector = [await stack.enter_async_context(Echo(canaries).serving()) for _ in range(2)]
        url = f"http://127.0.0.1:{echo.port}"
        settings = environment | {
            **dict.fromkeys(("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL"), url),
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": form,
            "LOG_REQUESTS": "all",
            "SEAWALL_EVENTS": str(events),
            "TELEMETRY": "otel",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "TRANSCRIPTS": str(tmp_path / "transcripts" / "t.db"),
            "TRANSCRIPTS_KEY_STORE": str(tmp_path / "keys" / "k.db"),
            "BUDGET_STORE": "redis",
            "BUDGET_STORE_DOWN": "allowance",
            "MIDSTREAM": "error",
            "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
        }
        if form == "json":
            settings |= {"TLS_CERT": str(cert_file), "TLS_KEY": str(key_file)}
        bodies: list[bytes] = []
        collector._answer = lambda _head, body: (bodies.append(body), (200, b"application/x-protobuf", b""))[1]  # type: ignore[method-assign]
        async with start_gateway(None, **settings) as gateway:
            base = gateway.url.replace("http:", "https:") if form == "json" else gateway.url
            answers = await asked(base, echo, canaries, MODES)
            await asked(base, echo, canaries, REPEATING)  # for what is written; what is answered has its own test
        control = canaries.control.encode()
        assert any(b"/+" in head for head in echo.seen), "the providers were sent the keys"
        assert any(control in answer for answer in answers)
        assert canaries.holds_control((tmp_path / "stderr").read_bytes()), "the log tells of requests by their ids"
        journal = b"".join(path.read_bytes() for path in events.iterdir())
        assert canaries.holds_control(journal)
        assert bodies
        assert any(canaries.holds_control(body) for body in bodies), "and so do the spans"
        assert [answer for answer in answers if canaries.found_in(answer)] == []
        assert [canaries.found_in(body) for body in bodies if canaries.found_in(body)] == []
        assert canaries.found_below(tmp_path, besides={key_file}) == {}
        kept = b"".join(path.read_bytes() for path in (tmp_path / "transcripts").iterdir())
        assert kept
        assert not canaries.holds_control(kept.replace(b"x-request-id", b"")), "what people say is sealed"
    print(f"{len(answers)} answers, {len(bodies)} exports: {canaries.searched_bytes / 1e6:.1f} MB searched")


def _write_certificate(key_file: Path, cert_file: Path, canaries: Canaries) -> None:
    leaf = CA().issue_cert("127.0.0.1")
    pem = leaf.private_key_pem.bytes()
    leaf.cert_chain_pems[0].write_to_path(cert_file)
    key_file.write_bytes(pem)
    key = serialization.load_pem_private_key(pem, None)
    for number, line in enumerate(pem.decode().splitlines()[1:-1]):
        if len(line) > 40:
            canaries.keep(f"TLS key, line {number}", line)
    assert key.private_bytes  # type: ignore[union-attr]


@pytest.mark.real
async def test_a_client_is_told_no_key_that_a_provider_repeats(start_gateway: Any, canaries: Canaries) -> None:
    """A refused request and a stream that breaks off tell their client what the provider said, less the key."""
    async with Echo(canaries).serving() as echo:
        urls = dict.fromkeys(
            ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL"), f"http://127.0.0.1:{echo.port}"
        )
        keys = {name: key for name, key in canaries.environment().items() if name.endswith(("API_KEY", "API_KEYS"))}
        async with start_gateway(None, MIDSTREAM="error", **urls, **keys) as gateway:
            answers = await asked(gateway.url, echo, canaries, REPEATING)
    assert [answer for answer in answers if canaries.found_in(answer)] == []


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_run_on_the_wire_writes_no_secret(tmp_path: Path, toxiproxy_binary: Path, canaries: Canaries) -> None:
    """A failover on real parts that is watched live: no file, no output and no answer of the control API has a key."""
    harness = Harness(tmp_path)
    marked = canaries.environment()
    marked.pop("REDIS_URL")
    harness.environment |= marked
    scenario = tmp_path / "short.yaml"
    text = (ROOT / "tests/run/short.yaml").read_text(encoding="utf-8")
    scenario.write_text(re.sub(r"(?m)^title: .*$", f"title: {canaries.control}", text))
    process = harness.start("run", str(scenario), "--live", "--out", str(harness.out))
    said = until(process, "live report:")
    address = re.search(r"http://\S+", said)
    assert address is not None
    token = canaries.keep("the control token", re.search(r"token=([^\s&]+)", said)[1])  # type: ignore[index]
    rest: list[str] = []
    reader = threading.Thread(target=lambda: rest.extend(process.stdout or ()), daemon=True)
    reader.start()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    base = address[0].partition("/?")[0]
    answers: list[bytes] = []

    def ask(path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data, {"content-type": "application/json", "origin": base})  # noqa: S310
        try:
            with opener.open(request, timeout=20) as answer:
                answers.append(bytes(answer.headers) + answer.read() if path != "/" else answer.read())
        except urllib.error.HTTPError as error:
            answers.append(error.read())
        except OSError:
            answers.append(b"")  # the run is over
        return answers[-1]

    opener.open(address[0], timeout=20).close()
    wait_for(lambda: b'"loading"' in ask("/v1/state"), 60)
    ask("/v1/faults", {"target": "claude", "duration": "1s", "respond": {"statsu": token[:0] or 500}})
    wait_for(lambda: b"<svg" in ask("/page") or process.poll() is not None, 30)
    ask("/v1/events?since=0")
    assert process.wait(60) in (0, 1, 3), said
    reader.join(5)
    assert process.stdout is not None
    process.stdout.close()
    assert any(canaries.holds_control(answer) for answer in answers)
    assert canaries.found_in(b"\n".join(answers)) == []
    printed = (said.replace(f"token={token}", "") + "".join(rest)).encode()
    assert canaries.found_in(printed) == []
    assert canaries.found_below(tmp_path) == {}
    folder = harness.folder("short")
    for name in ("journal.jsonl", "index.html", "summary.md"):
        assert canaries.holds_control((folder / name).read_bytes()), name
    print(f"{len(answers)} answers of the control API: {canaries.searched_bytes / 1e6:.1f} MB searched")

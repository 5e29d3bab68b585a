"""Real gateways, a real nginx and a real certificate authority, shared by the tests of a module."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from router.settings import setting_names
from seawall.gateway.config import NAMES
from seawall.ports import HeldPort

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

import vault_stand_in  # noqa: E402 - these are found by the lines above
from archive_parts import new_kms_key, settings_in  # noqa: E402
from platform_parts import Pki, Running, ended, listening  # noqa: E402

PROVIDERS = ("gemini", "claude", "openai", "local")
OURS = {name.upper() for name in setting_names()} | {*NAMES, "SEAWALL_CONFIG", "SEAWALL_EVENTS"}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def provider_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of four emulated providers whose answers are 20 tokens in half a second."""
    healthy = {"first_token_p50_s": 0.001, "first_token_p99_s": 0.002, "tokens_per_second": 40, "tokens": 20}
    config = tmp_path_factory.mktemp("emulators") / "config.json"
    config.write_text(json.dumps({"seed": 3, "providers": dict.fromkeys(PROVIDERS, healthy)}))
    command = [sys.executable, "-m", "seawall.emulators", "--config", str(config)]
    environment = {**os.environ, "SEAWALL_TOKEN": "the-token-of-this-test"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process, ended(process):
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["ports"]


@pytest.fixture(scope="module")
def start_gateway(
    provider_ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Running]]:
    """Return what starts a gateway with arguments, and settings as in an environment."""

    @contextmanager
    def start(*arguments: str, **settings: str) -> Iterator[Running]:
        folder = tmp_path_factory.mktemp("gateway")
        urls = {name: f"http://127.0.0.1:{port}" for name, port in provider_ports.items()}
        environment = {name: value for name, value in os.environ.items() if name not in OURS} | {
            "GEMINI_BASE_URL": urls["gemini"],
            "ANTHROPIC_BASE_URL": urls["claude"],
            "OPENAI_BASE_URL": urls["openai"],
            "OLLAMA_HOST": urls["local"],
            **dict.fromkeys(("GEMINI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), "a-key"),
            **settings,
        }
        command = [sys.executable, "-m", "seawall.gateway", "--port", "0", "--ready-json", *arguments]
        log = folder / "stderr.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=folder
            ) as process,
            ended(process),
        ):
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Running(process, json.loads(line)["port"], log)
        assert "Traceback" not in log.read_text()

    return start


@pytest.fixture
def question() -> Callable[..., dict[str, Any]]:
    """Return what makes the body of a new request."""

    def make(text: str = "What does a seawall do?", **more: Any) -> dict[str, Any]:
        content = f"[sw:p{next(_numbers)}] {text}"
        return {"model": "gemini", "messages": [{"role": "user", "content": content}], **more}

    return make


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates of every kind."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def local(tmp_path: Path) -> dict[str, str]:
    """The settings of an archive with a master key of ours."""
    return settings_in(tmp_path)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """AWS's variables for moto's server, in a process of its own."""
    with HeldPort() as held:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(held.port)]
        log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
        with log, subprocess.Popen(command, stdout=log, stderr=log) as process, ended(process):
            listening(held.port)
            yield {
                "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{held.port}",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": "eu-central-1",
            }


@pytest.fixture
def kms(tmp_path: Path, moto: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of an archive with a key in AWS KMS, as moto plays it."""
    for name, value in moto.items():
        monkeypatch.setenv(name, value)
    return settings_in(tmp_path, TRANSCRIPTS_KEYS="kms", TRANSCRIPTS_KMS_KEY=new_kms_key())


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The settings of an archive with keys in a stand-in of Vault's transit engine."""
    with vault_stand_in.server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("VAULT_TOKEN", vault_stand_in.TOKEN)
        try:
            yield settings_in(tmp_path, TRANSCRIPTS_KEYS="vault")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["local", pytest.param("kms", marks=pytest.mark.real), "vault"])
def settings(request: pytest.FixtureRequest, moto: dict[str, str]) -> dict[str, str]:
    """The settings of an archive with each kind of key store."""
    return request.getfixturevalue(request.param)

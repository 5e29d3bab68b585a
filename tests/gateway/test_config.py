"""The gateway's own settings, and its command line."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from router.errors import ConfigurationError
from seawall.config_file import load_settings
from seawall.gateway.config import GatewaySettings
from seawall.gateway.serve import main

KEY = "sk-not-to-be-seen"


def test_defaults_ask_for_no_key() -> None:
    """An empty environment: no keys, 4 MiB, half a minute to drain."""
    settings = GatewaySettings.from_environment({})
    assert (settings.api_key_sha256, settings.body_bytes_max, settings.drain_timeout_s) == ((), 4 * 1024 * 1024, 30.0)


@pytest.mark.parametrize("text", [f"{KEY},sk-two", f" {KEY} , sk-two ", f"{KEY},,sk-two,"])
def test_keys_are_kept_as_hashes_only(text: str) -> None:
    """Each key between commas is known by its SHA-256, and shown nowhere."""
    settings = GatewaySettings.from_environment({"SEAWALL_API_KEYS": text})
    assert settings.api_key_sha256 == tuple(hashlib.sha256(key.encode()).hexdigest() for key in (KEY, "sk-two"))
    assert KEY not in repr(settings)


def test_all_violations_are_reported_together() -> None:
    """Each variable that cannot be used is named, with what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        GatewaySettings.from_environment({"BODY_BYTES_MAX": "many", "DRAIN_TIMEOUT": "-1"})
    assert "BODY_BYTES_MAX is 'many'; it must be a number from 1024" in str(caught.value)
    assert "DRAIN_TIMEOUT is '-1'; it must be a time from 0 to 3600 s" in str(caught.value)


def test_file_env_file_and_environment_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over `.env`, that over the file's section `gateway`; durations may have a unit."""
    monkeypatch.chdir(tmp_path)
    Path("router.yaml").write_text(
        "gateway:\n  seawall_api_keys: [sk-one, sk-two]\n"
        "  drain_delay: 50ms\n  drain_timeout: 7\n  body_bytes_max: 4096\n"
    )
    Path(".env").write_text("DRAIN_TIMEOUT=8\nBODY_BYTES_MAX=5000\n")
    monkeypatch.setenv("BODY_BYTES_MAX", "6000")
    settings = GatewaySettings.load(Path("router.yaml"))
    assert (settings.drain_delay_s, settings.drain_timeout_s, settings.body_bytes_max) == (0.05, 8.0, 6000)
    assert len(settings.api_key_sha256) == 2
    monkeypatch.setenv("SEAWALL_CONFIG", "router.yaml")
    assert GatewaySettings.from_environment() == settings


def test_file_of_the_documentation_is_one(tmp_path: Path) -> None:
    """The file on the page is taken by router and gateway alike."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "gateway.md"
    file = tmp_path / "router.yaml"
    file.write_text(page.read_text().partition("```yml\n")[2].partition("```")[0])
    assert load_settings(file, {}, dotenv=None).budget_store == "sqlite"
    assert GatewaySettings.load(file, {}, dotenv=None).drain_timeout_s == 20.0


def test_key_in_the_env_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway is not left open because its keys stand in `.env` and not in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEAWALL_API_KEYS", raising=False)
    Path(".env").write_text(f"SEAWALL_API_KEYS={KEY}\n")
    assert len(GatewaySettings.from_environment().api_key_sha256) == 1


def test_unknown_name_in_the_file_is_told(tmp_path: Path) -> None:
    """A misspelt setting is no setting: it is named, with those that there are."""
    file = tmp_path / "router.yaml"
    file.write_text("gateway: {drain_time: 3}\n")
    with pytest.raises(ConfigurationError, match=r"gateway\.drain_time is not a setting; known are .*drain_timeout"):
        GatewaySettings.load(file, {})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder: no `.env` of anybody's."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("IDLE_TIMEOUT", "soon"), ("BODY_BYTES_MAX", "1")])
def test_bad_setting_ends_the_command_with_2(
    here: None, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that cannot be used is told on stderr, and nothing is served."""
    monkeypatch.setenv(name, value)
    assert main(["--port", "0"]) == 2
    assert name in capsys.readouterr().err


def test_model_that_nobody_knows_ends_the_command_with_2(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that only the router can check is told like any other."""
    monkeypatch.setenv("LATENCY_FAILOVER_MODEL", "gpt-99")
    assert main(["--port", "0"]) == 2
    assert "LATENCY_FAILOVER_MODEL" in capsys.readouterr().err


def test_violations_of_router_and_gateway_are_told_together(
    here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run of the command names everything that is wrong with a file."""
    file = tmp_path / "router.yaml"
    file.write_text("idle_timeout: soon\ngateway:\n  drain_delay: later\n")
    assert main(["--port", "0", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert "IDLE_TIMEOUT" in said
    assert "DRAIN_DELAY is 'later'" in said


@pytest.mark.parametrize("store", ["memory", None])
def test_workers_with_a_budget_each_are_refused(
    here: None, store: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """N workers on a budget in memory could spend N times the limit: exit code 2, and the way out."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("BUDGET_STORE", raising=False)
    if store is not None:
        monkeypatch.setenv("BUDGET_STORE", store)
    assert main(["--port", "0", "--workers", "3"]) == 2
    said = capsys.readouterr().err
    assert "3 workers could spend 3 times DAILY_SPEND_LIMIT_USD" in said
    assert "BUDGET_STORE=sqlite" in said
    assert KEY not in said


def test_port_that_is_taken_ends_the_command_with_3(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else's port: the message names it and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 3
        monkeypatch.setenv("AIRGAP_MODE", "true")  # a budget in memory is no matter then
        assert main(["--port", str(port), "--workers", "2"]) == 3
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_port_that_is_none_is_a_usage_error(here: None, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no port is refused by the command line, not by the socket."""
    with pytest.raises(SystemExit) as caught:
        main([f"--port={port}"])
    assert caught.value.code == 2
    assert "--port" in capsys.readouterr().err


def test_transcripts_without_their_package_are_one_clear_error(tmp_path: Path) -> None:
    """A gateway that cannot seal does not start: exit code 2, and what to install, with no traceback."""
    code = "import sys; sys.modules['cryptography'] = None; from seawall.gateway.serve import main; sys.exit(main([]))"
    environment = {**os.environ, "GEMINI_API_KEY": "x", "TRANSCRIPTS": str(tmp_path / "transcripts.db")}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert run.stderr.strip().endswith("TRANSCRIPTS needs the package cryptography: pip install 'seawall[crypto]'")
    assert "Traceback" not in run.stderr

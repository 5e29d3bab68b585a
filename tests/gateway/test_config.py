"""The gateway's own settings, and its command line."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from router.errors import ConfigurationError
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
    assert "DRAIN_TIMEOUT is '-1'; it must be a number from 0 to 3600" in str(caught.value)


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


def test_port_that_is_taken_ends_the_command_with_3(here: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else's port: the message names it and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 3
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_port_that_is_none_is_a_usage_error(here: None, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no port is refused by the command line, not by the socket."""
    with pytest.raises(SystemExit) as caught:
        main([f"--port={port}"])
    assert caught.value.code == 2
    assert "--port" in capsys.readouterr().err

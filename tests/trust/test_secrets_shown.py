"""No secret in what is said of bad settings, nor in what objects and errors show of themselves."""

from __future__ import annotations

import asyncio
import hmac
import json
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from canaries import Canaries, forms_of
from echo import Echo

from router import HybridRouter, Message, Request
from router.errors import SeawallError
from router.settings import Settings
from seawall.cli import main
from seawall.equipped import EquippedRouter
from seawall.gateway import auth
from seawall.gateway.config import GatewaySettings
from seawall.gateway.serve import main as serve
from seawall.langchain import ChatSeawall

SCENARIO = "version: 1\ntitle: t\nsystem: {{settings: {{OPENAI_API_KEY: '{key}'}}}}\n"


def test_bad_settings_are_told_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], canaries: Canaries
) -> None:
    """Whatever is wrong, with the secret itself or beside it, in environment or file: no message repeats it."""
    monkeypatch.chdir(tmp_path)
    for name in (*(name.upper() for name in Settings.__struct_fields__), *canaries.environment(), "SEAWALL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    bad = canaries.new("in a bad setting")
    password = forms_of(bad)["URL"].decode()
    wrong = {
        "OPENAI_API_KEY": [f"{bad} {bad}", f"{bad}\n", f"{bad}é"],
        "REDIS_URL": [f"http://u:{password}@h", f"redis://u:{password}@h:99999999/x", f"redis://u:{password}@[h"],
        "OPENAI_BASE_URL": [f"http://u:{password}@h", f"http://u:{password}@[h", f"http://h/?key={password}"],
        "OLLAMA_HOST": [f"ftp://u:{password}@h"],
        "AIRGAP_ALLOW": [f"http://u:{password}@h:x"],
        "DEPLOYMENTS": [
            json.dumps({"openai": [{"name": "a", "api_key": bad}]}),
            json.dumps({"openai": [{"name": "a", "base_url": f"http://u:{password}@h"}]}),
            json.dumps({"openai": bad}),
            f'{{"{bad}',
        ],
        "TRANSCRIPTS_MASTER_KEY": [bad],
        "OTEL_EXPORTER_OTLP_ENDPOINT": [f"ftp://u:{password}@h", f"http://u:{password}@h:x"],
    }
    common = {"TRANSCRIPTS": "t/a", "TRANSCRIPTS_KEY_STORE": "k/b", "TELEMETRY": "otel"}
    tried = 0
    for name, values in wrong.items():
        for value in values:
            with monkeypatch.context() as here:
                for each, text in ((common if name[0] in "TO" else {}) | {name: value}).items():
                    here.setenv(each, text)
                here.setenv("BODY_BYTES_MAX", "no number")  # so that nothing is ever served
                assert serve(["--port", "0"]) == 2, name
                tried += 1
    files = [
        f"openai_api_key: {{a: '{bad}'}}\nidle_timeout: soon\n",
        f"openai_api_key: '{bad}'\nopenai_api_key: '{bad}x'\n",
        f"openai_api_key: '{bad}\n",
        f"redis_url: ['redis://u:{password}@h']\n",
        f"gateway: {{transcripts_master_key: ['{bad}'], body_bytes_max: 1}}\n",
        f"gateway: {{seawall_api_keys: {{a: '{bad}'}}, body_bytes_max: 1}}\n",
        f"deployments: {{openai: [{{name: a, api_key: '{bad}'}}]}}\n",
        f"openai_api_key: !!int '{bad}'\n",
        f"openai_api_key: *{bad.replace('/', '_')}\n",
    ]
    monkeypatch.setenv("BODY_BYTES_MAX", "no number")
    for text in files:
        (tmp_path / "router.yaml").write_text(text)
        assert serve(["--port", "0", "--config", "router.yaml"]) == 2, text
        tried += 1
    (tmp_path / "scenario.yaml").write_text(SCENARIO.format(key=bad))
    assert main(["validate", "scenario.yaml"]) == 2
    said = capsys.readouterr()
    assert canaries.found_in((said.out + said.err).encode()) == []
    assert said.err.count("seawall serve: ") >= tried
    assert canaries.found_below(tmp_path, besides={tmp_path / "router.yaml", tmp_path / "scenario.yaml"}) == {}
    print(f"{tried + 1} bad settings")


async def test_no_object_and_no_error_shows_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canaries: Canaries
) -> None:
    """Settings, routers, adapters and models say nothing of keys in repr, str, dumps, pickles and tracebacks."""
    monkeypatch.chdir(tmp_path)
    for name, value in canaries.environment().items():
        monkeypatch.setenv(name, value)
    async with Echo(canaries).serving() as echo:
        url = f"http://127.0.0.1:{echo.port}"
        for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_HOST"):
            monkeypatch.setenv(name, url)
        deployments = {"openai": [{"name": "a", "api_key_env": "OPENAI_API_KEY"}]}
        monkeypatch.setenv("DEPLOYMENTS", json.dumps(deployments))
        settings, gateway = Settings.from_environment(), GatewaySettings.from_environment()
        told: list[str] = [json.dumps(settings.shown()), msgspec.json.encode(settings.shown()).decode()]
        async with HybridRouter(settings) as router, EquippedRouter(settings) as equipped:
            objects: list[Any] = [settings, gateway, router, equipped, ChatSeawall(), settings.deployments]
            objects += [*vars(router).values(), *vars(equipped).values()]
            for value in objects:
                told += [repr(value), str(value), f"{value!r:.9999}"]
                told += [_dumped(dump, value) for dump in (pickle.dumps, msgspec.json.encode, msgspec.to_builtins)]
            for mode in ("401", "html", "no JSON", "in the middle"):
                echo.mode = mode
                for model in ("gpt-4o", "claude-haiku", "gemini", "llama3"):
                    with pytest.raises(SeawallError) as caught:
                        await router.complete(Request(messages=(Message(role="user", content="Hello?"),), model=model))
                    told += [*traceback.format_exception(caught.value), repr(caught.value), repr(vars(caught.value))]
        model = ChatSeawall(model="gpt-4o")
        told += [model.model_dump_json(), str(model.lc_attributes), repr(model._identifying_params)]
        echo.mode = "401"
        with pytest.raises(SeawallError) as caught:
            await model.ainvoke("Hello?")
        told += traceback.format_exception(caught.value)
        await asyncio.to_thread(model.close)
    assert any(b"/+" in head for head in echo.seen)
    assert any("HybridRouter" in text for text in told)
    assert canaries.found_in("\n".join(told).encode()) == []


def _dumped(dump: Callable[[Any], Any], value: Any) -> str:
    try:
        return repr(dump(value))
    except Exception as error:  # noqa: BLE001 - whatever cannot be dumped is not told
        return "".join(traceback.format_exception(error))


def test_every_accepted_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever key a client sends, its hash is compared with every accepted one, in constant time."""
    compared: list[tuple[str, str]] = []

    def compare(given: str, known: str) -> bool:
        compared.append((given, known))
        return compare_digest(given, known)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    accepted = GatewaySettings.from_environment({"SEAWALL_API_KEYS": "sk-one,sk-two,sk-three"}).api_key_sha256
    for header, passes in (
        (b"Bearer sk-one", True),
        (b"Bearer sk-three", True),
        (b"Bearer sk-on", False),
        (b"", False),
    ):
        compared.clear()
        if passes:
            auth.authenticate(header, accepted)
        else:
            with pytest.raises(auth.Unauthorized):
                auth.authenticate(header, accepted)
        assert [known for _, known in compared] == list(accepted), header
        assert len({given for given, _ in compared}) == 1
        assert all(len(given) in (0, 64) and b"sk-" not in given.encode() for given, _ in compared)

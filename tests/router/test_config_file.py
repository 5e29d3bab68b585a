"""The configuration file: one YAML file for everything, below the environment, with the line of each mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from router import Message, ModelType, Request
from router.errors import ConfigurationError
from router.settings import Settings
from router.testing import ScriptedTransport, scripted_router, test_settings
from seawall.config_file import load_settings

KEY = "sk-not-to-be-seen"
WHOLE = """\
# everything in one file
latency_limit: 800ms
LATENCY_LIMIT_JSON: 20s
airgap_mode: false
ollama_model: mistral
deployments:
  openai:
    - {name: eu, api_key_env: OPENAI_EU_KEY, base_url: https://eu.example/}
    - {name: us, weight: 2}
models:
  gpt-9: {provider: openai, tier: large}
aliases: {best: gpt-9}
tiers:
  large: {openai: gpt-9}
  default: {openai: gpt-9}
arbitrage:
  - {shorter_than: 10, model: local}
  - {model: best}
gateway:
  drain_timeout: 5
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "router.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _load(path: Path, **environment: str) -> Settings:
    return load_settings(path, {"OPENAI_EU_KEY": KEY, **environment}, dotenv=None)


def test_file_says_everything(tmp_path: Path) -> None:
    """Durations, switches, deployments, models and rules stand in one file; the gateway's section is left alone."""
    settings = _load(_write(tmp_path, WHOLE), OPENAI_API_KEY="own")
    assert (settings.latency_limit, settings.json_limit(), settings.ollama_model) == (0.8, 20.0, "mistral")
    eu, us = settings.targets(ModelType.OPENAI)
    assert (eu.name, eu.base_url, eu.api_key.reveal(), eu.weight) == ("eu", "https://eu.example", KEY, 1.0)
    assert (us.name, us.base_url, us.api_key.reveal(), us.weight) == ("us", "https://api.openai.com", "own", 2.0)
    assert settings.catalogue().resolve("best", "mistral").model == "gpt-9"


def test_environment_wins_over_dotenv_and_that_over_the_file(tmp_path: Path) -> None:
    """Three places, one order."""
    path = _write(tmp_path, "idle_timeout: 1s\nconnect_timeout: 1s\nfirst_byte_timeout: 1s\n")
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"SEAWALL_CONFIG={path}\nCONNECT_TIMEOUT=2s\nFIRST_BYTE_TIMEOUT=2s\n", encoding="utf-8")
    settings = load_settings(None, {"FIRST_BYTE_TIMEOUT": "3s"}, dotenv=dotenv)
    assert (settings.idle_timeout, settings.connect_timeout, settings.first_byte_timeout) == (1.0, 2.0, 3.0)


def test_environment_says_tables_as_json() -> None:
    """What is a table in the file is JSON in a variable."""
    environment = {
        "DEPLOYMENTS": '{"local": [{"name": "a", "base_url": "http://gpu1:11434"}, {"name": "b"}]}',
        "ARBITRAGE": '[{"model": "gpt-4o"}]',
        "TIERS": '{"small": {"claude": "claude-sonnet-4-5"}}',
    }
    settings = Settings.from_environment(environment, dotenv=None)
    assert [one.base_url for one in settings.targets(ModelType.LOCAL)] == [
        "http://gpu1:11434",
        "http://localhost:11434",
    ]
    assert [rule.model for rule in settings.rules()] == ["gpt-4o"]
    shown = settings.shown()
    assert Settings.from_environment(shown, dotenv=None).shown() == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idle_timeout: 1s\nlatency_limt: 1s\n", r"router.yaml:2: latency_limt is not a setting"),
        ("\n\nidle_timeout: soon\n", r"router.yaml:3: IDLE_TIMEOUT: 'soon' is not a duration"),
        ("idle_timeout: 0\n", r"router.yaml:1: IDLE_TIMEOUT is 0.0; it must be above 0"),
        ("a: [1\nb: 2\n", r"router.yaml:2: "),
        ("idle_timeout: 1s\nidle_timeout: 2s\n", r"router.yaml:2: .*duplicate key"),
        ("- idle_timeout\n", r"router.yaml:1: must be a table of settings"),
        ("gateway: 5\n", r"router.yaml:1: gateway must be a table"),
        ("x: !!python/object:os.system {}\n", r"router.yaml:1: .*tag"),
        ("airgap_mode: [true]\n", r"router.yaml:1: AIRGAP_MODE"),
        ("deployments: {openai: [{nam: eu}]}\n", r"router.yaml:1: DEPLOYMENTS.*`nam`"),
        ("deployments: {mistral: []}\n", r"router.yaml:1: DEPLOYMENTS.*mistral"),
        ("deployments: {openai: [{name: eu, api_key: [x]}]}\n", r"router.yaml:1: DEPLOYMENTS.*Expected `str`"),
        ("deployments: {openai: [{name: a}, {name: a}]}\n", r"router.yaml:1: DEPLOYMENTS of openai: 'a' .*twice"),
        ("deployments: {openai: [{name: a b}]}\n", r"DEPLOYMENTS of openai: 'a b' is no name"),
        ("deployments: {openai: [{name: a, weight: 0}]}\n", r"weight 0.0; it must be from 0.01 to 100"),
        ("deployments: {openai: [{name: a, base_url: host}]}\n", r"DEPLOYMENTS of openai: 'a' has a base_url"),
        ("deployments: {openai: [{name: a, api_key_env: NOT_SET}]}\n", r"names NOT_SET as the key of openai/a, which"),
        ("aliases: {best: gpt-9}\n", r"router.yaml:1: ALIASES: best stands for 'gpt-9', which is not known"),
        ("aliases: {gpt-4o: gpt-4o-mini}\n", r"ALIASES: gpt-4o is itself the name"),
        ("models: {gpt-9: {provider: openai, tier: huge}}\n", r"MODELS: gpt-9 is of the tier 'huge'"),
        ("tiers: {large: {openai: gpt-9}}\n", r"TIERS: large has 'gpt-9' of openai, which is not known"),
        ("tiers: {huge: {openai: gpt-4o}}\n", r"TIERS: huge has no model of gemini"),
        ("arbitrage: [{model: gpt-9}]\n", r"ARBITRAGE: 'gpt-9' is not a known model"),
        ("circuit_breaker_window: 0\n", r"CIRCUIT_BREAKER_WINDOW is 0; it must be from 1 to 10000"),
    ],
)
def test_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake in the file is a ConfigurationError that names file, line, and what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        _load(_write(tmp_path, text))


def test_mistake_of_the_environment_has_no_line_of_the_file(tmp_path: Path) -> None:
    """A bad value that came from a variable is not blamed on the file that also has the setting."""
    with pytest.raises(ConfigurationError) as caught:
        _load(_write(tmp_path, "idle_timeout: 1s\nconnect_timeout: never\n"), IDLE_TIMEOUT="never")
    places = {problem.partition("TIMEOUT")[0].split("/")[-1] for problem in caught.value.problems}
    assert places == {"IDLE_", "router.yaml:2: CONNECT_"}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a: " + b"x" * 300_000])
def test_unreadable_file_is_a_configuration_error(tmp_path: Path, data: bytes) -> None:
    """A file that is not there, is no text, or is huge, is told as such."""
    path = tmp_path / "router.yaml"
    path.write_bytes(data)
    for each in (path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigurationError, match=each.name):
            _load(each)


def test_missing_parser_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser is no part of the core: without it, the message says what to install."""
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(ConfigurationError, match=r"pip install ruamel\.yaml"):
        _load(_write(tmp_path, "idle_timeout: 1s\n"))


def test_empty_file_says_nothing(tmp_path: Path) -> None:
    """A file of comments alone leaves the defaults."""
    assert _load(_write(tmp_path, "# nothing yet\n")).idle_timeout == 30.0


def test_no_key_of_a_deployment_is_shown(tmp_path: Path) -> None:
    """Neither repr, `shown`, nor an error about it gives a deployment's key away."""
    text = f"deployments: {{openai: [{{name: eu, api_key: {KEY}}}, {{name: us, api_key_env: OPENAI_EU_KEY}}]}}\n"
    settings = _load(_write(tmp_path, text))
    shown = settings.shown()["DEPLOYMENTS"]
    assert KEY not in repr(settings) + shown
    assert [entry.get("api_key") for entry in msgspec.json.decode(shown)["openai"]] == ["***", None]
    for bad in ("{name: eu, api_key: [KEY]}", "{name: eu, api_key: KEY, port: 1}", '{name: eu, api_key: "KEY\\u20ac"}'):
        with pytest.raises(ConfigurationError) as caught:
            _load(_write(tmp_path, f"deployments: {{openai: [{bad.replace('KEY', KEY)}]}}\n"))
        assert KEY not in str(caught.value)


def test_local_deployment_outside_the_air_gap_is_refused() -> None:
    """Under the air gap a second Ollama must be listed, as any other origin; the clouds' are never called anyway."""
    values = {"deployments": {"local": [{"name": "gpu", "base_url": "http://gpu:11434"}]}, "airgap_mode": True}
    with pytest.raises(ConfigurationError, match="'gpu' is outside the air gap"):
        test_settings(**values)
    settings = test_settings(**values, airgap_allow="http://gpu:11434")
    assert settings.targets(ModelType.LOCAL)[0].base_url == "http://gpu:11434"


async def test_router_uses_the_users_models_and_rules() -> None:
    """An alias, a tier and the rules of `auto` out of the settings decide which model is asked."""
    settings = test_settings(
        models={"gpt-9": {"provider": "openai", "tier": "large"}},
        aliases={"best": "gpt-9"},
        tiers={"large": {"openai": "gpt-9", "gemini": "gemini-2.5-flash"}, "default": {"openai": "gpt-9"}},
        arbitrage=[{"shorter_than": 5, "model": "best"}, {"model": "local"}],
    )
    script = ScriptedTransport({})
    router = scripted_router(script, settings=settings)
    for model, text, expected in (
        ("best", "hi", "gpt-9"),
        ("openai", "hi", "gpt-9"),
        ("auto", "hi", "gpt-9"),
        ("auto", "hello", "llama3"),
    ):
        reply = await router.complete(Request(messages=(Message(role="user", content=text),), model=model))
        assert reply.model == expected
    assert "best" in router.models()

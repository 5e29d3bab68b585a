"""Settings: everything can be said in text, every mistake is told at once, and no secret is ever shown."""

from __future__ import annotations

import copy
import pickle
import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.arbitrage import Rule
from router.catalogue import Model
from router.deployments import Deployment
from router.errors import ConfigurationError
from router.models import ModelType
from router.settings import Secret, Settings, parse_seconds, setting_names

KEY = "sk-not-to-be-seen"
# One good value a setting, as it stands in an environment, and what it must become.
TEXTS: dict[str, tuple[str, object]] = {
    "GEMINI_API_KEY": (KEY, KEY),
    "ANTHROPIC_API_KEY": (KEY, KEY),
    "OPENAI_API_KEY": (KEY, KEY),
    "GEMINI_BASE_URL": ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
    "ANTHROPIC_BASE_URL": ("https://proxy.example/anthropic", "https://proxy.example/anthropic"),
    "OPENAI_BASE_URL": ("http://[::1]:9003", "http://[::1]:9003"),
    "OLLAMA_HOST": ("http://gpu.local:11434/", "http://gpu.local:11434/"),
    "OLLAMA_MODEL": ("mistral", "mistral"),
    "OLLAMA_TIMEOUT": ("2m", 120.0),
    "AIRGAP_MODE": ("True", True),
    "AIRGAP_ALLOW": ("cache, 10.0.0.7:6379", "cache, 10.0.0.7:6379"),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("5", 5),
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": ("300ms", 0.3),
    "CIRCUIT_BREAKER_FAILURE_RATIO": ("0.5", 0.5),
    "CIRCUIT_BREAKER_SLOW_RATIO": ("0.8", 0.8),
    "CIRCUIT_BREAKER_SLOW_CALL": ("2s", 2.0),
    "CIRCUIT_BREAKER_WINDOW": ("100", 100),
    "CIRCUIT_BREAKER_WINDOW_MIN": ("5", 5),
    "CIRCUIT_BREAKER_BACKOFF_FACTOR": ("1.5", 1.5),
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_MAX": ("1h", 3600.0),
    "LATENCY_LIMIT": ("800ms", 0.8),
    "LATENCY_LIMIT_JSON": ("20s", 20.0),
    "LATENCY_FAILOVER_MODEL": ("gpt-4o-mini", "gpt-4o-mini"),
    "CONNECT_TIMEOUT": ("1.5", 1.5),
    "FIRST_BYTE_TIMEOUT": ("2s", 2.0),
    "IDLE_TIMEOUT": ("2 s", 2.0),
    "TOTAL_TIMEOUT": ("90", 90.0),
    "RETRY_AFTER_MAX": ("10m", 600.0),
    "ATTEMPTS_MAX": ("4", 4),
    "RETRY_BUDGET_RATIO": ("0.1", 0.1),
    "RETRY_BUDGET_PER_SECOND": ("2.5", 2.5),
    "RETRY_BUDGET_BURST": ("0", 0),
    "DEPLOYMENTS": (
        '{"openai": [{"name": "eu", "base_url": "https://eu.example"}]}',
        {ModelType.OPENAI: (Deployment(name="eu", base_url="https://eu.example"),)},
    ),
    "MODELS": ('{"gpt-9": {"provider": "openai", "tier": "large"}}', {"gpt-9": Model(ModelType.OPENAI, "large")}),
    "ALIASES": ('{"cheap": "gpt-4o-mini"}', {"cheap": "gpt-4o-mini"}),
    "TIERS": ('{"large": {"openai": "gpt-4o-mini"}}', {"large": {ModelType.OPENAI: "gpt-4o-mini"}}),
    "ARBITRAGE": ('[{"model": "gpt-4o"}]', (Rule(model="gpt-4o"),)),
    "MIDSTREAM": ("error", "error"),
    "DEFAULT_MAX_TOKENS": ("256", 256),
    "DAILY_SPEND_LIMIT_USD": ("0.10", 0.10),
    "BUDGET_LEASE": ("5m", 300.0),
    "BUDGET_STORE": ("redis", "redis"),
    "REDIS_URL": (f"redis://:{KEY}@cache:6380/1", f"redis://:{KEY}@cache:6380/1"),
    "BUDGET_STORE_TIMEOUT": ("100ms", 0.1),
    "BUDGET_STORE_DOWN": ("allowance", "allowance"),
    "BUDGET_ALLOWANCE_USD": ("2.5", 2.5),
    "BUDGET_SQLITE_PATH": ("spend.db", "spend.db"),
    "BREAKER_STORE": ("redis", "redis"),
    "TELEMETRY": ("otel", "otel"),
    "ANSWER_BYTES_MAX": ("2048", 2048),
}
# A bad value a setting; settings that take any text have none.
BAD: dict[str, list[str]] = {
    "GEMINI_API_KEY": [f"{KEY}\u20ac", f"{KEY}\x00", f"two {KEY}"],
    "ANTHROPIC_API_KEY": [f"{KEY}\nx: y"],
    "OPENAI_API_KEY": [f"{KEY}\x7f"],
    "GEMINI_BASE_URL": [
        "127.0.0.1:9001",
        "ftp://host",
        "",
        "http://",
        "http://[::1",
        "http://host:99999",
        "http://h:x",
    ],
    "ANTHROPIC_BASE_URL": [f"http://user:{KEY}@host", "http://user@host", f"http://:{KEY}@host"],
    "OPENAI_BASE_URL": ["http://host/?key=1", "http://host/#part", "http://ho st", "http://host\\@other"],
    "OLLAMA_HOST": ["localhost:11434", "http://host:0"],
    "OLLAMA_TIMEOUT": ["0", "-1", "soon", "", "2d", "nan", "inf", "1e3"],
    "AIRGAP_MODE": ["maybe"],
    "AIRGAP_ALLOW": [f"http://user:{KEY}@host", "host/path", "http://host?x"],
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ["0", "3.5", "three", "10001", ""],
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": ["0s", "25h"],
    "CIRCUIT_BREAKER_FAILURE_RATIO": ["-0.1", "1.1", "50%", "nan"],
    "CIRCUIT_BREAKER_SLOW_RATIO": ["2", "1s"],
    "CIRCUIT_BREAKER_SLOW_CALL": ["0", "25h"],
    "CIRCUIT_BREAKER_WINDOW": ["0", "ten"],
    "CIRCUIT_BREAKER_WINDOW_MIN": ["0", "2s"],
    "CIRCUIT_BREAKER_BACKOFF_FACTOR": ["0.5", "11", "2s", "nan"],
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_MAX": ["0"],
    "LATENCY_LIMIT": ["-1", "2h"],
    "LATENCY_LIMIT_JSON": ["-1", "2h", "never"],
    "CONNECT_TIMEOUT": ["0"],
    "FIRST_BYTE_TIMEOUT": ["0"],
    "IDLE_TIMEOUT": ["0"],
    "TOTAL_TIMEOUT": ["0"],
    "RETRY_AFTER_MAX": ["0"],
    "ATTEMPTS_MAX": ["0", "2.5"],
    "RETRY_BUDGET_RATIO": ["-1", "20%"],
    "RETRY_BUDGET_PER_SECOND": ["-1", "5s"],
    "RETRY_BUDGET_BURST": ["-1", "1e3"],
    "DEPLOYMENTS": [
        "[]",
        '{"openai": {}}',
        '{"openai": [{}]}',
        f'{{"openai": [{{"name": "a", "api_key": "{KEY}\u20ac"}}]}}',
        f'{{"openai": [{{"name": "a", "api_key": "{KEY}"}}',
    ],
    "MODELS": ['{"gpt-9": "openai"}', '{"gpt-9": {"provider": "openai", "tier": "none"}}'],
    "ALIASES": ['{"cheap": 1}', '{"cheap": "gpt-9"}', '{"openai": "gpt-4o"}'],
    "TIERS": ['{"large": {"openai": "gpt-9"}}', '{"small": ["gpt-4o"]}'],
    "ARBITRAGE": ["{}", '[{"model": "gpt-9"}]', '[{"shorter_than": "x", "model": "gpt-4o"}]'],
    "MIDSTREAM": ["stop", ""],
    "DEFAULT_MAX_TOKENS": ["0", "1000001"],
    "DAILY_SPEND_LIMIT_USD": ["-1", "50m", "$50", "nan", "inf"],
    "BUDGET_LEASE": ["0"],
    "BUDGET_STORE": ["file", ""],
    "BREAKER_STORE": ["sqlite", ""],
    "TELEMETRY": ["on", ""],
    "REDIS_URL": [f"http://:{KEY}@cache", f"redis://:{KEY}@", f"redis://:{KEY}@cache:x", f"redis://:{KEY} @cache", ""],
    "BUDGET_STORE_TIMEOUT": ["0", "2m"],
    "BUDGET_STORE_DOWN": ["open"],
    "BUDGET_ALLOWANCE_USD": ["-1", "2s"],
    "ANSWER_BYTES_MAX": ["0", "1KB"],
}


def read(environment: dict[str, str], dotenv: Path | None = None) -> Settings:
    """Return the settings of this environment, and of no file unless one is named."""
    return Settings.from_environment(environment, dotenv=dotenv)


def revealed(value: object) -> object:
    """Return a setting's value, the inside of a secret."""
    return value.reveal() if isinstance(value, Secret) else value


def test_every_setting_is_in_these_tables() -> None:
    """A new setting needs a good and a bad value here."""
    assert set(TEXTS) == {name.upper() for name in setting_names()}
    assert set(TEXTS) - set(BAD) == {"OLLAMA_MODEL", "LATENCY_FAILOVER_MODEL", "BUDGET_SQLITE_PATH"}


def test_defaults_are_those_of_the_documents() -> None:
    """Nothing set: the documented defaults."""
    settings = read({})
    assert (settings.ollama_host, settings.ollama_model, settings.ollama_timeout) == (
        "http://localhost:11434",
        "llama3",
        120.0,
    )
    assert (settings.circuit_breaker_failure_threshold, settings.circuit_breaker_recovery_timeout) == (3, 60.0)
    assert (settings.airgap_mode, settings.midstream, settings.daily_spend_limit_usd) == (False, "continue", 50.0)
    assert not any(settings.api_key(provider) for provider in ModelType)


@pytest.mark.parametrize("name", TEXTS)
def test_every_setting_reads_from_text(name: str) -> None:
    """The environment variable is the field's name in upper case, and only its own field changes."""
    text, expected = TEXTS[name]
    settings = read({name: text})
    assert revealed(getattr(settings, name.lower())) == expected
    others = {field for field in setting_names() if field.upper() != name}
    assert all(revealed(getattr(settings, field)) == revealed(getattr(read({}), field)) for field in others)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_bad_value_is_refused_by_its_name(name: str, text: str) -> None:
    """A value that cannot be used is a ConfigurationError that names the variable and says what is allowed."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        read({name: text})
    assert KEY not in _everything_about(caught.value)


def test_all_violations_are_reported_together() -> None:
    """One run shows every mistake, whether a value cannot be read or is out of its range."""
    bad = {name: texts[0] for name, texts in BAD.items()}
    with pytest.raises(ConfigurationError) as caught:
        read(bad)
    assert [name for name in bad if name not in str(caught.value)] == []


def test_unknown_name_is_refused_in_a_mapping_only() -> None:
    """A scenario that sets what does not exist is told so; an environment is full of what is not ours."""
    with pytest.raises(ConfigurationError, match="first_byte_timeuot is not a setting"):
        Settings.from_mapping({"first_byte_timeuot": "1s"})
    read({"FIRST_BYTE_TIMEUOT": "1s"})


def test_mapping_takes_any_case_and_plain_values() -> None:
    """Scenarios write numbers, switches and secrets as they are, in either case."""
    settings = Settings.from_mapping(
        {"FIRST_BYTE_TIMEOUT": 2, "idle_timeout": 1.5, "Airgap_Mode": True, "openai_api_key": Secret(KEY)}
    )
    assert (settings.first_byte_timeout, settings.idle_timeout, settings.airgap_mode) == (2.0, 1.5, True)
    assert settings.openai_api_key.reveal() == KEY


@pytest.mark.parametrize("value", [True, None, [1], {}, pytest.param(10**400, id="huge"), "\u0663"])
def test_mapping_refuses_what_is_no_duration(value: object) -> None:
    """A switch, nothing, or a list is no number of seconds; the error is still ours."""
    with pytest.raises(ConfigurationError, match="FIRST_BYTE_TIMEOUT"):
        Settings.from_mapping({"first_byte_timeout": value})


@given(st.floats(0.001, 80_000))
def test_durations_mean_the_same_in_every_unit(seconds: float) -> None:
    """Bare numbers are seconds; ms, s, m and h are what they say."""
    assert parse_seconds(seconds) == seconds
    assert parse_seconds(f"{seconds:.6f}") == pytest.approx(seconds, abs=1e-6)
    assert parse_seconds(f"{seconds:.6f}s") == parse_seconds(f" {seconds:.6f} s ")
    assert parse_seconds(f"{seconds * 1000:.6f}ms") == pytest.approx(seconds)
    assert parse_seconds(f"{seconds / 60:.9f}m") == pytest.approx(seconds, rel=1e-3)
    assert parse_seconds(f"{seconds / 3600:.12f}h") == pytest.approx(seconds, rel=1e-3)


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("YES", True), ("on", True), ("0", False), ("", False)])
def test_switches_are_read_in_all_usual_words(text: str, expected: bool) -> None:
    """A switch is on or off in any of the usual spellings; empty is off."""
    assert read({"AIRGAP_MODE": text}).airgap_mode is expected


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """A `.env` file fills in what the environment leaves open."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"# keys\nOPENAI_API_KEY='{KEY}'\nOLLAMA_MODEL=mistral\nOTHER=1\nEMPTY\n", encoding="utf-8")
    settings = read({"OLLAMA_MODEL": "llama3:8b"}, dotenv)
    assert settings.openai_api_key.reveal() == KEY
    assert settings.ollama_model == "llama3:8b"


def test_process_environment_and_folder_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments: this process's environment and the `.env` of the current folder."""
    (tmp_path / ".env").write_text("OLLAMA_MODEL=mistral\nIDLE_TIMEOUT=7s\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDLE_TIMEOUT", "9s")
    monkeypatch.delenv("OLLAMA_MODEL", raising=False)
    settings = Settings.from_environment()
    assert (settings.ollama_model, settings.idle_timeout) == ("mistral", 9.0)


def test_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """A `.env` of other bytes than UTF-8 is told as such."""
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        read({}, tmp_path / ".env")
    read({}, tmp_path / "none.env")


@pytest.mark.parametrize("space", ["\n", "\r\n", " ", "\t"])
def test_space_around_a_key_is_not_part_of_it(space: str) -> None:
    """A key out of a file ends in a line end; a header with one could not be sent."""
    assert read({"OPENAI_API_KEY": f"{space}{KEY}{space}"}).openai_api_key.reveal() == KEY


def test_no_secret_is_ever_shown() -> None:
    """Neither repr, str, format, `shown`, an encoder, a copy nor a pickle gives a key away."""
    secret = Secret(KEY)
    settings = read({name: text for name, (text, _) in TEXTS.items() if KEY in text})
    shown = [f"{one}{one!r}{one!s}{[one]}{ {'k': one} }{one:}" for one in (secret, settings)]
    assert KEY not in "".join(shown)
    assert KEY not in str(settings.shown())
    assert settings.shown()["OPENAI_API_KEY"] == "***"
    assert read({}).shown()["OPENAI_API_KEY"] == ""
    for encode in (msgspec.json.encode, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            encode(secret)
        assert KEY not in _everything_about(caught.value)
    assert not hasattr(secret, "__dict__")
    assert (bool(secret), bool(Secret("")), repr(Secret(""))) == (True, False, "Secret()")


def test_shown_has_every_setting_as_text() -> None:
    """What a run's header keeps of the settings is complete and plain."""
    shown = read({"IDLE_TIMEOUT": "300ms"}).shown()
    assert set(shown) == set(TEXTS)
    assert shown["IDLE_TIMEOUT"] == "0.3"
    assert read({name: text for name, text in shown.items() if not name.endswith("KEY")}).shown() == shown


def test_addresses_and_keys_are_found_by_provider() -> None:
    """A slash at the end of an address is dropped: paths begin with one."""
    settings = read({name: text for name, (text, _) in TEXTS.items()})
    assert settings.base_url(ModelType.LOCAL) == "http://gpu.local:11434"
    assert settings.base_url(ModelType.CLAUDE) == "https://proxy.example/anthropic"
    assert [bool(settings.api_key(provider)) for provider in ModelType] == [True, True, True, False]


def _everything_about(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)

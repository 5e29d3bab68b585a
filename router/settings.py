"""
Every setting of the router, from the environment and a `.env` file; `seawall.config_file` adds one in YAML.

A field's name in upper case is the name of its environment variable. Durations are seconds, or a number with a unit
(`300ms`, `5s`, `2m`); a table is JSON in a variable. All violations are reported together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from router.arbitrage import Rule, default_rules
from router.catalogue import Catalogue, Model, Tiers, default_catalogue
from router.checks import problems_of
from router.deployments import Deployment, Deployments, keyed
from router.deployments import shown as shown_deployments
from router.errors import ConfigurationError
from router.models import ModelType
from router.values import Count, Limit, Seconds, Secret, Share, Within, bounds_of, parse, parse_seconds

__all__ = ["Secret", "Settings", "environment_with", "parse_seconds", "setting_names"]

_VENDORS = {ModelType.GEMINI: "gemini", ModelType.CLAUDE: "anthropic", ModelType.OPENAI: "openai"}
"""How the settings of each provider begin."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the router behaves. Durations in seconds, sizes in bytes, money in US dollars.

    Raises ConfigurationError, naming every violation, when a value is out of its range.
    """

    gemini_api_key: Secret = Secret("")
    """Key of the Gemini API; without one the provider is skipped (`no_key`)."""
    anthropic_api_key: Secret = Secret("")
    """Key of the Anthropic API; without one the provider is skipped (`no_key`)."""
    openai_api_key: Secret = Secret("")
    """Key of the OpenAI API; without one the provider is skipped (`no_key`)."""
    gemini_base_url: str = "https://generativelanguage.googleapis.com"
    """Where Gemini is called."""
    anthropic_base_url: str = "https://api.anthropic.com"
    """Where Claude is called."""
    openai_base_url: str = "https://api.openai.com"
    """Where OpenAI is called."""
    deployments: Deployments = {}
    """Several keys or addresses of a provider: `{openai: [{name, api_key_env, base_url, weight}]}`.

    Each has a breaker, cooldown and latency of its own; the load is spread by what each has under way and how fast it
    answers. What an entry leaves out is the provider's own.
    """
    ollama_host: str = "http://localhost:11434"
    """Where the local Ollama is called; the only origin that the air gap allows."""
    ollama_model: str = "llama3"
    """The local model."""
    ollama_timeout: Seconds = 120.0
    """First-byte timeout of the local model, which may have to load first."""
    airgap_mode: bool = False
    """Sovereign mode: nothing leaves for a cloud, whatever is asked."""
    airgap_allow: str = ""
    """What the air gap allows beside this machine and OLLAMA_HOST: hosts, host:ports and origins, comma-separated.

    Redis may be at any of them; HTTP goes only to those written as an origin (http://host:port).
    """
    circuit_breaker_failure_threshold: Count = 3
    """Consecutive failures that open a provider's breaker."""
    circuit_breaker_failure_ratio: Share = 0.0
    """Share of the latest calls, such as 0.5, that opens a breaker when they failed; 0 judges no share."""
    circuit_breaker_slow_ratio: Share = 0.0
    """Share of the latest calls that opens a breaker when they were good but slow; 0 judges no share."""
    circuit_breaker_slow_call: Seconds = 5.0
    """A response time (first token of a stream, whole JSON answer) above this is slow to the breaker."""
    circuit_breaker_window: Count = 50
    """How many of the latest calls the ratios are judged over."""
    circuit_breaker_window_min: Count = 20
    """Fewer calls than these say nothing about a ratio; at most the window."""
    circuit_breaker_recovery_timeout: Seconds = 60.0
    """From the opening of a breaker to its probe."""
    circuit_breaker_backoff_factor: Annotated[float, Within(1, 10)] = 1.0
    """Each failed probe multiplies the open time by this."""
    circuit_breaker_recovery_timeout_max: Seconds = 600.0
    """Cap of the open time."""
    latency_limit: Limit = 0.5
    """Average time to the first token of streams above which a provider is slow and tried last; 0: not watched.

    It is measured again once a CIRCUIT_BREAKER_RECOVERY_TIMEOUT.
    """
    latency_limit_json: Limit | None = None
    """The same for the whole time of JSON answers; nothing: as LATENCY_LIMIT.

    Real vendors write for seconds: give them what a usual answer takes (20s, say), or 0.
    """
    latency_failover_model: str = "claude-haiku"
    """The fast model that takes over from a slow provider."""
    connect_timeout: Seconds = 5.0
    """Bound of making a connection."""
    first_byte_timeout: Seconds = 30.0
    """Bound from sending a request to the first byte of the answer's body."""
    idle_timeout: Seconds = 30.0
    """Bound of the silence between two chunks."""
    total_timeout: Seconds = 300.0
    """Bound of a whole request over all attempts."""
    attempts_max: Count = 8
    """The most attempts for one request, those of gateways in front and behind (X-Seawall-Attempts) included."""
    retry_budget_ratio: Annotated[float, Within(0, 1e6, "from 0 up")] = 0.2
    """Attempts beyond a request's first failover that one good answer pays for."""
    retry_budget_per_second: Annotated[float, Within(0, 1e6, "from 0 up")] = 10.0
    """Attempts beyond the first failover that each second pays for."""
    retry_budget_burst: Annotated[int, Within(0, 1_000_000)] = 1000
    """The most of such attempts that can be saved up, and the number to begin with."""
    retry_after_max: Seconds = 3600.0
    """The longest cooldown that a provider's Retry-After can ask for."""
    midstream: Literal["continue", "error"] = "continue"
    """After a stream broke with text already delivered: let the next provider go on, or send an error event."""
    models: Mapping[str, Model] = {}
    """Models beside those of the data file: `{name: {provider, tier}}`."""
    aliases: Mapping[str, str] = {}
    """Other names of models: `{cheap: gpt-6-luna}`."""
    tiers: Tiers = {}
    """Which model stands in at each provider: `{large: {claude: …}}`; the tier `default` is for providers by name."""
    arbitrage: tuple[Rule, ...] = ()
    """The rules of `model: auto`, in place of the default ones: `[{shorter_than, contains, model}]`."""
    default_max_tokens: Annotated[int, Within(1, 1_000_000)] = 1024
    """Sent as the limit of the answer when the caller names none: a reservation needs a bound."""
    daily_spend_limit_usd: Annotated[float, Within(0, 1e9, "from 0 up")] = 50.0
    """Budget of a UTC day over all paid providers."""
    budget_lease: Seconds = 600.0
    """A reservation that nobody settles within this time is charged in full."""
    budget_store: Literal["memory", "sqlite", "redis"] = "memory"
    """Where the spend of the day is kept: in this process, in a file for one host, or in Redis for any number.

    The gateway and `seawall.equipped.EquippedRouter` act on it.
    """
    budget_sqlite_path: str = "seawall-budget.db"
    """The file of BUDGET_STORE=sqlite, on a local disk; made when it is not there."""
    redis_url: Secret = Secret("redis://localhost:6379/0")
    """The Redis of BUDGET_STORE and BREAKER_STORE: redis://, rediss:// or unix://; shown without its password."""
    budget_store_timeout: Annotated[float, Within(0.001, 60, "from 1 ms to 60 s", is_time=True)] = 0.25
    """Bound of each step in the store; a longer wait counts as the store being away."""
    budget_store_down: Literal["closed", "allowance"] = "closed"
    """While the store is away: refuse paid providers as if over the limit, or spend up to BUDGET_ALLOWANCE_USD."""
    budget_allowance_usd: Annotated[float, Within(0, 1e9, "from 0 up")] = 1.0
    """What each worker may spend in a UTC day while the store is away; booked when it is back.

    The total may then end above the limit, by at most this for each worker.
    """
    breaker_store: Literal["memory", "redis"] = "memory"
    """Whether workers tell each other through Redis of open breakers and cooldowns; memory: each learns by itself.

    The gateway and `seawall.equipped.EquippedRouter` act on it.
    """
    telemetry: Literal["off", "otel"] = "off"
    """Spans and metrics by OpenTelemetry, set up by the process's own SDK; off costs nothing.

    The gateway and `seawall.equipped.EquippedRouter` act on it.
    """
    answer_bytes_max: Annotated[int, Within(1024, 2**30, "from 1 KiB to 1 GiB")] = 16 * 1024 * 1024
    """The longest answer body that is read."""

    def __post_init__(self) -> None:
        problems = problems_of(self)
        if problems:
            raise ConfigurationError(*problems)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")
    ) -> Settings:
        """
        Return the settings that the environment (default: the process's) and a `.env` file make.

        The environment wins over `.env`. Raises ConfigurationError with every violation.
        """
        said = environment_with(environment, dotenv)
        values = {name: said[name.upper()] for name in setting_names() if name.upper() in said}
        return cls.from_mapping(values, environment=said)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], *, environment: Mapping[str, str] | None = None) -> Settings:
        """
        Return settings from values by name in any case, as text or as numbers. Raises ConfigurationError.

        Keys of deployments are looked up in `environment` (default: the process's).
        """
        parsed: dict[str, Any] = {}
        problems: list[str] = []
        fields = {field.name: field for field in msgspec.structs.fields(cls)}
        for key, value in values.items():
            field = fields.get(key.lower())
            if field is None:
                problems.append(f"{key} is not a setting")
                continue
            try:
                parsed[field.name] = parse(field.type, value)
                if field.name == "deployments":
                    parsed[field.name] = keyed(parsed[field.name], os.environ if environment is None else environment)
            except ValueError as error:
                shown = repr(value) if field.type in (str, bool) or bounds_of(field.type) else "its value"
                problems.append(f"{key.upper()}: {shown} {error}")
        settings = None
        try:
            settings = cls(**parsed)
        except ConfigurationError as error:
            problems += error.problems
        if settings is None or problems:
            raise ConfigurationError(*problems)
        return settings

    def targets(self, provider: ModelType) -> tuple[Deployment, ...]:
        """Return the deployments of a provider, filled in; one with an empty name where the settings list none."""
        own = Deployment(name="", api_key=self.api_key(provider), base_url=self.base_url(provider))
        return tuple(
            msgspec.structs.replace(
                one, api_key=one.api_key or own.api_key, base_url=one.base_url.rstrip("/") or own.base_url
            )
            for one in self.deployments.get(provider, (own,))
        )

    def json_limit(self) -> float:
        """Return LATENCY_LIMIT_JSON in seconds."""
        return self.latency_limit if self.latency_limit_json is None else self.latency_limit_json

    def catalogue(self) -> Catalogue:
        """Return the table of models with MODELS, ALIASES and TIERS on top."""
        if not (self.models or self.aliases or self.tiers):
            return default_catalogue()
        return default_catalogue().replaced(self.models, self.aliases, self.tiers)

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules of `model: auto`."""
        return self.arbitrage or default_rules()

    def api_key(self, provider: ModelType) -> Secret:
        """Return the key of a provider; an empty one for LOCAL."""
        return getattr(self, f"{_VENDORS[provider]}_api_key") if provider.is_cloud else Secret("")

    def base_url(self, provider: ModelType) -> str:
        """Return where a provider is called, without a slash at the end."""
        url: str = getattr(self, f"{_VENDORS[provider]}_base_url") if provider.is_cloud else self.ollama_host
        return url.rstrip("/")

    def shown(self) -> dict[str, str]:
        """Return every setting by its environment name as text, secrets masked."""
        shown = {name.upper(): _shown(value) for name, value in msgspec.structs.asdict(self).items()}
        addresses = {"REDIS_URL": _masked(self.redis_url.reveal())}
        return shown | addresses | {"DEPLOYMENTS": shown_deployments(self.deployments)}

    def airgap_allowed(self) -> tuple[str, ...]:
        """Return the entries of AIRGAP_ALLOW."""
        return tuple(entry for part in self.airgap_allow.split(",") if (entry := part.strip()))


def environment_with(environment: Mapping[str, str] | None, dotenv: Path | None) -> dict[str, str]:
    """Return the environment (None: the process's) on top of what a `.env` file says. Raises ConfigurationError."""
    said: dict[str, str] = {}
    if dotenv is not None and dotenv.is_file():
        from dotenv import dotenv_values  # noqa: PLC0415 - only where there is a file

        try:
            said = {key: value for key, value in dotenv_values(dotenv).items() if value is not None}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{dotenv} cannot be read: {error}") from None
    return said | dict(os.environ if environment is None else environment)


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings in lower case."""
    return tuple(field.name for field in msgspec.structs.fields(Settings))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Secret):
        return "***" if value else ""
    if isinstance(value, (dict, tuple)):
        return msgspec.json.encode(value, enc_hook=repr).decode() if value else ""
    return str(value)


def _masked(url: str) -> str:
    """Return an address with its password and its query, which may hold one, as ***."""
    shown = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url)
    return re.sub(r"\?.*", "?***", shown)

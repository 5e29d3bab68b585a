"""
Every setting of the router, from the environment and a `.env` file.

A field's name in upper case is the name of its environment variable. Durations are seconds, or a number with a unit
(`300ms`, `5s`, `2m`). All violations are reported together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from router.airgap import allows_endpoint
from router.errors import ConfigurationError, SecurityError
from router.models import ModelType
from router.values import Secret, parse, parse_seconds

__all__ = ["Secret", "Settings", "parse_seconds", "setting_names"]

# Where a key, and where an address, would end up elsewhere than it says: in another header, host or query.
_UNFIT_IN_KEY = re.compile(r"[^\x21-\x7e]")
_UNFIT_IN_URL = re.compile(r"[\x00-\x20\x7f@?#\\]")
_UNFIT_ENTRY = re.compile(r"[\x00-\x1f\x7f@?#\\]|[^/:]/[^/]")


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
    ollama_host: str = "http://localhost:11434"
    """Where the local Ollama is called; the only origin that the air gap allows."""
    ollama_model: str = "llama3"
    """The local model."""
    ollama_timeout: float = 120.0
    """First-byte timeout of the local model, which may have to load first."""
    airgap_mode: bool = False
    """Sovereign mode: nothing leaves for a cloud, whatever is asked."""
    airgap_allow: str = ""
    """What the air gap allows beside this machine and OLLAMA_HOST: hosts, host:ports and origins, comma-separated.

    Redis may be at any of them; HTTP goes only to those written as an origin (http://host:port).
    """
    circuit_breaker_failure_threshold: int = 3
    """Consecutive failures that open a provider's breaker."""
    circuit_breaker_recovery_timeout: float = 60.0
    """From the opening of a breaker to its probe."""
    circuit_breaker_backoff_factor: float = 1.0
    """Each failed probe multiplies the open time by this."""
    circuit_breaker_recovery_timeout_max: float = 600.0
    """Cap of the open time."""
    latency_limit: float = 0.5
    """Average response time above which a provider is slow and tried last; 0 turns the predictive breaker off.

    It is measured again once a CIRCUIT_BREAKER_RECOVERY_TIMEOUT.
    """
    latency_failover_model: str = "claude-haiku"
    """The fast model that takes over from a slow provider."""
    connect_timeout: float = 5.0
    """Bound of making a connection."""
    first_byte_timeout: float = 30.0
    """Bound from sending a request to the first byte of the answer's body."""
    idle_timeout: float = 30.0
    """Bound of the silence between two chunks."""
    total_timeout: float = 300.0
    """Bound of a whole request over all attempts."""
    retry_after_max: float = 3600.0
    """The longest cooldown that a provider's Retry-After can ask for."""
    midstream: Literal["continue", "error"] = "continue"
    """After a stream broke with text already delivered: let the next provider go on, or send an error event."""
    default_max_tokens: int = 1024
    """Sent as the limit of the answer when the caller names none: a reservation needs a bound."""
    daily_spend_limit_usd: float = 50.0
    """Budget of a UTC day over all paid providers."""
    budget_lease: float = 600.0
    """A reservation that nobody settles within this time is charged in full."""
    budget_store: Literal["memory", "redis"] = "memory"
    """Where the spend of the day is kept: in this process, or in Redis for any number of workers."""
    redis_url: Secret = Secret("redis://localhost:6379/0")
    """The Redis of BUDGET_STORE=redis: redis://, rediss:// or unix://; shown without its password."""
    budget_store_timeout: float = 0.25
    """Bound of each step in Redis; a longer wait counts as Redis being away."""
    budget_store_down: Literal["closed", "allowance"] = "closed"
    """While Redis is away: refuse paid providers as if over the limit, or spend up to BUDGET_ALLOWANCE_USD."""
    budget_allowance_usd: float = 1.0
    """What each worker may spend in a UTC day while Redis is away; booked in Redis when it is back.

    The total may then end above the limit, by at most this for each worker.
    """
    answer_bytes_max: int = 16 * 1024 * 1024
    """The longest answer body that is read."""

    def __post_init__(self) -> None:
        problems = [
            f"{name.upper()} is {getattr(self, name)}; it must be {words}"
            for names, holds, words in _RANGES
            for name in names
            if not holds(getattr(self, name))
        ]
        problems += [
            f"{name.upper()} must be http(s)://host[:port][/path], without user, password, query or space"
            for name in ("gemini_base_url", "anthropic_base_url", "openai_base_url", "ollama_host")
            if not _is_base_url(getattr(self, name))
        ]
        problems += [
            f"{name.upper()} has a character that no header can carry"
            for name in ("gemini_api_key", "anthropic_api_key", "openai_api_key")
            if _UNFIT_IN_KEY.search(getattr(self, name).reveal())
        ]
        problems += [
            f"{name.upper()} is {getattr(self, name)!r}; it must be {' or '.join(words)}"
            for name, words in _CHOICES.items()
            if getattr(self, name) not in words
        ]
        problems += _endpoint_problems(self)
        if problems:
            raise ConfigurationError("; ".join(problems))

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")
    ) -> Settings:
        """
        Return the settings that the environment (default: the process's) and a `.env` file make.

        The environment wins over the file. Raises ConfigurationError with every violation.
        """
        values = dict(_read_dotenv(dotenv)) if dotenv is not None and dotenv.is_file() else {}
        values.update(os.environ if environment is None else environment)
        return cls.from_mapping({n.lower(): values[n] for n in map(str.upper, setting_names()) if n in values})

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Settings:
        """Return settings from values by name in any case, as text or as numbers. Raises ConfigurationError."""
        parsed: dict[str, Any] = {}
        problems: list[str] = []
        fields = {field.name: field for field in msgspec.structs.fields(cls)}
        for key, value in values.items():
            field = fields.get(key.lower())
            if field is None:
                problems.append(f"{key} is not a setting")
                continue
            try:
                parsed[field.name] = parse(field.type, value, is_number=field.name in _NUMBERS)
            except ValueError as error:
                shown = "its value" if field.type is Secret else repr(value)
                problems.append(f"{key.upper()}: {shown} {error}")
        settings = None
        try:
            settings = cls(**parsed)
        except ConfigurationError as error:
            problems.append(str(error))
        if settings is None or problems:
            raise ConfigurationError("; ".join(problems))
        return settings

    def api_key(self, provider: ModelType) -> Secret:
        """Return the key of a provider; an empty one for LOCAL."""
        return {
            ModelType.GEMINI: self.gemini_api_key,
            ModelType.CLAUDE: self.anthropic_api_key,
            ModelType.OPENAI: self.openai_api_key,
            ModelType.LOCAL: Secret(""),
        }[provider]

    def base_url(self, provider: ModelType) -> str:
        """Return where a provider is called, without a slash at the end."""
        return {
            ModelType.GEMINI: self.gemini_base_url,
            ModelType.CLAUDE: self.anthropic_base_url,
            ModelType.OPENAI: self.openai_base_url,
            ModelType.LOCAL: self.ollama_host,
        }[provider].rstrip("/")

    def shown(self) -> dict[str, str]:
        """Return every setting by its environment name as text, secrets masked."""
        shown = {
            name.upper(): ("***" if value else "") if isinstance(value, Secret) else str(value)
            for name, value in msgspec.structs.asdict(self).items()
        }
        return shown | {"REDIS_URL": _masked(self.redis_url.reveal())}

    def airgap_allowed(self) -> tuple[str, ...]:
        """Return the entries of AIRGAP_ALLOW."""
        return tuple(entry for part in self.airgap_allow.split(",") if (entry := part.strip()))


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings in lower case."""
    return tuple(field.name for field in msgspec.structs.fields(Settings))


_POSITIVE = (
    "ollama_timeout",
    "circuit_breaker_recovery_timeout",
    "circuit_breaker_recovery_timeout_max",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "retry_after_max",
    "budget_lease",
)
# These are no durations: 50m is not 3000 USD.
_NUMBERS = ("circuit_breaker_backoff_factor", "daily_spend_limit_usd", "budget_allowance_usd")
_CHOICES = {
    "midstream": ("continue", "error"),
    "budget_store": ("memory", "redis"),
    "budget_store_down": ("closed", "allowance"),
}
_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (_POSITIVE, lambda v: 0 < v <= 86_400, "above 0 and at most a day"),
    (("latency_limit",), lambda v: 0 <= v <= 3600, "from 0 (off) to 3600"),
    (("circuit_breaker_failure_threshold",), lambda v: 1 <= v <= 10_000, "from 1 to 10000"),
    (("circuit_breaker_backoff_factor",), lambda v: 1 <= v <= 10, "from 1 to 10"),
    (("default_max_tokens",), lambda v: 1 <= v <= 1_000_000, "from 1 to 1000000"),
    (("daily_spend_limit_usd", "budget_allowance_usd"), lambda v: 0 <= v <= 1e9, "from 0 up"),
    (("budget_store_timeout",), lambda v: 0.001 <= v <= 60, "from 1 ms to 60 s"),
    (("answer_bytes_max",), lambda v: 1024 <= v <= 2**30, "from 1 KiB to 1 GiB"),
)


def _is_base_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and port != 0 and not _UNFIT_IN_URL.search(text)


def _endpoint_problems(settings: Settings) -> list[str]:
    """Return what is wrong with REDIS_URL and AIRGAP_ALLOW; no message holds a password."""
    problems: list[str] = []
    redis_url, listed = settings.redis_url.reveal(), settings.airgap_allowed()
    if _UNFIT_ENTRY.search(settings.airgap_allow):
        problems.append("AIRGAP_ALLOW must be hosts, host:ports and origins, comma-separated, without user or path")
    if not _is_redis_url(redis_url):
        problems.append("REDIS_URL must be redis://[user:password@]host[:port][/db], rediss://… or unix:///path")
    if not problems:
        try:
            allowed = allows_endpoint(redis_url, listed)
        except SecurityError as error:
            problems.append(f"REDIS_URL or AIRGAP_ALLOW: {error}")
        else:
            if settings.airgap_mode and settings.budget_store == "redis" and not allowed:
                problems.append("REDIS_URL is not on this machine: list its host in AIRGAP_ALLOW, or leave AIRGAP_MODE")
    return problems


def _is_redis_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    if url.scheme == "unix":
        return bool(url.path)
    return url.scheme in ("redis", "rediss") and bool(url.hostname) and port != 0 and not _UNFIT_IN_KEY.search(text)


def _masked(url: str) -> str:
    """Return an address with its password and its query, which may hold one, as ***."""
    shown = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url)
    return re.sub(r"\?.*", "?***", shown)


def _read_dotenv(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only where there is a file

    try:
        return {key: value for key, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None

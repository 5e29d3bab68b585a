"""What values settings may have. Every rule is looked at, so that all violations are told at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from router.airgap import allows_endpoint, origin_of
from router.catalogue import catalogue_problems
from router.deployments import entry_problems
from router.errors import RequestError, SecurityError

if TYPE_CHECKING:
    from router.settings import Settings

__all__ = ["problems_of"]

# Where a key, and where an address, would end up elsewhere than it says: in another header, host or query.
_UNFIT_ENTRY = re.compile(r"[\x00-\x1f\x7f@?#\\]|[^/:]/[^/]")
_UNFIT_IN_URL = re.compile(r"[\x00-\x20\x7f@?#\\]")
_UNFIT_IN_KEY = re.compile(r"[^\x21-\x7e]")
_POSITIVE = (
    "ollama_timeout",
    "circuit_breaker_slow_call",
    "circuit_breaker_recovery_timeout",
    "circuit_breaker_recovery_timeout_max",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "total_timeout",
    "retry_after_max",
    "budget_lease",
)
_SHARES = ("circuit_breaker_failure_ratio", "circuit_breaker_slow_ratio")
_COUNTS = (
    "circuit_breaker_failure_threshold",
    "circuit_breaker_window",
    "circuit_breaker_window_min",
    "attempts_max",
)
_CHOICES = {
    "midstream": ("continue", "error"),
    "telemetry": ("off", "otel"),
    "budget_store": ("memory", "sqlite", "redis"),
    "breaker_store": ("memory", "redis"),
    "budget_store_down": ("closed", "allowance"),
}
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (_POSITIVE, lambda v: 0 < v <= 86_400, "above 0 and at most a day"),
    (("latency_limit",), lambda v: 0 <= v <= 3600, "from 0 (off) to 3600"),
    (("latency_limit_json",), lambda v: v is None or 0 <= v <= 3600, "from 0 (off) to 3600"),
    (_SHARES, lambda v: 0 <= v <= 1, "from 0 (off) to 1"),
    (_COUNTS, lambda v: 1 <= v <= 10_000, "from 1 to 10000"),
    (("retry_budget_ratio", "retry_budget_per_second"), lambda v: 0 <= v <= 1e6, "from 0 up"),
    (("retry_budget_burst",), lambda v: 0 <= v <= 1_000_000, "from 0 to 1000000"),
    (("circuit_breaker_backoff_factor",), lambda v: 1 <= v <= 10, "from 1 to 10"),
    (("default_max_tokens",), lambda v: 1 <= v <= 1_000_000, "from 1 to 1000000"),
    (("daily_spend_limit_usd", "budget_allowance_usd"), lambda v: 0 <= v <= 1e9, "from 0 up"),
    (("budget_store_timeout",), lambda v: 0.001 <= v <= 60, "from 1 ms to 60 s"),
    (("answer_bytes_max",), lambda v: 1024 <= v <= 2**30, "from 1 KiB to 1 GiB"),
)


def problems_of(settings: Settings) -> list[str]:
    """Return every violation, each beginning with the name of its setting."""
    problems = [
        f"{name.upper()} is {getattr(settings, name)}; it must be {words}"
        for names, holds, words in _RANGES
        for name in names
        if not holds(getattr(settings, name))
    ]
    problems += [
        f"{name.upper()} must be http(s)://host[:port][/path], without user, password, query or space"
        for name in ("gemini_base_url", "anthropic_base_url", "openai_base_url", "ollama_host")
        if not _is_base_url(getattr(settings, name))
    ]
    problems += [
        f"{name.upper()} has a character that no header can carry"
        for name in ("gemini_api_key", "anthropic_api_key", "openai_api_key")
        if _UNFIT_IN_KEY.search(getattr(settings, name).reveal())
    ]
    problems += [
        f"{name.upper()} is {getattr(settings, name)!r}; it must be {' or '.join(words)}"
        for name, words in _CHOICES.items()
        if getattr(settings, name) not in words
    ]
    return [*problems, *_deployment_problems(settings), *_table_problems(settings), *_endpoint_problems(settings)]


def _is_base_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(url.hostname) and port != 0 and not _UNFIT_IN_URL.search(text)


def _deployment_problems(settings: Settings) -> list[str]:
    """Return what is wrong with DEPLOYMENTS; no message holds a key."""
    problems = list(entry_problems(settings.deployments))
    for provider, entries in settings.deployments.items():
        for one in entries:
            who = f"DEPLOYMENTS of {provider}: {one.name[:64]!r}"
            if one.base_url and not _is_base_url(one.base_url):
                problems.append(f"{who} has a base_url that is not http(s)://host[:port][/path]")
            elif settings.airgap_mode and not provider.is_cloud and one.base_url:
                allowed = (settings.ollama_host, *settings.airgap_allowed())
                if origin_of(one.base_url) not in {origin_of(entry) for entry in allowed if "://" in entry}:
                    problems.append(f"{who} is outside the air gap: list its origin in AIRGAP_ALLOW")
            if _UNFIT_IN_KEY.search(one.api_key.reveal()):
                problems.append(f"{who} has a key with a character that no header can carry")
    return problems


def _table_problems(settings: Settings) -> list[str]:
    """Return what leads nowhere in MODELS, ALIASES, TIERS and ARBITRAGE."""
    problems: list[str] = []
    if settings.models or settings.aliases or settings.tiers:
        problems += catalogue_problems(settings.catalogue(), settings.ollama_model)
    for rule in settings.arbitrage:
        try:
            settings.catalogue().resolve(rule.model, settings.ollama_model)
        except RequestError:
            problems.append(f"ARBITRAGE: {rule.model!r} is not a known model; add it to MODELS")
    return problems


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
            used = "redis" in (settings.budget_store, settings.breaker_store)
            if settings.airgap_mode and used and not allowed:
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

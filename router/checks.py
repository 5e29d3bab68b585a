"""What values settings may have. Every rule is looked at, so that all violations are told at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

import msgspec

from router.airgap import allows_endpoint, origin_of
from router.catalogue import catalogue_problems
from router.deployments import entry_problems
from router.errors import RequestError, SecurityError
from router.values import bounds_of

if TYPE_CHECKING:
    from router.settings import Settings

__all__ = ["problems_of"]

# Where a key, and where an address, would end up elsewhere than it says: in another header, host or query.
_UNFIT_ENTRY = re.compile(r"[\x00-\x1f\x7f@?#\\]|[^/:]/[^/]")
_UNFIT_IN_URL = re.compile(r"[\x00-\x20\x7f@?#\\]")
_UNFIT_IN_KEY = re.compile(r"[^\x21-\x7e]")


def problems_of(settings: Settings) -> list[str]:
    """Return every violation, each beginning with the name of its setting."""
    problems = list(_outside(settings))
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
    return [*problems, *_deployment_problems(settings), *_table_problems(settings), *_endpoint_problems(settings)]


def _outside(settings: Settings) -> Iterator[str]:
    for field in msgspec.structs.fields(settings):
        value, name = getattr(settings, field.name), field.name.upper()
        bounds = bounds_of(field.type)
        if bounds is not None and value is not None and not bounds.low <= value <= bounds.high:
            yield f"{name} is {value}; it must be {bounds}"
        if get_origin(field.type) is Literal and value not in get_args(field.type):
            yield f"{name} is {value!r}; it must be {' or '.join(get_args(field.type))}"


def _split(text: str) -> SplitResult | None:
    """Return the parts of an address, None for one that cannot be read, or has no port that can be."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    return None if port == 0 else url


def _is_base_url(text: str) -> bool:
    url = _split(text)
    return url is not None and url.scheme in ("http", "https") and bool(url.hostname) and not _UNFIT_IN_URL.search(text)


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
    url = _split(text)
    if url is None or url.scheme == "unix":
        return url is not None and bool(url.path)
    return url.scheme in ("redis", "rediss") and bool(url.hostname) and not _UNFIT_IN_KEY.search(text)

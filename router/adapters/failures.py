"""
What a vendor's error means: one of ours, with the pause that it asks for. Pure.

The status decides what kind it is; the body is asked only where a vendor says with one status what others say with two,
and for the pause. Whatever stands in a body, there is an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec

from router.errors import (
    AuthenticationFailed,
    InvalidAnswer,
    ModelNotFound,
    ProviderError,
    ProviderOverloaded,
    RateLimited,
    RequestError,
    Unsupported,
)
from router.models import ModelType

__all__ = ["calls_told", "error_of", "pause_s", "retry_after_s", "said"]

Headers = Mapping[str, tuple[str, ...]]

_WORDS_MAX = 200
_RESETS = (
    "x-ratelimit-{}-requests",
    "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-requests-{}",
    "anthropic-ratelimit-tokens-{}",
    "anthropic-ratelimit-input-tokens-{}",
    "anthropic-ratelimit-output-tokens-{}",
)
_KEYS = re.compile(r"(?i)\b(?:sk-|AIza|AQ\.|(?:bearer|basic)\s+|api[ _-]?key[^:=]{0,16}[:=]\s*)[^\s\"',;]{6,}")
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|d|h|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def error_of(
    provider: ModelType, status: int, headers: Headers, body: bytes, wall_s: Callable[[], float] = time.time
) -> ProviderError | RequestError:
    """Return the error that an HTTP status means. The vendor's own words are bounded and kept short."""
    error = _error_object(body)
    words = f"{provider} answered {status}"
    detail = said(error)
    if detail:
        words = f"{words}: {detail}"
    if status in (401, 403) or (status == 400 and _blames_us(provider, error)):
        return AuthenticationFailed(f"{provider} refuses our key ({status})", upstream_status=status)
    if status == 404:
        return ModelNotFound(words, upstream_status=status)
    if status == 400 and provider is ModelType.LOCAL and "does not support" in detail:
        return Unsupported(words, upstream_status=status)
    if status in (400, 413, 422):
        return RequestError(words, status=status)
    if status in (408, 429) or status >= 500:
        kind = RateLimited if status == 429 else ProviderOverloaded
        return kind(words, upstream_status=status, retry_after_s=pause_s(status, headers, body, wall_s))
    return InvalidAnswer(words, upstream_status=status)


def calls_told(headers: Headers) -> int:
    """Return how many attempts a failed answer stands for: a gateway tells (`X-Seawall-Attempts`), a vendor is one."""
    told = headers.get("x-seawall-attempts", ("1",))[0]
    return max(1, int(told)) if re.fullmatch(r"[0-9]{1,4}", told) else 1


def pause_s(status: int, headers: Headers, body: bytes, wall_s: Callable[[], float] = time.time) -> float | None:
    """
    Return for how many seconds a provider asks not to be called, None where it does not say.

    In this order: `retry-after-ms` (OpenAI), `retry-after`, Google's `RetryInfo` in the body, and with 429 the
    `…-reset` of each limit that the headers of OpenAI and Anthropic name as used up: the latest of them.
    """
    for value in headers.get("retry-after-ms", ()):
        if re.fullmatch(r"\d{1,12}(?:\.\d+)?", value.strip()):
            return float(value) / 1000
    asked = retry_after_s(headers.get("retry-after", ()), wall_s)
    if asked is not None:
        return asked
    for detail in _details(_error_object(body)):
        delay = _duration_s(detail.get("retryDelay"))
        if delay is not None:
            return delay
    resets = list(_resets_s(headers, wall_s)) if status == 429 else []
    return max(resets, default=None)


def retry_after_s(values: tuple[str, ...], wall_s: Callable[[], float] = time.time) -> float | None:
    """Return the pause, in seconds, that a Retry-After header asks for (seconds or an HTTP date), else None."""
    for value in values:
        text = value.strip()
        try:
            seconds = float(text)
        except ValueError:
            pass
        else:
            return seconds if 0 <= seconds < float("inf") else None
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            continue
        if moment.tzinfo is None:  # "-0000": UTC by RFC 5322, not this machine's zone
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - wall_s())
    return None


def said(error: Mapping[str, object] | str | None) -> str:
    """
    Return the message of a vendor's error object in at most 200 characters, or nothing.

    A key that it repeats is masked before the cut, for clients are told these words, and half a key is one too.
    """
    message = error.get("message") if isinstance(error, Mapping) else error
    return _KEYS.sub("***", message)[:_WORDS_MAX] if isinstance(message, str) else ""


def _resets_s(headers: Headers, wall_s: Callable[[], float]) -> Iterator[float]:
    for name in _RESETS:
        if headers.get(name.format("remaining"), ("",))[0].strip() != "0":
            continue
        value = headers.get(name.format("reset"), ("",))[0].strip()
        duration = _duration_s(value)
        if duration is not None:
            yield duration
            continue
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            continue
        if moment.tzinfo is not None:
            yield max(0.0, moment.timestamp() - wall_s())


def _duration_s(value: object) -> float | None:
    """Return the seconds of `6m0s`, `20ms` or `3.5s`, None for anything else."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value))


def _blames_us(provider: ModelType, error: Mapping[str, object]) -> bool:
    """Whether a 400 is about our account and not about the request, as some vendors say it."""
    if provider is ModelType.GEMINI:
        # A wrong key, or a place that Google does not serve.
        invalid = any(detail.get("reason") == "API_KEY_INVALID" for detail in _details(error))
        return invalid or error.get("status") == "FAILED_PRECONDITION"
    return provider is ModelType.CLAUDE and "credit balance is too low" in said(error)


def _details(error: Mapping[str, object]) -> list[dict[str, Any]]:
    details = error.get("details")
    found = cast("list[object]", details) if isinstance(details, list) else []
    return [cast("dict[str, Any]", detail) for detail in found if isinstance(detail, dict)]


def _error_object(body: bytes) -> Mapping[str, object]:
    """Return the vendor's error object; Ollama's is only a text. Empty for whatever is none."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(data, list) and data:  # Google's, where a stream was asked for without `alt=sse`
        data = cast("list[object]", data)[0]
    error: object = cast("dict[str, object]", data).get("error") if isinstance(data, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return cast("dict[str, object]", error) if isinstance(error, dict) else {}

"""Settings that somebody may sanely have, drawn. Mostly the defaults, with one to three of them changed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

__all__ = ["draw_settings"]

_ALTERNATIVES: tuple[dict[str, tuple[Any, ...]], ...] = (
    {"CIRCUIT_BREAKER_RECOVERY_TIMEOUT": ("1s", "5s")},
    {"LATENCY_LIMIT": ("0s", "200ms", "2s")},
    {"LATENCY_LIMIT_JSON": ("1s", "0s")},
    {"CIRCUIT_BREAKER_FAILURE_RATIO": (0.5, 0.2), "CIRCUIT_BREAKER_WINDOW": (10,), "CIRCUIT_BREAKER_WINDOW_MIN": (5,)},
    {
        "CIRCUIT_BREAKER_SLOW_RATIO": (0.5,),
        "CIRCUIT_BREAKER_SLOW_CALL": ("500ms", "1s"),
        "CIRCUIT_BREAKER_WINDOW": (10,),
        "CIRCUIT_BREAKER_WINDOW_MIN": (5,),
    },
    {"CIRCUIT_BREAKER_BACKOFF_FACTOR": (2.0,), "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_MAX": ("8s",)},
    {"RETRY_BUDGET_BURST": (1, 5), "RETRY_BUDGET_PER_SECOND": (0.0, 1.0), "RETRY_BUDGET_RATIO": (0.1, 0.0)},
    {"ATTEMPTS_MAX": (4, 2, 1)},
    {"RETRY_AFTER_MAX": ("3s",)},
    {"OPENAI_API_KEY": ("",)},
    {"FIRST_BYTE_TIMEOUT": ("2s", "500ms")},
    {"IDLE_TIMEOUT": ("1s",)},
    {"TOTAL_TIMEOUT": ("5s", "60s")},
    # Below the time for a first byte: requests whose time is over while a provider is still waited for.
    {"TOTAL_TIMEOUT": ("700ms",)},
    {"TOTAL_TIMEOUT": ("1s",), "FIRST_BYTE_TIMEOUT": ("3s",)},
    {"OLLAMA_TIMEOUT": ("1s",)},
)
_BUDGETS: tuple[dict[str, tuple[Any, ...]], ...] = (
    {},
    {"DAILY_SPEND_LIMIT_USD": (0.0036, 0.0005, 0.02)},
    {"DAILY_SPEND_LIMIT_USD": (0.0036, 0.02, 0.001), "BUDGET_STORE_TIMEOUT": ("1s",)},
    {"BUDGET_STORE_DOWN": ("allowance",), "BUDGET_ALLOWANCE_USD": (0.001, 0.01)},
    {"DAILY_SPEND_LIMIT_USD": (0.002,), "BUDGET_STORE_DOWN": ("allowance",), "BUDGET_ALLOWANCE_USD": (0.0005,)},
)
_DEFAULT_THRESHOLD = 3
_STORES = ("memory", "redis", "redis", "sqlite")
_CHANGES = st.sampled_from((0, 1, 2, 3, 1))
_ALTERNATIVE, _BUDGET, _STORE = st.sampled_from(_ALTERNATIVES), st.sampled_from(_BUDGETS), st.sampled_from(_STORES)
_SPECIAL = st.sampled_from(("",) * 7 + ("airgap", *("budget",) * 4))
_VARIANT = st.integers(0, 59)
_THRESHOLD = st.sampled_from((3, 3, 1, 1, 2, 5))
_MIDSTREAM = st.sampled_from(("continue",) * 4 + ("error",))


def draw_settings(draw: DrawFn) -> dict[str, Any]:
    """Draw the settings that differ from those of every hunted scenario."""
    written: dict[str, Any] = {}
    for _ in range(draw(_CHANGES)):
        written |= _one_of_each(draw, draw(_ALTERNATIVE))
    # How many failures it takes, and which of two ways every cut stream goes: no rare changes.
    if (threshold := draw(_THRESHOLD)) != _DEFAULT_THRESHOLD:
        written["CIRCUIT_BREAKER_FAILURE_THRESHOLD"] = threshold
    if (midstream := draw(_MIDSTREAM)) != "continue":
        written["MIDSTREAM"] = midstream
    special = draw(_SPECIAL)
    if special == "budget":
        store = draw(_STORE)
        written |= _one_of_each(draw, draw(_BUDGET)) | ({"BUDGET_STORE": store} if store != "memory" else {})
    elif special == "airgap":
        written["AIRGAP_MODE"] = True
    return written


def _one_of_each(draw: DrawFn, alternatives: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {name: values[draw(_VARIANT) % len(values)] for name, values in alternatives.items()}

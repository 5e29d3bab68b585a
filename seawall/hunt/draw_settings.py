"""Strategies: settings that somebody may sanely have. Mostly the defaults, with one to three of them changed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

__all__ = ["settings_of_a_user"]

_ALTERNATIVES: tuple[dict[str, tuple[Any, ...]], ...] = (
    {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": (1, 2, 5)},
    {"CIRCUIT_BREAKER_RECOVERY_TIMEOUT": ("1s", "5s")},
    {"MIDSTREAM": ("error",)},
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
    {"OLLAMA_TIMEOUT": ("1s",)},
)
_BUDGETS: tuple[dict[str, tuple[Any, ...]], ...] = (
    {},
    {"DAILY_SPEND_LIMIT_USD": (0.0036, 0.0005, 0.02)},
    {"DAILY_SPEND_LIMIT_USD": (0.0036, 0.02, 0.001), "BUDGET_STORE_TIMEOUT": ("1s",)},
    {"BUDGET_STORE_DOWN": ("allowance",), "BUDGET_ALLOWANCE_USD": (0.001, 0.01)},
    {"DAILY_SPEND_LIMIT_USD": (0.002,), "BUDGET_STORE_DOWN": ("allowance",), "BUDGET_ALLOWANCE_USD": (0.0005,)},
)
_STORES = ("memory", "memory", "redis", "sqlite")


@st.composite
def settings_of_a_user(draw: DrawFn) -> dict[str, Any]:
    """Return a strategy for the settings that differ from those of every hunted scenario."""
    written: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 3))):
        written |= _one_of_each(draw, draw(st.sampled_from(_ALTERNATIVES)))
    kind = draw(st.integers(0, 11))
    if kind >= 8:
        store = draw(st.sampled_from(_STORES))
        budget = _one_of_each(draw, draw(st.sampled_from(_BUDGETS)))
        written |= budget | ({"BUDGET_STORE": store} if store != "memory" else {})
    elif kind == 7:
        written["AIRGAP_MODE"] = True
    return written


def _one_of_each(draw: DrawFn, alternatives: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {name: draw(st.sampled_from(values)) for name, values in alternatives.items()}

"""The words that several parts of the scenario language share, and what all its models have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "PARTS",
    "PROVIDERS",
    "Arena",
    "BreakerState",
    "Flag",
    "Identifier",
    "Metric",
    "Model",
    "Number",
    "Provider",
    "Reached",
    "SkipReason",
    "Target",
    "Whole",
]

Provider = Literal["gemini", "claude", "openai", "local"]
PROVIDERS: tuple[Provider, ...] = ("gemini", "claude", "openai", "local")
Target = Literal[
    "gemini",
    "claude",
    "openai",
    "local",
    "redis",
    "collector",
    "key_service",
    "gateway",
    "toxiproxy",
    "budget",
    "backend",
    "metrics_server",
]
PARTS: tuple[Target, ...] = ("collector", "key_service")
"""What the gateway talks to beside providers and Redis: traces' collector, and the service of the transcripts' keys."""
Arena = Literal["simulation", "wire", "cluster"]
BreakerState = Literal["closed", "open", "half_open"]
Reached = Literal["closed", "open", "half_open", "slow", "fast"]
SkipReason = Literal[
    "breaker_open", "cooling_down", "budget", "airgap", "no_key", "slow", "unsupported", "retry_budget"
]
Metric = Literal[
    "success_rate",
    "refused_rate",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "latency_max",
    "first_token_p50",
    "first_token_p95",
    "first_token_p99",
    "refusal_latency_max",
    "requests",
    "spend_usd",
]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
# Strict, because `hang: yes` and `tokens: "16"` are slips and not other spellings of true and 16.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class Model(BaseModel):
    """What every part of a scenario is: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

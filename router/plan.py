"""
Decide who is asked, in what order, with which model, and why. Pure.

`plan(ask, views) -> Route` sees the world only through its arguments: a request's choice and one view a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from router.catalogue import Choice, model_at
from router.errors import SecurityError
from router.models import FAILOVER_CHAIN, ModelType

__all__ = ["Ask", "ProviderView", "Route", "SkipReason", "Skipped", "Step", "order", "plan"]

SkipReason = Literal["breaker_open", "airgap", "cooling_down", "budget", "no_key", "slow"]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of a request for the decision."""

    choice: Choice
    named: bool
    """Whether the caller chose the model: under the air gap a cloud that is named is an error, not a fallback."""
    airgap: bool
    local_model: str


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider stands at this moment. Times in seconds from now."""

    has_key: bool
    breaker_allows: bool
    is_probe: bool
    """Whether a call now would be the breaker's probe."""
    available_in_s: float
    """Until the breaker's probe is due; 0 when calls are allowed."""
    cooling_s: float
    """What is left of a cooldown that the provider asked for."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One provider to try."""

    provider: ModelType
    model: str
    reason: Literal["preferred", "chain", "probe"]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """One provider that is not tried, and why."""

    provider: ModelType
    reason: SkipReason


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The decision. `retry_after_s` is the time to the soonest provider that is only resting; None if none is."""

    steps: tuple[Step, ...]
    skips: tuple[Skipped, ...]
    retry_after_s: float | None


def order(first: ModelType) -> tuple[ModelType, ...]:
    """Return the failover chain with `first` in front and the rest in chain order."""
    return (first, *(provider for provider in FAILOVER_CHAIN if provider is not first))


def plan(ask: Ask, views: Mapping[ModelType, ProviderView]) -> Route:
    """Return the route for `ask`. Raises SecurityError when the air gap forbids the provider that the caller named."""
    if ask.airgap and ask.named and ask.choice.provider.is_cloud:
        raise SecurityError(f"AIRGAP_MODE is on: {ask.choice.provider} is a cloud; ask for local, or name no model")
    steps: list[Step] = []
    skips: list[Skipped] = []
    waits_s: list[float] = []
    for provider in order(ask.choice.provider):
        view = views[provider]
        reason = _reason_to_skip(ask, provider, view)
        if reason is not None:
            skips.append(Skipped(provider=provider, reason=reason))
            if reason in ("breaker_open", "cooling_down"):
                waits_s.append(max(view.available_in_s, view.cooling_s))
            continue
        why = "probe" if view.is_probe else "preferred" if provider is ask.choice.provider else "chain"
        steps.append(Step(provider=provider, model=model_at(provider, ask.choice, ask.local_model), reason=why))
    return Route(steps=tuple(steps), skips=tuple(skips), retry_after_s=min(waits_s, default=None))


def _reason_to_skip(ask: Ask, provider: ModelType, view: ProviderView) -> SkipReason | None:
    if ask.airgap and provider.is_cloud:
        return "airgap"
    if not view.has_key:
        return "no_key"
    if view.cooling_s > 0:
        return "cooling_down"
    if not view.breaker_allows:
        return "breaker_open"
    return None

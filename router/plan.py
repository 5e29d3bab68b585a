"""
Decide who is asked, in what order, with which model, and why. Pure.

`plan(ask, views) -> Route` sees the world only through its arguments: a request's choice and one view a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from router.capabilities import lacking
from router.catalogue import Catalogue, Choice
from router.errors import RequestError, SecurityError
from router.events import SkipReason
from router.models import FAILOVER_CHAIN, ModelType
from router.transport import Timeouts

__all__ = ["CLEAR", "Ask", "ProviderView", "Route", "Skipped", "Step", "order", "plan"]

_Reason = Literal["preferred", "chain", "probe", "measure", "slow"]

# What no waiting changes.
_LASTING: frozenset[SkipReason] = frozenset({"airgap", "no_key", "unsupported"})


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of a request for the decision."""

    choice: Choice
    named: bool
    """Whether the caller chose the model: under the air gap a cloud that is named is an error, not a fallback."""
    airgap: bool
    local_model: str
    catalogue: Catalogue
    timeouts: Mapping[ModelType, Timeouts]
    fast: Choice | None = None
    """The fast failover model: it takes over when the preferred provider is slow."""
    needs: frozenset[str] = frozenset()
    """What not everybody can do, by the names of `router.capabilities`."""


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
    is_slow: bool = False
    """Whether its latency is spiking: it is tried last, and counts as skipped for `slow`."""
    may_measure: bool = False
    """Whether a slow provider is due for the one call that measures it again."""

    @property
    def is_usable(self) -> bool:
        """Whether a call may start now."""
        return self.breaker_allows and self.cooling_s <= 0 and self.has_key

    @property
    def is_late(self) -> bool:
        """Whether it is slow, and not due to be measured: it is tried after all others."""
        return self.is_slow and not self.may_measure


CLEAR = ProviderView(has_key=True, breaker_allows=True, is_probe=False, available_in_s=0.0, cooling_s=0.0)
"""How a provider stands that nothing is to be said of: always this one object."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One provider to try."""

    provider: ModelType
    model: str
    timeouts: Timeouts
    reason: _Reason


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """One provider that is not tried, and why."""

    provider: ModelType
    reason: SkipReason


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The decision."""

    steps: tuple[Step, ...]
    skips: tuple[Skipped, ...]


def order(first: ModelType) -> tuple[ModelType, ...]:
    """Return the failover chain with `first` in front and the rest in chain order."""
    return (first, *(provider for provider in FAILOVER_CHAIN if provider is not first))


def plan(ask: Ask, views: Mapping[ModelType, ProviderView]) -> Route:
    """
    Return the route for `ask`.

    Raises SecurityError when the air gap forbids the provider that the caller named, and RequestError when nobody who
    may be asked can do what the request needs.
    """
    if ask.airgap and ask.named and ask.choice.provider.is_cloud:
        raise SecurityError(f"AIRGAP_MODE is on: {ask.choice.provider} is a cloud; ask for local, or name no model")
    steps: list[Step] = []
    postponed: list[Step] = []
    skips: list[Skipped] = []
    for provider in _order_now(ask, views):
        view = views[provider]
        reason = _reason_to_skip(ask, views, provider)
        if reason is not None:
            skips.append(Skipped(provider=provider, reason=reason))
            continue
        model, why = _model_for(ask, views, provider), _why(ask, provider, view)
        step = Step(provider=provider, model=model, timeouts=ask.timeouts[provider], reason=why)
        if view.is_late:
            skips.append(Skipped(provider=provider, reason="slow"))
        (postponed if view.is_late else steps).append(step)
    if ask.needs and all(skipped.reason in _LASTING for skipped in skips) and not steps and not postponed:
        _raise_for_unable(ask, views, skips)
    return Route(steps=(*steps, *postponed), skips=tuple(skips))


def _why(ask: Ask, provider: ModelType, view: ProviderView) -> _Reason:
    if view.is_late:
        return "slow"
    if view.is_probe:
        return "probe"
    if view.is_slow:
        return "measure"
    return "preferred" if provider is ask.choice.provider else "chain"


def _stand_in(ask: Ask, views: Mapping[ModelType, ProviderView]) -> Choice | None:
    """Return the fast failover model when it goes first, because the preferred provider is slow."""
    if ask.fast is None or ask.fast.provider is ask.choice.provider or not views[ask.choice.provider].is_late:
        return None
    return ask.fast


def _order_now(ask: Ask, views: Mapping[ModelType, ProviderView]) -> tuple[ModelType, ...]:
    chain, fast = order(ask.choice.provider), _stand_in(ask, views)
    if fast is None:
        return chain
    return (fast.provider, *(provider for provider in chain if provider is not fast.provider))


def _model_for(ask: Ask, views: Mapping[ModelType, ProviderView], provider: ModelType) -> str:
    fast = _stand_in(ask, views)
    choice = fast if fast is not None and provider is fast.provider else ask.choice
    return ask.catalogue.model_at(provider, choice, ask.local_model)


def _raise_for_unable(ask: Ask, views: Mapping[ModelType, ProviderView], skips: list[Skipped]) -> None:
    unable = [
        f"{skipped.provider} cannot do {', '.join(lacking(skipped.provider, model, ask.needs))}"
        for skipped in skips
        if skipped.reason == "unsupported" and (model := _model_for(ask, views, skipped.provider))
    ]
    if unable:
        raise RequestError(f"nobody who may be asked can answer this request: {'; '.join(unable)}")


def _reason_to_skip(ask: Ask, views: Mapping[ModelType, ProviderView], provider: ModelType) -> SkipReason | None:
    view = views[provider]
    if ask.airgap and provider.is_cloud:
        return "airgap"
    if not view.has_key:
        return "no_key"
    if ask.needs and lacking(provider, _model_for(ask, views, provider), ask.needs):
        return "unsupported"
    if view.cooling_s > 0:
        return "cooling_down"
    if not view.breaker_allows:
        return "breaker_open"
    return None

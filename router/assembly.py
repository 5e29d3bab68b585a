"""Build the deployments of every provider from the settings, and show how they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from router.adapters import ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter
from router.breaker import Breaker, BreakerOptions, BreakerState
from router.deployments import Deployment
from router.events import BreakerChange, EventSink, LatencyChange
from router.health import ProviderHealth
from router.latency import LatencyOptions, LatencyWatch
from router.models import FAILOVER_CHAIN, ModelType
from router.pool import Member, Pool
from router.settings import Settings
from router.transport import Timeouts

__all__ = ["pools_of", "standing", "timeouts_of"]

_ADAPTERS = {
    ModelType.GEMINI: GeminiAdapter,
    ModelType.CLAUDE: ClaudeAdapter,
    ModelType.OPENAI: OpenAIAdapter,
    ModelType.LOCAL: OllamaAdapter,
}


def pools_of(
    settings: Settings, *, sink: EventSink, draw: Callable[[], float], worker: str
) -> Mapping[ModelType, Pool]:
    """Return every provider's deployments. `sink` is told of their breakers and latencies."""

    def members(provider: ModelType) -> list[Member]:
        targets = settings.targets(provider)
        return [_member(settings, provider, one, sink=sink, draw=draw, worker=worker) for one in targets]

    return {provider: Pool(provider, members(provider), draw=draw) for provider in FAILOVER_CHAIN}


def timeouts_of(settings: Settings) -> Mapping[ModelType, Timeouts]:
    """Return every provider's timeouts: the local model may have to load first."""
    return {
        provider: Timeouts(
            connect_s=settings.connect_timeout,
            first_byte_s=settings.first_byte_timeout if provider.is_cloud else settings.ollama_timeout,
            idle_s=settings.idle_timeout,
        )
        for provider in FAILOVER_CHAIN
    }


def standing(pool: Pool, now_s: float) -> dict[str, Any]:
    """
    Return how a provider stands, without asking it.

    Where it has deployments with names, the best of them speaks for all, and each has its own entry in `deployments`.
    """
    views = [(member, member.health.view(now_s)) for member in pool.members]
    best, _ = min(views, key=lambda pair: (not pair[1].is_usable, pair[1].available_in_s, pair[1].cooling_s))
    shown = _shown(best.health, now_s)
    if best.name is not None:
        alarms = [member.health.alarm for member in pool.members if member.health.alarm is not None]
        shown["alarm"] = alarms[0] if alarms else None
        shown["deployments"] = {
            str(member.name): _shown(member.health, now_s) | {"in_flight": member.in_flight} for member in pool.members
        }
    return shown


def _shown(health: ProviderHealth, now_s: float) -> dict[str, Any]:
    view = health.view(now_s)
    return {
        "breaker": str(health.breaker.state),
        "cooling_down_s": round(view.cooling_s, 3),
        "has_key": view.has_key,
        "is_slow": health.latency.is_slow,
        "latency_ms": None if health.latency_s is None else round(health.latency_s * 1000, 3),
        "last_error": health.last_error,
        "alarm": health.alarm,
    }


def _member(
    settings: Settings, provider: ModelType, one: Deployment, *, sink: EventSink, draw: Callable[[], float], worker: str
) -> Member:
    limit_s = settings.latency_limit or settings.json_limit()
    whose: dict[str, Any] = {"worker": worker, "provider": provider, "deployment": one.name or None}

    def changed(old: BreakerState, new: BreakerState, generation: int, cause: str) -> None:
        sink(BreakerChange(from_state=old, to=new, generation=generation, cause=cause, **whose))

    def turned(is_slow: bool, average: float) -> None:
        sink(
            LatencyChange(
                to="slow" if is_slow else "fast",
                average_ms=round(average * limit_s * 1000, 3),
                limit_ms=limit_s * 1000,
                message="latency spiking, switching to failover model" if is_slow else "latency is back to normal",
                **whose,
            )
        )

    health = ProviderHealth(
        provider,
        Breaker(_breaker_options(settings), draw=draw, on_change=changed),
        LatencyWatch(
            LatencyOptions(
                limit_s=settings.latency_limit,
                json_limit_s=settings.json_limit(),
                recovery_s=settings.circuit_breaker_recovery_timeout,
            ),
            on_change=turned,
        ),
        has_key=not provider.is_cloud or bool(one.api_key),
        retry_after_max_s=settings.retry_after_max,
    )
    return Member(one.name or None, _ADAPTERS[provider](one.base_url, one.api_key), health, weight=one.weight)


def _breaker_options(settings: Settings) -> BreakerOptions:
    """Return the options of breakers: each is the setting CIRCUIT_BREAKER_… of its name, without the unit."""
    names = BreakerOptions.__struct_fields__
    return BreakerOptions(**{name: getattr(settings, f"circuit_breaker_{name.removesuffix('_s')}") for name in names})

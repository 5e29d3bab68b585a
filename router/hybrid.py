"""The router as people use it: one object, five methods."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import msgspec

from router.adapters import ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter
from router.airgap import GuardedTransport
from router.breaker import Breaker, BreakerOptions, BreakerState
from router.budget import BudgetStore, MemoryBudgetStore
from router.catalogue import Choice, resolve
from router.chain import Ports, answer
from router.errors import ConfigurationError, ProviderError, RequestError, SeawallError
from router.events import BreakerChange, Event, EventSink, LatencyChange
from router.health import ProviderHealth
from router.latency import LatencyOptions, LatencyWatch
from router.ledger import Ledger
from router.models import DEFAULT_PREFERRED, FAILOVER_CHAIN, Chunk, Message, ModelType, Reply, Request, ToolCall
from router.settings import Settings
from router.transport import Timeouts, Transport

__all__ = ["HybridRouter"]

_ADAPTERS = {
    ModelType.GEMINI: GeminiAdapter,
    ModelType.CLAUDE: ClaudeAdapter,
    ModelType.OPENAI: OpenAIAdapter,
    ModelType.LOCAL: OllamaAdapter,
}
_HEALTH_S = 3.0


def _ignore(event: Event) -> None:
    """Drop an event: the sink of a router that nobody watches."""


class HybridRouter:
    """
    Send prompts to Gemini, Claude, OpenAI or a local Ollama, failing over in order.

    Without arguments, settings come from the environment and `.env`. `sink` is told of every attempt, skip, breaker
    change and spend. `clock` (monotonic seconds), `wall` (seconds since the epoch), `draw` (numbers in [0, 1)) and
    `new_id` are the sources of time and chance. One instance serves one event loop; close it with `aclose`.
    Raises ConfigurationError when a setting is out of its range.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        transport: Transport | None = None,
        budget_store: BudgetStore | None = None,
        sink: EventSink = _ignore,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        worker: str = "router",
    ) -> None:
        self.settings = settings or Settings.from_environment()
        if transport is None:
            from router.httpx_transport import HttpxTransport  # noqa: PLC0415 - users of another need not load it

            transport = HttpxTransport()
        if self.settings.airgap_mode:
            origins = [entry for entry in self.settings.airgap_allowed() if entry.startswith(("http://", "https://"))]
            transport = GuardedTransport(transport, [self.settings.ollama_host, *origins])
        self._own_store: BudgetStore | None = None
        if budget_store is None:
            budget_store = self._own_store = _budget_store(self.settings)
        ledger = Ledger(
            budget_store,
            limit_usd=self.settings.daily_spend_limit_usd,
            lease_s=self.settings.budget_lease,
            wall=wall,
            sink=sink,
            new_id=new_id,
            worker=worker,
            store_down=self.settings.budget_store_down,
            allowance_usd=self.settings.budget_allowance_usd,
        )
        self._new_id = new_id
        self._ports = Ports(
            settings=self.settings,
            transport=transport,
            adapters={
                provider: adapter(self.settings.base_url(provider), self.settings.api_key(provider))
                for provider, adapter in _ADAPTERS.items()
            },
            health={provider: self._health(provider, sink, draw, worker) for provider in FAILOVER_CHAIN},
            ledger=ledger,
            fast=_fast_choice(self.settings),
            sink=sink,
            clock=clock,
            wall=wall,
            worker=worker,
        )

    async def route_request(
        self, prompt: str, system_prompt: str | None = None, preferred_model: str = DEFAULT_PREFERRED
    ) -> str:
        """Return the answer's text. Raises what `complete` raises."""
        messages = (Message(role="user", content=prompt),)
        if system_prompt:
            messages = (Message(role="system", content=system_prompt), *messages)
        return (await self.complete(Request(messages=messages, model=preferred_model))).text

    async def complete(self, request: Request) -> Reply:
        """
        Return the whole answer.

        Raises SecurityError (air gap), RequestError (the request is at fault), BudgetExceeded, DeadlineExceeded, or
        AllCloudsDownError when nobody could answer.
        """
        text: list[str] = []
        refusal, calls = "", list[ToolCall]()
        async with aclosing(answer(self._identified(request), self._ports, stream=False)) as chunks:
            async for chunk in chunks:
                text.append(chunk.text)
                refusal += chunk.refusal
                # Whole ones: a JSON answer comes in one piece.
                calls += [ToolCall(id=c.id or "", name=c.name or "", arguments=c.arguments) for c in chunk.tool_calls]
                if chunk.stop_reason is not None and chunk.usage is not None:
                    return Reply(
                        text="".join(text),
                        provider=chunk.provider,
                        model=chunk.model,
                        usage=chunk.usage,
                        stop_reason=chunk.stop_reason,
                        cost_usd=chunk.cost_usd,
                        attempts=chunk.attempts,
                        tool_calls=tuple(calls),
                        refusal=refusal,
                    )
        raise SeawallError("the answer ended without its last chunk")

    def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """
        Return the answer chunk by chunk; the last has `stop_reason` set. Close it (`aclosing`) to stop early.

        Iterating raises what `complete` raises; after the first text also ProviderError, with MIDSTREAM=error.
        """
        return answer(self._identified(request), self._ports, stream=True)

    async def health_check(self) -> dict[str, dict[str, Any]]:
        """
        Return, for each provider: `reachable`, `breaker`, `cooling_down_s`, `latency_ms`, `last_error`, `alarm`.

        Asks every provider that may be asked, all at once, for at most 3 s. Changes no breaker. `reachable` is None for
        a provider without a key or behind the air gap.
        """
        names = list(FAILOVER_CHAIN)
        reachable = await asyncio.gather(*(self._reachable(provider) for provider in names))
        return {
            str(provider): {"reachable": found} | self.status()[str(provider)]
            for provider, found in zip(names, reachable, strict=True)
        }

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each provider without asking it."""
        now_s = self._ports.clock()
        return {str(provider): _shown(health, now_s) for provider, health in self._ports.health.items()}

    async def is_local_available(self) -> bool:
        """Return whether the local Ollama answers."""
        return bool(await self._reachable(ModelType.LOCAL))

    async def spent_usd(self) -> float:
        """Return today's spend, settled and reserved, in US dollars."""
        return await self._ports.ledger.spent_usd()

    async def aclose(self) -> None:
        """Book what is still being settled, for a bounded time, and close every connection of this router's own."""
        await self._ports.ledger.drain()
        if self._own_store is not None:
            await self._own_store.aclose()
        await self._ports.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _identified(self, request: Request) -> Request:
        return request if request.request_id else msgspec.structs.replace(request, request_id=self._new_id())

    async def _reachable(self, provider: ModelType) -> bool | None:
        settings = self.settings
        if provider.is_cloud and (settings.airgap_mode or not settings.api_key(provider)):
            return None
        timeouts = Timeouts(connect_s=_HEALTH_S, first_byte_s=_HEALTH_S, idle_s=_HEALTH_S)
        call = self._ports.adapters[provider].health_call(timeouts)
        try:
            async with asyncio.timeout(_HEALTH_S), self._ports.transport.send(call) as found:
                return found.status == 200
        except (ProviderError, TimeoutError):
            return False

    def _health(self, provider: ModelType, sink: EventSink, draw: Callable[[], float], worker: str) -> ProviderHealth:
        settings = self.settings

        def changed(old: BreakerState, new: BreakerState, generation: int, cause: str) -> None:
            sink(
                BreakerChange(
                    worker=worker,
                    provider=provider,
                    from_state=old,
                    to=new,
                    generation=generation,
                    cause=cause,
                )
            )

        options = BreakerOptions(
            failure_threshold=settings.circuit_breaker_failure_threshold,
            recovery_timeout_s=settings.circuit_breaker_recovery_timeout,
            backoff_factor=settings.circuit_breaker_backoff_factor,
            recovery_timeout_max_s=settings.circuit_breaker_recovery_timeout_max,
        )
        watched = LatencyOptions(limit_s=settings.latency_limit, recovery_s=settings.circuit_breaker_recovery_timeout)

        def turned(is_slow: bool, average_s: float) -> None:
            sink(
                LatencyChange(
                    worker=worker,
                    provider=provider,
                    to="slow" if is_slow else "fast",
                    average_ms=round(average_s * 1000, 3),
                    limit_ms=settings.latency_limit * 1000,
                    message="latency spiking, switching to failover model" if is_slow else "latency is back to normal",
                )
            )

        return ProviderHealth(
            provider,
            Breaker(options, draw=draw, on_change=changed),
            LatencyWatch(watched, on_change=turned),
            has_key=lambda: not provider.is_cloud or bool(settings.api_key(provider)),
            retry_after_max_s=settings.retry_after_max,
        )


def _budget_store(settings: Settings) -> BudgetStore:
    if settings.budget_store == "memory":
        return MemoryBudgetStore()
    try:
        from router.redis_store import RedisBudgetStore  # noqa: PLC0415 - needs a package that most need not have
    except ImportError:
        raise ConfigurationError("BUDGET_STORE=redis needs the package redis: pip install 'seawall[redis]'") from None
    return RedisBudgetStore(settings.redis_url.reveal(), timeout_s=settings.budget_store_timeout)


def _fast_choice(settings: Settings) -> Choice:
    try:
        return resolve(settings.latency_failover_model, settings.ollama_model)
    except RequestError as error:
        raise ConfigurationError(f"LATENCY_FAILOVER_MODEL: {error}") from None


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

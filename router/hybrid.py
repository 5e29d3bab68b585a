"""The router as people use it: one object, five methods."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from router.airgap import GuardedTransport
from router.assembly import pools_of, standing, timeouts_of
from router.budget import BudgetStore, MemoryBudgetStore
from router.catalogue import Choice
from router.chain import Engine, Ports, answer
from router.errors import ConfigurationError, ProviderError, RequestError
from router.events import Event, EventSink
from router.health import ProviderHealth
from router.ledger import Ledger
from router.models import DEFAULT_PREFERRED, Chunk, Message, ModelType, Reply, Request, ToolCall
from router.pool import Member
from router.pulling import pulled
from router.retry import RetryBudget
from router.run import Deliver
from router.settings import Settings
from router.transport import Timeouts, Transport

__all__ = ["HybridRouter", "Telemetry", "new_id"]

_HEALTH_S = 3.0
# Our own source: a caller who seeds the common one must not have the ids of another process. Asking the system for each
# id would hand the interpreter to another thread every time.
_ids = random.Random()  # noqa: S311 - ids, not secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)


def new_id() -> str:
    """Return 128 random bits in hex, for an id."""
    return _ids.getrandbits(128).to_bytes(16).hex()


def _ignore(event: Event) -> None:
    """Drop an event: the sink of a router that nobody watches."""


class Telemetry(Protocol):
    """What is told of each request, such as `seawall.telemetry`. No method may raise or block."""

    def take(self, event: Event) -> None:
        """Take every event of the router."""
        ...

    def around(self, engine: Engine) -> Engine:
        """Return the engine with what follows each request of it."""
        ...


class HybridRouter:
    """
    Send prompts to Gemini, Claude, OpenAI or a local Ollama, failing over in order.

    Without arguments, settings come from the environment and `.env`. `sink` is told of every attempt, skip, breaker
    change and spend. `clock` (monotonic seconds), `wall` (seconds since the epoch), `draw` (numbers in [0, 1)) and
    `new_id` are the sources of time and chance. What lies outside of this process is passed: `budget_store` holds the
    books (and stays its owner's to close), `telemetry` follows every request; `EquippedRouter` of `seawall.equipped`
    makes what its settings name. One instance serves one event loop; close it with `aclose`.
    Raises ConfigurationError when a setting is out of its range, or names a store that was not passed.
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
        new_id: Callable[[], str] = new_id,
        worker: str = "router",
        telemetry: Telemetry | None = None,
    ) -> None:
        self.settings = settings or Settings.from_environment()
        self._answer, sink = _followed(telemetry, sink)
        if transport is None:
            from router.httpx_transport import HttpxTransport  # noqa: PLC0415 - users of another need not load it

            transport = HttpxTransport()
        if self.settings.airgap_mode:
            origins = [entry for entry in self.settings.airgap_allowed() if entry.startswith(("http://", "https://"))]
            transport = GuardedTransport(transport, [self.settings.ollama_host, *origins])
        ledger = Ledger(
            budget_store or _memory_store(self.settings),
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
        pools = pools_of(self.settings, sink=sink, draw=draw, worker=worker)
        self._ports = Ports(
            settings=self.settings,
            transport=transport,
            pools=pools,
            ledger=ledger,
            retries=RetryBudget(
                ratio=self.settings.retry_budget_ratio,
                per_second=self.settings.retry_budget_per_second,
                burst=self.settings.retry_budget_burst,
                now_s=clock(),
            ),
            catalogue=self.settings.catalogue(),
            rules=self.settings.rules(),
            timeouts=timeouts_of(self.settings),
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
        whole = await self._answer(self._identified(request), self._ports)
        assert whole.stop_reason is not None  # noqa: S101 - it is the last chunk
        assert whole.usage is not None  # noqa: S101
        calls = whole.tool_calls
        return Reply(
            text=whole.text,
            provider=whole.provider,
            model=whole.model,
            usage=whole.usage,
            stop_reason=whole.stop_reason,
            cost_usd=whole.cost_usd,
            attempts=whole.attempts,
            # Whole ones: a JSON answer comes in one piece.
            tool_calls=tuple([ToolCall(id=c.id or "", name=c.name or "", arguments=c.arguments) for c in calls]),
            refusal=whole.refusal,
        )

    def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """
        Return the answer chunk by chunk; the last has `stop_reason` set. Close it (`aclosing`) to stop early.

        Iterating raises what `complete` raises; after the first text also ProviderError, with MIDSTREAM=error.
        """
        return pulled(lambda deliver: self._answer(self._identified(request), self._ports, deliver))

    async def relay(self, request: Request, deliver: Deliver) -> Chunk:
        """
        Hand the answer's chunks to `deliver` as they come; return the last one, which has `stop_reason` set.

        The same as `stream`, for who passes chunks on to a socket: nothing stands between. What `deliver` raises ends
        the answer and is raised here.
        """
        return await self._answer(self._identified(request), self._ports, deliver)

    async def health_check(self) -> dict[str, dict[str, Any]]:
        """
        Return, for each provider: `reachable`, `breaker`, `cooling_down_s`, `latency_ms`, `last_error`, `alarm`.

        Asks every provider that may be asked, all at once, for at most 3 s. Changes no breaker. `reachable` is None for
        a provider without a key or behind the air gap.
        """
        reachable = await asyncio.gather(*map(self._reachable, self._ports.pools))
        shown = zip(self.status().items(), reachable, strict=True)
        return {name: {"reachable": found} | known for (name, known), found in shown}

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each provider without asking it."""
        now_s = self._ports.clock()
        return {str(provider): standing(pool, now_s) for provider, pool in self._ports.pools.items()}

    def models(self) -> tuple[str, ...]:
        """Return every name that a request's `model` may be: providers, `auto`, models, aliases."""
        return self._ports.catalogue.names()

    async def is_local_available(self) -> bool:
        """Return whether the local Ollama answers."""
        return bool(await self._reachable(ModelType.LOCAL))

    async def spent_usd(self) -> float:
        """Return today's spend, settled and reserved, in US dollars."""
        return await self._ports.ledger.spent_usd()

    def healths(self) -> dict[str, ProviderHealth]:
        """Return how each deployment stands, for what workers tell each other (`seawall.shared_breakers`)."""
        return {
            f"{provider}/{member.name}" if member.name else str(provider): member.health
            for provider, pool in self._ports.pools.items()
            for member in pool.members
        }

    async def aclose(self) -> None:
        """Book what is still being settled, for a bounded time, and close every connection of this router's own."""
        await self._ports.ledger.drain()
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
        if provider.is_cloud and self.settings.airgap_mode:
            return None
        keyed = [each for each in self._ports.pools[provider].members if each.health.view(self._ports.clock()).has_key]
        return any(await asyncio.gather(*map(self._answers, keyed))) if keyed else None

    async def _answers(self, member: Member) -> bool:
        timeouts = Timeouts(connect_s=_HEALTH_S, first_byte_s=_HEALTH_S, idle_s=_HEALTH_S)
        call = member.adapter.health_call(timeouts)
        try:
            async with asyncio.timeout(_HEALTH_S), self._ports.transport.send(call) as found:
                return found.status == 200
        except (ProviderError, TimeoutError):
            return False


def _followed(telemetry: Telemetry | None, sink: EventSink) -> tuple[Engine, EventSink]:
    """Return the engine and the sink as `telemetry` sees them; where there is none, they are as they were."""
    if telemetry is None:
        return answer, sink

    def tell(event: Event) -> None:
        sink(event)
        telemetry.take(event)

    return telemetry.around(answer), tell


def _memory_store(settings: Settings) -> BudgetStore:
    """Return a store for this process alone. Raises ConfigurationError where the settings ask for another one."""
    if settings.budget_store != "memory":
        raise ConfigurationError(
            f"BUDGET_STORE is {settings.budget_store}: pass such a budget_store, or use seawall.equipped.EquippedRouter"
        )
    return MemoryBudgetStore()


def _fast_choice(settings: Settings) -> Choice:
    try:
        return settings.catalogue().resolve(settings.latency_failover_model, settings.ollama_model)
    except RequestError as error:
        raise ConfigurationError(f"LATENCY_FAILOVER_MODEL: {error}") from None

"""
The engine: carry one request along its route until somebody has answered it whole.

`answer` owns the control flow of the router; everything it asks (plan, breaker, prices, adapters) is pure or behind a
port. JSON and streams take the same way: the pieces of a stream are handed over as they come, a JSON answer at its end.

    plan ─▶ for each step, for each of its deployments:
            may retry? ─▶ reservation? ─▶ permit? ─▶ call ─▶ pieces to the caller ─▶ settled, reported ─▶ done
                └──── no: skip ──┴───────────┘         └── failed: the next one, going on from the text so far
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from router.adapters import Prompt, converse
from router.arbitrage import AUTO, Rule, choose_model
from router.breaker import Permit
from router.capabilities import needs_of
from router.catalogue import Catalogue, Choice
from router.deadline import Deadline
from router.errors import AllCloudsDownError, BudgetExceeded, ProviderError, RequestError, SecurityError
from router.events import EventSink, Skip, SkipReason
from router.ledger import Lease, Ledger
from router.models import Chunk, ModelType, Request, Usage
from router.plan import CLEAR, Ask, Route, Step, plan
from router.pool import Member, Pool
from router.retry import RetryBudget
from router.run import Deliver, Run, Watch
from router.settings import Settings
from router.transport import Timeouts, Transport
from router.usage import asked_tokens_max

__all__ = ["Engine", "Ports", "answer"]

Engine = Callable[..., Coroutine[Any, Any, Chunk]]
"""`answer`, or what stands around it."""

_BREATH_S = 1.0  # what a caller is asked to wait when only the retry budget was in the way


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """All that the engine needs of the world."""

    settings: Settings
    transport: Transport
    pools: Mapping[ModelType, Pool]
    ledger: Ledger
    retries: RetryBudget
    catalogue: Catalogue
    rules: tuple[Rule, ...]
    """Of `model: auto`."""
    timeouts: Mapping[ModelType, Timeouts]
    fast: Choice
    """What takes over from a slow provider."""
    sink: EventSink
    clock: Callable[[], float]
    """Seconds of the monotonic clock."""
    wall: Callable[[], float]
    """Seconds since the epoch."""
    worker: str
    clear_routes: dict[tuple[str, bool, frozenset[str]], Route] = {}
    """The routes of requests that came while every provider stood well; their names are those of the catalogue."""


async def answer(request: Request, ports: Ports, deliver: Deliver | None = None) -> Chunk:
    """
    Carry `request` until it is answered; return the last chunk, with stop reason, usage, cost and attempts.

    The pieces of a stream go to `deliver`, one after the other; without it the answer is JSON, and all in the last
    chunk. Raises SecurityError, RequestError, BudgetExceeded, DeadlineExceeded or AllCloudsDownError. After text was
    delivered a broken provider is followed by the next one, or, with MIDSTREAM=error, by its own ProviderError.
    """
    run = Run(request, ports, deliver)
    route = _route(request, ports)
    for skipped in route.skips:
        _skip(run, ports, skipped.provider, skipped.reason)
    for n, step in enumerate(route.steps, start=1):
        pool, before = ports.pools[step.provider], len(run.attempts)
        refused: SkipReason | None = None
        for member in pool.choices(ports.clock):
            # However many siblings one has, each provider behind it keeps its turn.
            kept = len(route.steps) - n if len(run.attempts) > before else 0
            if run.attempts and not _may_go_on(run, ports, kept):
                refused, run.starved = "retry_budget", True
                break
            prompt = run.prompt(step.model)
            run.asked_max = asked_tokens_max(prompt)
            lease = await ports.ledger.reserve(
                step.provider,
                step.model,
                request_id=request.request_id,
                prompt_tokens=run.asked_max,
                max_tokens=prompt.max_tokens,
            )
            if lease is None:
                refused, run.denied = "budget", True
                break
            # Only now, for a permit means that the call starts: the store may have taken its time.
            permit = member.health.acquire(ports.clock())
            if permit is None:
                ports.ledger.settle(lease, None)
                continue
            try:
                return await _attempt(run, ports, step, member, permit, lease, prompt)
            except ProviderError as error:
                if not run.can_go_on(ports.settings.midstream):
                    raise
                run.calls, run.counts = run.calls + error.calls, error.counts
        if refused is not None or len(run.attempts) == before:
            # The budget's reason, or somebody else's call has changed things since the plan was made.
            _skip(run, ports, step.provider, refused or _resting(pool, ports))
    raise _exhausted(run, ports, route)


async def _attempt(
    run: Run, ports: Ports, step: Step, member: Member, permit: Permit, lease: Lease, prompt: Prompt
) -> Chunk:
    """Have one provider's part of the answer; whatever ends it, the permit, the lease and the report are settled."""
    health = member.health
    deadline = Deadline(run.deadline_s, ports.clock)
    watch = Watch(run, ports, step, member, permit, prompt, deadline)
    member.in_flight += 1
    try:
        with deadline:
            await converse(
                member.adapter,
                ports.transport,
                prompt,
                step.timeouts,
                watch.take,
                answer_bytes_max=ports.settings.answer_bytes_max,
                wall_s=ports.wall,
                told=run.told(ports.clock()),
            )
    except ProviderError as error:
        health.failed(permit, ports.clock(), error)
        _settle(run, ports, lease, watch.billed(error))
        watch.report("failed", error.code, getattr(error, "upstream_status", None))
        raise
    except BaseException as error:
        # The caller left, ran out of time, or the request itself is at fault: nothing is learnt of the provider.
        health.breaker.release(permit)
        refused = isinstance(error, (RequestError, SecurityError))  # nobody bills these
        _settle(run, ports, lease, None if refused else watch.billed(None))
        watch.report("cancelled", getattr(error, "code", "cancelled"), getattr(error, "status", None))
        raise
    finally:
        deadline.stop()
        member.in_flight -= 1
        if watch.response_s is None or watch.timing.measures:
            health.latency.dropped(watch.timing)
    now_s, response_s = ports.clock(), watch.response_s
    health.succeeded(permit, now_s, first_byte_s=watch.first_byte_s, response_s=response_s)
    if response_s is not None:
        member.answered(now_s, response_s)
    ports.retries.deposit()
    _settle(run, ports, lease, watch.usage())
    watch.report("ok", None, 200)
    return watch.last()


def _route(request: Request, ports: Ports) -> Route:
    settings = ports.settings
    now_s = ports.clock()
    arbitrated = request.model == AUTO
    name = choose_model(request.messages[-1].text, ports.rules) if arbitrated and request.messages else request.model
    named = request.names_model and not arbitrated
    if settings.airgap_mode and not named:
        name = ModelType.LOCAL
    needs = needs_of(request)
    views = {provider: pool.view(now_s) for provider, pool in ports.pools.items()}
    # The plan is pure: while nothing is to be said of any provider, equal requests have equal routes.
    is_clear, key = list(views.values()).count(CLEAR) == len(views), (name, named, needs)
    if is_clear and (known := ports.clear_routes.get(key)) is not None:
        return known
    ask = Ask(
        choice=ports.catalogue.resolve(name, settings.ollama_model),
        named=named,
        airgap=settings.airgap_mode,
        local_model=settings.ollama_model,
        catalogue=ports.catalogue,
        timeouts=ports.timeouts,
        fast=ports.fast,
        needs=needs,
    )
    route = plan(ask, views)
    if is_clear:
        ports.clear_routes[key] = route
    return route


def _settle(run: Run, ports: Ports, lease: Lease, usage: Usage | None) -> None:
    run.cost_usd += ports.ledger.settle(lease, usage)
    if usage is not None:
        run.spent(usage)


def _may_go_on(run: Run, ports: Ports, kept: int) -> bool:
    """Return whether one more attempt may be made where `kept` of them are promised to others (see router.retry)."""
    if run.calls + kept >= ports.settings.attempts_max:
        return False
    is_first_failover = len(run.attempts) == 1 and not run.request.attempts
    return is_first_failover or not run.counts or ports.retries.withdraw(ports.clock())


def _resting(pool: Pool, ports: Ports) -> SkipReason:
    """Return why no call to this provider may start now. Changes nothing."""
    return "cooling_down" if pool.view(ports.clock()).cooling_s > 0 else "breaker_open"


def _skip(run: Run, ports: Ports, provider: ModelType, reason: SkipReason) -> None:
    ports.sink(Skip(request_id=run.request.request_id, provider=provider, reason=reason, worker=ports.worker))


def _exhausted(run: Run, ports: Ports, route: Route) -> Exception:
    """Return the error of a request that nobody answered."""
    if run.denied and not run.attempts:
        return BudgetExceeded("the daily spend limit is reached and no free provider can answer")
    now_s = ports.clock()
    waits_s = [
        max(view.available_in_s, view.cooling_s)
        for provider, pool in ports.pools.items()
        if (view := pool.view(now_s)).has_key
        and not (ports.settings.airgap_mode and provider.is_cloud)
        and (view.cooling_s > 0 or view.is_probe)
    ]
    tried = ", ".join(f"{attempt.provider} {attempt.error}" for attempt in run.attempts)
    rested = ", ".join(f"{skipped.provider} {skipped.reason}" for skipped in route.skips)
    detail = "; ".join(part for part in (tried, rested) if part) or "no provider has a key"
    wait_s = min(waits_s, default=_BREATH_S if run.starved else None)
    return AllCloudsDownError(
        detail, attempts=run.attempts, retry_after_s=wait_s, calls=run.calls - run.request.attempts
    )

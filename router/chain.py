"""
The engine: carry one request along its route until somebody has answered it whole.

`answer` owns the control flow of the router; everything it asks (plan, breaker, prices, adapters) is pure or behind a
port. JSON and streams take the same way: a JSON answer is a stream of one piece.

    plan ─▶ for each step: permit? ─▶ reservation? ─▶ call ─▶ pieces to the caller ─▶ settled, reported ─▶ done
                             └── no: skip ──┘           └── failed: next step, going on from the text so far
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

import msgspec

from router.adapters import Adapter, Piece, Prompt, converse
from router.arbitrage import AUTO, choose_model
from router.breaker import BreakerState, Permit
from router.capabilities import needs_of
from router.catalogue import Choice, resolve
from router.errors import (
    AllCloudsDownError,
    BudgetExceeded,
    DeadlineExceeded,
    ProviderError,
    RequestError,
    SecurityError,
    TransportError,
)
from router.events import Attempt, EventSink, Skip
from router.health import ProviderHealth
from router.ledger import Lease, Ledger
from router.models import Asked, Chunk, ModelType, Request, StopReason, Usage
from router.plan import Ask, Route, SkipReason, Step, plan
from router.settings import Settings
from router.transport import Timeouts, Transport
from router.usage import asked_tokens_max, usage_of

__all__ = ["Ports", "answer"]


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """All that the engine needs of the world."""

    settings: Settings
    transport: Transport
    adapters: Mapping[ModelType, Adapter]
    health: Mapping[ModelType, ProviderHealth]
    ledger: Ledger
    fast: Choice
    """What takes over from a slow provider."""
    sink: EventSink
    clock: Callable[[], float]
    """Seconds of the monotonic clock."""
    wall: Callable[[], float]
    """Seconds since the epoch."""
    worker: str


_ASKED = Asked.__struct_fields__


class _Run:
    """What has happened to one request so far."""

    def __init__(self, request: Request, ports: Ports, *, stream: bool) -> None:
        self.request = request
        self.asked = {name: getattr(request, name) for name in _ASKED}
        self.stream = stream
        self.max_tokens = request.max_tokens or ports.settings.default_max_tokens
        patience_s = min(request.timeout_s or ports.settings.total_timeout, ports.settings.total_timeout)
        self.deadline_s = ports.clock() + patience_s
        self.attempts: list[Attempt] = []
        self.writers: list[ModelType] = []
        """Who has written delivered text, in order."""
        self.text = ""
        self.is_final = False
        """Whether a part of the answer is delivered that nobody else can go on from: a tool call, a refusal."""
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.cost_usd = 0.0
        self.denied = False

    def prompt(self, model: str) -> Prompt:
        """Return what the next provider is asked: the rest of the answer when a part of it is delivered."""
        return Prompt(
            model=model,
            max_tokens=max(1, self.max_tokens - self.usage.completion_tokens),
            stream=self.stream,
            so_far=self.text,
            **self.asked,
        )

    def can_go_on(self, midstream: str) -> bool:
        """
        Return whether another provider may go on from what is delivered.

        Half a tool call is no text to be continued, and in JSON mode a provider begins a document of its own: an answer
        pieced together would be broken, and would look whole.
        """
        if self.is_final or (self.text and self.request.json_format is not None):
            return False
        return not self.text or midstream == "continue"


async def answer(request: Request, ports: Ports, *, stream: bool) -> AsyncGenerator[Chunk]:
    """
    Yield the answer to `request`; the last chunk carries stop reason, usage, cost and attempts.

    Raises SecurityError, RequestError, BudgetExceeded, DeadlineExceeded or AllCloudsDownError. After text was yielded
    a broken provider is followed by the next one, or, with MIDSTREAM=error, by its own ProviderError.
    """
    run = _Run(request, ports, stream=stream)
    route = _route(request, ports)
    for skipped in route.skips:
        _skip(run, ports, skipped.provider, skipped.reason)
    for step in route.steps:
        health = ports.health[step.provider]
        reason = _refused(health, ports)
        if reason is not None:  # somebody else's call has changed things since the plan was made
            _skip(run, ports, step.provider, reason)
            continue
        lease = await _reserve(run, ports, step)
        if lease is None:
            _skip(run, ports, step.provider, "budget")
            run.denied = True
            continue
        # Only now, for a permit means that the call starts: the store may have taken its time.
        permit = health.acquire(ports.clock())
        if permit is None:
            ports.ledger.settle(lease, None)
            _skip(run, ports, step.provider, _refused(health, ports) or "breaker_open")
            continue
        try:
            async with aclosing(_attempt(run, ports, step, permit, lease)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ProviderError:
            if not run.can_go_on(ports.settings.midstream):
                raise
        else:
            return
    raise _exhausted(run, ports, route)


async def _attempt(run: _Run, ports: Ports, step: Step, permit: Permit, lease: Lease) -> AsyncGenerator[Chunk]:
    """Yield one provider's part of the answer; whatever ends it, the permit, the lease and the report are settled."""
    health = ports.health[step.provider]
    watch = _Watch(run, ports, step, permit)
    timing = health.latency.started(ports.clock(), is_probe=permit.is_probe)
    try:
        async with (
            aclosing(_pieces(run, ports, step)) as unbounded,
            aclosing(_bounded(unbounded, run, ports)) as pieces,
        ):
            async for piece in pieces:
                watch.see(piece, ports.clock())
                health.latency.finished(timing, ports.clock())
                if piece.text or piece.tool_calls or piece.refusal:
                    if step.provider not in run.writers:
                        run.writers.append(step.provider)
                    run.text += piece.text
                    run.is_final = run.is_final or bool(piece.tool_calls or piece.refusal)
                    yield Chunk(
                        text=piece.text,
                        provider=step.provider,
                        model=watch.model,
                        continued=tuple(w for w in run.writers if w is not step.provider),
                        tool_calls=piece.tool_calls,
                        refusal=piece.refusal,
                    )
    except ProviderError as error:
        health.latency.dropped(timing)
        health.failed(permit, ports.clock(), error)
        _settle(run, ports, lease, watch.billed(error))
        watch.report("failed", error.code, getattr(error, "upstream_status", None))
        raise
    except BaseException as error:
        # The caller left, ran out of time, or the request itself is at fault: nothing is learnt of the provider.
        health.latency.dropped(timing)
        health.breaker.release(permit)
        refused = isinstance(error, (RequestError, SecurityError))  # nobody bills these
        _settle(run, ports, lease, None if refused else watch.billed(None))
        watch.report("cancelled", getattr(error, "code", "cancelled"), getattr(error, "status", None))
        raise
    health.succeeded(permit, watch.first_byte_s)
    _settle(run, ports, lease, watch.usage())
    watch.report("ok", None, 200)
    yield Chunk(
        text="",
        provider=step.provider,
        model=watch.model,
        continued=tuple(w for w in run.writers if w is not step.provider),
        stop_reason=watch.stop_reason or "stop",
        usage=run.usage,
        cost_usd=run.cost_usd,
        attempts=tuple(run.attempts),
    )


class _Watch:
    """What one attempt has shown so far: times, tokens, the provider's own usage."""

    def __init__(self, run: _Run, ports: Ports, step: Step, permit: Permit) -> None:
        self._run, self._ports, self._step, self._permit = run, ports, step, permit
        self._start_s = ports.clock()
        self._prompt = run.prompt(step.model)
        self._told: Usage | None = None
        self._text_bytes = 0
        self.first_byte_s: float | None = None
        self.stop_reason: StopReason | None = None
        self.model = step.model
        """What the caller is told: the model that the provider names, or the one that was asked for."""

    def see(self, piece: Piece, now_s: float) -> None:
        """Take one piece."""
        if self.first_byte_s is None:
            self.first_byte_s = now_s - self._start_s
        self._text_bytes += piece.size
        self.model = piece.model or self.model
        self.stop_reason = piece.stop_reason or self.stop_reason
        if piece.usage is not None:
            told = self._told or Usage(prompt_tokens=0, completion_tokens=0)
            self._told = Usage(
                prompt_tokens=max(told.prompt_tokens, piece.usage.prompt_tokens),
                completion_tokens=max(told.completion_tokens, piece.usage.completion_tokens),
                cached_tokens=max(told.cached_tokens, piece.usage.cached_tokens),
            )

    def usage(self) -> Usage:
        """Return what the provider told where that can be true, else the estimate."""
        return usage_of(self._told, self._prompt, self._text_bytes, is_whole=self.stop_reason is not None)

    def billed(self, error: ProviderError | None) -> Usage | None:
        """Return what a broken-off call is taken to have used; None where the provider cannot have billed it."""
        if error is None:
            return self.usage()
        unbilled = (isinstance(error, TransportError) and not error.sent) or error.upstream_status is not None
        return None if unbilled and not self._text_bytes else self.usage()

    def report(self, outcome: str, error: str | None, status: int | None) -> None:
        """Tell the sink of the attempt, and keep it with the request."""
        run, step = self._run, self._step
        first = self.first_byte_s
        attempt = Attempt(
            request_id=run.request.request_id,
            provider=step.provider,
            model=step.model,
            n=len(run.attempts) + 1,
            stream=run.stream,
            start_ns=round(self._start_s * 1e9),
            end_ns=round(self._ports.clock() * 1e9),
            first_byte_ns=None if first is None else round((self._start_s + first) * 1e9),
            outcome=outcome,  # type: ignore[arg-type]
            reason=self._reason(),
            error=error,
            status=status,
            worker=self._ports.worker,
            generation=self._permit.generation,
        )
        run.attempts.append(attempt)
        self._ports.sink(attempt)

    def _reason(self) -> str:
        if self._permit.is_probe:
            return "probe"
        if self._step.reason in ("measure", "slow"):
            return self._step.reason
        others = [writer for writer in self._run.writers if writer is not self._step.provider]
        if others:
            return "continue"
        return "failover" if self._run.attempts else self._step.reason


def _pieces(run: _Run, ports: Ports, step: Step) -> AsyncGenerator[Piece]:
    settings = ports.settings
    local = step.provider is ModelType.LOCAL
    timeouts = Timeouts(
        connect_s=settings.connect_timeout,
        first_byte_s=settings.ollama_timeout if local else settings.first_byte_timeout,
        idle_s=settings.idle_timeout,
    )
    return converse(
        ports.adapters[step.provider],
        ports.transport,
        run.prompt(step.model),
        timeouts,
        answer_bytes_max=settings.answer_bytes_max,
        wall_s=ports.wall,
    )


async def _bounded(pieces: AsyncGenerator[Piece], run: _Run, ports: Ports) -> AsyncGenerator[Piece]:
    """Yield `pieces` until the request's deadline. The clock runs only while we wait, never while the caller reads."""
    while True:
        left_s = run.deadline_s - ports.clock()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise DeadlineExceeded("the request's time was over before the answer was whole") from None
        yield piece


def _route(request: Request, ports: Ports) -> Route:
    settings = ports.settings
    now_s = ports.clock()
    arbitrated = request.model == AUTO
    name = choose_model(request.messages[-1].text) if arbitrated and request.messages else request.model
    named = request.names_model and not arbitrated
    if settings.airgap_mode and not named:
        name = ModelType.LOCAL
    ask = Ask(
        choice=resolve(name, settings.ollama_model),
        named=named,
        airgap=settings.airgap_mode,
        local_model=settings.ollama_model,
        fast=ports.fast,
        needs=needs_of(request),
    )
    return plan(ask, {provider: health.view(now_s) for provider, health in ports.health.items()})


async def _reserve(run: _Run, ports: Ports, step: Step) -> Lease | None:
    prompt = run.prompt(step.model)
    return await ports.ledger.reserve(
        step.provider,
        step.model,
        request_id=run.request.request_id,
        prompt_tokens=asked_tokens_max(prompt),
        max_tokens=prompt.max_tokens,
    )


def _settle(run: _Run, ports: Ports, lease: Lease, usage: Usage | None) -> None:
    run.cost_usd += ports.ledger.settle(lease, usage)
    if usage is not None:
        run.usage = Usage(
            prompt_tokens=run.usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=run.usage.completion_tokens + usage.completion_tokens,
            estimated=run.usage.estimated or usage.estimated,
            cached_tokens=run.usage.cached_tokens + usage.cached_tokens,
        )


def _refused(health: ProviderHealth, ports: Ports) -> SkipReason | None:
    """Return why a call to this provider may not start now, None when it may. Changes nothing."""
    view = health.view(ports.clock())
    if view.cooling_s > 0:
        return "cooling_down"
    return None if view.breaker_allows else "breaker_open"


def _skip(run: _Run, ports: Ports, provider: ModelType, reason: SkipReason) -> None:
    ports.sink(
        Skip(request_id=run.request.request_id, provider=provider, reason=reason, worker=ports.worker)  # type: ignore[arg-type]
    )


def _exhausted(run: _Run, ports: Ports, route: Route) -> Exception:
    """Return the error of a request that nobody answered."""
    if run.denied and not run.attempts:
        return BudgetExceeded("the daily spend limit is reached and no free provider can answer")
    now_s = ports.clock()
    waits_s = [
        max(view.available_in_s, view.cooling_s)
        for provider, health in ports.health.items()
        if (view := health.view(now_s)).has_key
        and not (ports.settings.airgap_mode and provider.is_cloud)
        and (view.cooling_s > 0 or health.breaker.state is not BreakerState.CLOSED)
    ]
    tried = ", ".join(f"{attempt.provider} {attempt.error}" for attempt in run.attempts)
    rested = ", ".join(f"{skipped.provider} {skipped.reason}" for skipped in route.skips)
    detail = "; ".join(part for part in (tried, rested) if part) or "no provider has a key"
    return AllCloudsDownError(detail, attempts=run.attempts, retry_after_s=min(waits_s, default=None))

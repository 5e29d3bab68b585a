"""Routers that leave undone what must happen, and the invariants that each of them breaks."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from router.errors import AllCloudsDownError
from router.hybrid import HybridRouter
from router.models import Reply, Request
from router.settings import Settings

SETTINGS = "TOTAL_TIMEOUT: 5s, FIRST_BYTE_TIMEOUT: 1s, OLLAMA_TIMEOUT: 1s, CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s"
HEAD = f"version: 1\ntitle: t\narenas: [simulation]\nsystem: {{settings: {{{SETTINGS}}}}}\n"
DARK = HEAD + "load: {executor: arrivals, arrivals: [{at: 0s, count: 4}, {at: 1s}, {at: 30s}, {at: 40s}]}\nfaults:\n"
PRIMARY = DARK + "  - {id: f1, at: 0s, duration: 10s, target: gemini, respond: {hang: true}}\n"
ALL = DARK + "".join(
    f"  - {{id: f{n}, at: 0s, duration: 10s, target: {name}, respond: {{status: 503}}}}\n"
    for n, name in enumerate(("gemini", "claude", "openai", "local"))
)


class Lazy(NamedTuple):
    """A router, the scenario that shows it, and what it breaks."""

    make_router: Any
    scenario: str
    red: set[str]


def with_settings(**changed: Any) -> Any:
    """Return a factory of routers that do not go by the settings that they are given."""

    def make(settings: Settings, **ports: Any) -> HybridRouter:
        return HybridRouter(msgspec.structs.replace(settings, **changed), **ports)

    return make


class GivesUp(HybridRouter):
    """Refuses when the first provider fails."""

    async def complete(self, request: Request) -> Reply:
        """Answer, or not."""
        reply = await super().complete(request)
        if len(reply.attempts) > 1:
            raise AllCloudsDownError("the first provider failed", attempts=list(reply.attempts))
        return reply


class Lingers(HybridRouter):
    """Lets a client wait for what it knows already."""

    async def complete(self, request: Request) -> Reply:
        """Answer, or refuse after a while."""
        try:
            return await super().complete(request)
        except AllCloudsDownError:
            await asyncio.sleep(2)
            raise


TIME, FIRST = "every request ends within the total timeout", "no attempt outlasts its first-byte timeout"
WELL, AT_ONCE = "a provider that is well answers", "a request is refused at once where all providers rest"
AGAIN, FOR_EVER = "all is well again after the last fault", "no provider rests for ever after the last fault"

LAZY: dict[str, Lazy] = {
    "no timeouts": Lazy(with_settings(first_byte_timeout=60.0, total_timeout=20.0), PRIMARY, {TIME, FIRST}),
    "no failover": Lazy(GivesUp, PRIMARY, {WELL}),
    "a slow refusal": Lazy(Lingers, ALL, {AT_ONCE}),
    "a breaker that stays open": Lazy(with_settings(circuit_breaker_recovery_timeout=600.0), PRIMARY, {FOR_EVER}),
    "all breakers stay open": Lazy(with_settings(circuit_breaker_recovery_timeout=600.0), ALL, {FOR_EVER, AGAIN}),
}
LIVENESS = set[str]().union(*(lazy.red for lazy in LAZY.values()))

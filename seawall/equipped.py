"""
A router with all that its settings name and that lies outside of its process: budget store, telemetry, shared breakers.

    async with EquippedRouter() as router:
        text = await router.route_request("What does a seawall do?")

`router` itself knows these by their interfaces only, so that it stays small and needs no package but two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from router.budget import BudgetStore
from router.errors import ConfigurationError
from router.hybrid import HybridRouter
from router.settings import Settings
from router.transport import Transport
from seawall import stores, telemetry
from seawall.config_file import load_settings
from seawall.transports import transport_named

if TYPE_CHECKING:
    from seawall.shared_breakers import SharedBreakers

__all__ = ["EquippedRouter"]


class EquippedRouter(HybridRouter):
    """
    A HybridRouter that acts on SEAWALL_CONFIG, BUDGET_STORE, BREAKER_STORE and TELEMETRY.

    Takes what HybridRouter takes; a store that is passed wins, and stays its owner's. What is made here is closed with
    the router. To be entered (`async with`): that is when shared breakers begin.
    Raises ConfigurationError, also where a package is missing.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        transport: Transport | None = None,
        budget_store: BudgetStore | None = None,
        **options: Any,
    ) -> None:
        settings = settings or load_settings()
        self._store = None if budget_store is not None else stores.from_settings(settings)
        self._telemetry = telemetry.from_settings(settings, worker=str(options.get("worker", "router")))
        super().__init__(
            settings,
            transport=transport or transport_named("auto"),
            budget_store=budget_store or self._store,
            telemetry=self._telemetry,
            **options,
        )
        self._sharing = None if settings.breaker_store == "memory" else self._shared_breakers()

    async def __aenter__(self) -> Self:
        if self._sharing is not None:
            await self._sharing.ready()
        return self

    async def aclose(self) -> None:
        """Close the router, then what was made for it."""
        await super().aclose()
        if self._sharing is not None:
            await self._sharing.aclose()
        if self._store is not None:
            await self._store.aclose()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)

    def _shared_breakers(self) -> SharedBreakers:
        try:
            from seawall.shared_breakers import SharedBreakers  # noqa: PLC0415 - needs a package of an extra
        except ImportError:
            raise ConfigurationError(
                "BREAKER_STORE=redis needs the package redis: pip install 'seawall[redis]'"
            ) from None
        return SharedBreakers(
            self.settings.redis_url.reveal(),
            self.healths(),
            recovery_s=self.settings.circuit_breaker_recovery_timeout,
            timeout_s=self.settings.budget_store_timeout,
            clock=self._ports.clock,
            worker=self._ports.worker,
        )

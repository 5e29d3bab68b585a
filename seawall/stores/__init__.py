"""
The stores of the budget that outlive a process: SQLite for the workers of one host, Redis for any number of them.

The gateway acts on BUDGET_STORE; who uses the router as a library passes one: `HybridRouter(settings,
budget_store=from_settings(settings))`, and closes it in the end.
"""

from __future__ import annotations

from router.budget import BudgetStore, MemoryBudgetStore
from router.errors import ConfigurationError
from router.settings import Settings

__all__ = ["from_settings"]


def from_settings(settings: Settings) -> BudgetStore:
    """Return the store that BUDGET_STORE asks for. Raises ConfigurationError where it cannot be had."""
    if settings.budget_store == "memory":
        return MemoryBudgetStore()
    if settings.budget_store == "sqlite":
        from seawall.stores.sqlite_store import SqliteBudgetStore  # noqa: PLC0415 - most have no use for it

        return SqliteBudgetStore(settings.budget_sqlite_path, timeout_s=settings.budget_store_timeout)
    try:
        from seawall.stores.redis_store import RedisBudgetStore  # noqa: PLC0415 - needs a package of an extra
    except ImportError:
        raise ConfigurationError("BUDGET_STORE=redis needs the package redis: pip install 'seawall[redis]'") from None
    return RedisBudgetStore(settings.redis_url.reveal(), timeout_s=settings.budget_store_timeout)

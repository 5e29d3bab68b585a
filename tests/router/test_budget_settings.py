"""Settings of the shared budget: passwords stay hidden, and under the air gap Redis is here or listed."""

from __future__ import annotations

import pytest

from router.budget import MemoryBudgetStore
from router.errors import ConfigurationError, SecurityError
from router.settings import Settings
from router.testing import ScriptedTransport, scripted_router, test_settings
from router.transport import Call, Timeouts
from seawall.equipped import EquippedRouter
from seawall.stores.redis_store import RedisBudgetStore

WORD = "hidden-word"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{WORD}@host:6379/0", "redis://:***@host:6379/0"),
        (f"rediss://me:{WORD}@host", "rediss://me:***@host"),
        (f"redis://me:{WORD}@{WORD}@host", "redis://me:***@host"),
        (f"unix:///run/redis.sock?password={WORD}", "unix:///run/redis.sock?***"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_redis_password_is_never_shown(url: str, shown: str) -> None:
    """The address is shown, for that is what one looks for; what it opens with is not, there or in a repr."""
    settings = Settings.from_mapping({"redis_url": url})
    assert settings.shown()["REDIS_URL"] == shown
    assert WORD not in f"{settings!r}{settings}"
    assert settings.redis_url.reveal() == url


@pytest.mark.parametrize(
    ("url", "listed", "allowed"),
    [
        ("redis://localhost:6379", "", True),
        ("redis://127.8.9.1:1", "", True),
        ("redis://[::1]:6379", "", True),
        ("unix:///run/redis.sock", "", True),
        ("redis://10.0.0.5:6379", "", False),
        ("redis://localhost.evil.example", "", False),
        ("redis://localhost@evil.example", "", False),
        ("redis://127.1:6379", "", False),
        ("redis://redis.lan:6379", "redis.lan", True),
        ("redis://Redis.LAN.:6379", "other, redis.lan:6379", True),
        ("redis://redis.lan", "redis.lan:6379", True),
        ("redis://redis.lan:6380", "redis.lan:6379", False),
        ("redis://redis.lan:6379", "redis://redis.lan", True),
        ("rediss://redis.lan:6379", "redis://redis.lan", False),
        ("redis://redis.lan:6379", "http://redis.lan:6379", False),
        ("redis://[fd00::5]:6379", "[fd00::5]:6379", True),
        ("redis://[fd00::5]:6379", "fd00::5", True),
        ("redis://sub.redis.lan:6379", "redis.lan", False),
    ],
)
def test_air_gap_has_redis_here_or_listed(url: str, listed: str, allowed: bool) -> None:
    """A Redis elsewhere is refused before anything connects; without the air gap, or without Redis, it is no matter."""
    values = {"redis_url": url, "airgap_allow": listed, "airgap_mode": True, "budget_store": "redis"}
    for off in ({"airgap_mode": False}, {"budget_store": "memory"}):
        Settings.from_mapping(values | off)
    if allowed:
        Settings.from_mapping(values)
        return
    with pytest.raises(ConfigurationError, match=r"REDIS_URL.*AIRGAP_ALLOW"):
        Settings.from_mapping(values)


def test_air_gap_lets_http_through_to_listed_origins_only() -> None:
    """A listed host is for Redis; HTTP goes to OLLAMA_HOST and to what is listed as an origin, port and all."""
    listed = "redis.lan, http://gpu.lan:8000"
    router = scripted_router(ScriptedTransport({}), settings=test_settings(airgap_mode=True, airgap_allow=listed))
    timeouts = Timeouts(connect_s=1, first_byte_s=1, idle_s=1)

    def send(url: str) -> None:
        router._ports.transport.send(Call(method="GET", url=url, headers={}, body=None, timeouts=timeouts))

    send("http://127.0.0.4:1/api/tags")
    send("http://gpu.lan:8000/api/tags")
    for url in ("http://redis.lan/", "http://redis.lan:6379/", "https://gpu.lan:8000/", "http://gpu.lan:8001/"):
        with pytest.raises(SecurityError):
            send(url)


def test_equipped_router_makes_the_store_that_the_settings_name() -> None:
    """Memory by default; Redis with its timeout when it is named."""
    transport = ScriptedTransport({})
    assert isinstance(EquippedRouter(test_settings(), transport=transport)._store, MemoryBudgetStore)
    settings = test_settings(budget_store="redis", budget_store_timeout="100ms")
    store = EquippedRouter(settings, transport=transport)._store
    assert isinstance(store, RedisBudgetStore)
    assert store._timeout_s == 0.1


@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_router_never_keeps_its_own_books_where_others_are_asked_for(store: str) -> None:
    """A router whose settings name a store outside of it, and that was passed none, refuses to begin."""
    with pytest.raises(ConfigurationError, match="EquippedRouter"):
        scripted_router(ScriptedTransport({}), settings=test_settings(budget_store=store))

"""The engine's two hard limits: the budget and the air gap."""

from __future__ import annotations

import asyncio

import pytest

from router import AllCloudsDownError, BudgetExceeded, Message, ModelType, Request, SecurityError
from router.errors import ConnectFailed
from router.events import Skip, Spend
from router.models import DEFAULT_PREFERRED
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, scripted_router, test_settings

REFUSED = Answering(text=None, error=ConnectFailed("refused"))
CLOUDS = ("gemini", "claude", "openai")


def _ask(model: str = DEFAULT_PREFERRED) -> Request:
    return Request(messages=(Message(role="user", content="hi"),), model=model)


@pytest.mark.parametrize("clients", [8, 32])
async def test_cap_worth_twenty_admits_twenty(clients: int) -> None:
    """With all requests at once, exactly as many reservations are taken as the limit pays for."""
    events = CapturedEvents()
    script = ScriptedTransport({name: [Answering(delay_s=0.01)] for name in CLOUDS} | {"local": [REFUSED]})
    # A call reserves 10 prompt bytes at 0.30 and 1024 answer tokens at 2.50 USD a million: 2,563 micro-dollars.
    settings = test_settings(daily_spend_limit_usd=20 * 2563 / 1e6)
    router = scripted_router(script, settings=settings, sink=events)
    results = await asyncio.gather(*(router.complete(_ask("gemini")) for _ in range(clients)), return_exceptions=True)
    assert len([result for result in results if not isinstance(result, BaseException)]) == min(clients, 20)
    assert max(spend.total_micro_usd for spend in events.of(Spend)) <= 20 * 2563


async def test_over_the_limit_local_serves() -> None:
    """With no budget left the paid providers are skipped and the local one answers, for nothing."""
    events = CapturedEvents()
    router = scripted_router(ScriptedTransport({}), settings=test_settings(daily_spend_limit_usd=0), sink=events)
    reply = await router.complete(_ask())
    assert (reply.provider, reply.cost_usd) == (ModelType.LOCAL, 0.0)
    assert [skip.reason for skip in events.of(Skip)] == ["budget"] * 3


async def test_over_the_limit_without_local_is_budget_exceeded() -> None:
    """When no free provider can be asked, the error names the budget."""
    clock = FakeClock()
    router = scripted_router(
        ScriptedTransport({"local": [REFUSED]}), settings=test_settings(daily_spend_limit_usd=0), clock=clock
    )
    for _ in range(3):
        with pytest.raises(AllCloudsDownError):
            await router.complete(_ask())
    with pytest.raises(BudgetExceeded):
        await router.complete(_ask())


@pytest.mark.parametrize("named", ["gemini", "claude", "openai", "gpt-4o", "claude-haiku"])
async def test_air_gap_forbids_a_named_cloud(named: str) -> None:
    """Who names a cloud under the air gap gets SecurityError, and nothing is sent."""
    script = ScriptedTransport({})
    with pytest.raises(SecurityError):
        await scripted_router(script, settings=test_settings(airgap_mode=True)).complete(_ask(named))
    assert not script.calls


async def test_air_gap_serves_locally_by_default_and_never_leaves() -> None:
    """No preference means local; when local is down nobody else is asked."""
    script = ScriptedTransport({"local": [Answering(text="home"), REFUSED]})
    router = scripted_router(script, settings=test_settings(airgap_mode=True))
    assert await router.route_request("hi") == "home"
    with pytest.raises(SecurityError):
        await router.route_request("hi", preferred_model="gemini")
    with pytest.raises(AllCloudsDownError):
        await router.route_request("hi")
    assert {name for name, _ in script.calls} == {"local"}

"""What the chain reports of a request: every attempt and every provider that was passed over, with all its fields."""

from __future__ import annotations

import asyncio

import pytest

from router import HybridRouter, Message, ModelType, Request
from router.budget import MemoryBudgetStore, Reservation, Standing
from router.errors import ConnectFailed
from router.events import Skip
from router.models import DEFAULT_PREFERRED
from router.testing import Answering, CapturedEvents, FakeClock, ScriptedTransport, test_settings

REFUSED = Answering(text=None, error=ConnectFailed("refused"))


def _ask(request_id: str, model: str = DEFAULT_PREFERRED) -> Request:
    return Request(messages=(Message(role="user", content="hi"),), model=model, request_id=request_id)


class SlowStore(MemoryBudgetStore):
    """A store that takes its time over the reservations after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def reserve(self, reservation: Reservation, limit_micro_usd: int, wall_s: float) -> Standing:
        """See BudgetStore."""
        self.asked += 1
        if self.asked == 2:
            await self.may_answer.wait()
        return await super().reserve(reservation, limit_micro_usd, wall_s)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Answering(status=429, headers=(("retry-after", "1"),)), "cooling_down"),
        (Answering(status=500), "breaker_open"),
    ],
)
async def test_a_provider_that_falls_ill_while_the_budget_is_asked_is_passed_over(
    fault: Answering, reason: str
) -> None:
    """The call is not made, and the skip names the request, the worker and why the provider rests by then."""
    events, store = CapturedEvents(), SlowStore()
    script = ScriptedTransport({"gemini": [fault, Answering(text="too early")]})
    router = HybridRouter(
        test_settings(circuit_breaker_failure_threshold=1),
        transport=script,
        clock=FakeClock(),
        wall=FakeClock(1_700_000_000.0),
        draw=lambda: 0.0,
        sink=events,
        budget_store=store,
        worker="w7",
    )
    first = asyncio.create_task(router.complete(_ask("first")))
    second = asyncio.create_task(router.complete(_ask("second")))
    assert (await first).provider is ModelType.CLAUDE
    store.may_answer.set()
    assert (await second).provider is ModelType.CLAUDE
    await router.aclose()
    assert len(script.calls_to("gemini")) == 1
    (skip,) = events.of(Skip)
    assert (skip.request_id, skip.provider, skip.reason, skip.worker) == ("second", "gemini", reason, "w7")

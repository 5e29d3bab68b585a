"""What is to be sent within one turn of the event loop leaves in a burst."""

from __future__ import annotations

import asyncio
from typing import Any

from seawall.bursts import Burst


async def test_senders_are_called_in_order_at_the_end_of_the_turn() -> None:
    """Nothing is sent at once, all of it one turn later, and the next turn begins anew."""
    burst, sent = Burst(), list[int]()
    for _ in range(2):
        for n in range(3):
            burst.add(lambda n=n: sent.append(n))
        assert not sent
        await asyncio.sleep(0)
        assert sent == [0, 1, 2]
        sent.clear()


async def test_enough_of_them_do_not_wait() -> None:
    """Of many, at most a few are held back at any time."""
    burst, sent = Burst(), list[int]()
    for n in range(100):
        burst.add(lambda n=n: sent.append(n))
        assert n - len(sent) < 8
    await asyncio.sleep(0)
    assert sent == list(range(100))


async def test_one_that_fails_does_not_keep_the_others() -> None:
    """Its error goes to the loop's handler."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    burst, sent = Burst(), list[int]()
    burst.add(lambda: sent.append(1))
    burst.add(lambda: sent.append(1 // 0))
    burst.add(lambda: sent.append(2))
    await asyncio.sleep(0)
    assert sent == [1, 2]
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]

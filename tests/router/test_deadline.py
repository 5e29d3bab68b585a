"""The end of a request's time: one timer for all of its waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from router.deadline import Deadline
from router.errors import DeadlineExceeded


async def test_a_wait_is_broken_off_when_the_time_is_over() -> None:
    """The second wait of a request ends at the request's end, and the cancellation that ended it is taken back."""
    deadline = Deadline(time.monotonic() + 0.05, time.monotonic)
    with deadline:
        await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded), deadline:
        await asyncio.sleep(30)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    deadline.stop()


async def test_the_time_of_the_caller_is_not_interrupted() -> None:
    """Outside its blocks nothing is cancelled; what is there without waiting is still taken, the next wait refused."""
    deadline = Deadline(time.monotonic() + 0.01, time.monotonic)
    await asyncio.sleep(0.05)
    with deadline:
        pass
    with pytest.raises(DeadlineExceeded), deadline:
        await asyncio.sleep(30)
    deadline.stop()


async def test_the_clock_of_the_router_counts() -> None:
    """A virtual clock that has passed the end refuses the next wait, though the loop's own time stands still."""
    now_s = 0.0
    deadline = Deadline(1000.0, lambda: now_s)
    now_s = 1000.0
    with pytest.raises(DeadlineExceeded), deadline:
        await asyncio.sleep(30)
    deadline.stop()


async def test_a_cancellation_by_others_stays_one() -> None:
    """A caller that leaves is not told that its time was over."""
    seen: list[str] = []

    async def work() -> None:
        deadline = Deadline(time.monotonic() + 30, time.monotonic)
        try:
            with deadline:
                await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            deadline.stop()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]

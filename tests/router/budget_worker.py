"""A worker that spends from a shared budget as fast as it can, and writes down each step, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid

import msgspec

from router.events import Event
from router.ledger import Ledger
from router.models import ModelType, Usage
from router.pricing import cost_micro_usd, price_of
from router.redis_store import RedisBudgetStore

AT_ONCE = 32
PRICE = price_of(ModelType.OPENAI, "gpt-4o")


async def main(url: str, path: str, limit_usd: float) -> None:
    """Spend, with 32 calls at once, and log to `path`."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(event: Event | dict[str, object]) -> None:
        os.write(log, msgspec.json.encode(event) + b"\n")

    store = RedisBudgetStore(url, timeout_s=0.5)
    ledger = Ledger(
        store,
        limit_usd=limit_usd,
        lease_s=600.0,
        wall=time.time,
        sink=write,
        new_id=lambda: uuid.uuid4().hex,
        worker=f"w{os.getpid()}",
    )

    async def call() -> None:
        while True:
            lease = await ledger.reserve(
                ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=1000, max_tokens=random.randint(100, 1000)
            )
            if lease is None or lease.reservation is None:
                await asyncio.sleep(0.1)
                continue
            await asyncio.sleep(random.random() * 0.1)
            usage = Usage(prompt_tokens=1000, completion_tokens=random.randint(0, 100))
            # What follows may be done and never told of, when this process is killed.
            write({"kind": "meant", "id": lease.reservation.id, "micro_usd": cost_micro_usd(PRICE, usage)})
            ledger.settle(lease, usage)

    calls = [asyncio.create_task(call()) for _ in range(AT_ONCE)]
    await stop.wait()
    for one in calls:
        one.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    await ledger.drain()
    await store.aclose()
    for result in results:
        if isinstance(result, Exception):
            raise result


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))

"""
Workers that spend from a shared budget as fast as they can, and write down each step, until SIGTERM.

`budget_worker.py STORE LIMIT_USD LEASE_S`: STORE is the URL of a Redis, or the path of an SQLite file. Each line of the
input is the path of a log: a worker is forked that writes there, and its process id is printed. At the end of the input
it waits for them all; the exit code is 1 when one has failed of itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import traceback
from contextvars import ContextVar

import msgspec

from router.budget import BudgetStore
from router.events import Event
from router.ledger import Ledger
from router.models import ModelType, Usage
from router.pricing import cost_micro_usd, price_of, reservation_micro_usd
from seawall.stores.redis_store import RedisBudgetStore
from seawall.stores.sqlite_store import SqliteBudgetStore

AT_ONCE = 64
PROMPT_TOKENS = 1000
PRICE = price_of(ModelType.OPENAI, "gpt-4o")
claimed: ContextVar[int] = ContextVar("claimed")


def new_id() -> str:
    """Return an id that tells the amount: of a reservation that nobody lived to report, it is all there is."""
    return f"{os.urandom(8).hex()}-{claimed.get()}"


async def main(where: str, path: str, limit_usd: float, lease_s: float) -> None:
    """Spend, with 64 calls at once, and log to `path`."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(event: Event | dict[str, object]) -> None:
        os.write(log, msgspec.json.encode(event) + b"\n")

    is_redis = where.startswith("redis://")
    store: BudgetStore = RedisBudgetStore(where, timeout_s=0.5) if is_redis else SqliteBudgetStore(where, timeout_s=0.5)
    ledger = Ledger(
        store,
        limit_usd=limit_usd,
        lease_s=lease_s,
        wall=time.time,
        sink=write,
        new_id=new_id,
        worker=f"w{os.getpid()}",
    )

    async def call() -> None:
        while True:
            tokens_max = random.randint(100, 1000)
            claimed.set(reservation_micro_usd(PRICE, PROMPT_TOKENS, tokens_max))
            lease = await ledger.reserve(
                ModelType.OPENAI, "gpt-4o", request_id="q", prompt_tokens=PROMPT_TOKENS, max_tokens=tokens_max
            )
            if lease is None or lease.reservation is None:
                write({"kind": "refused"})
                await asyncio.sleep(0.1 + random.random() * 0.1)
                continue
            await asyncio.sleep(random.random() * 0.2)
            usage = Usage(prompt_tokens=random.randint(1, 20), completion_tokens=random.randint(0, 10))
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


def begin(where: str, path: str, limit_usd: float, lease_s: float) -> int:
    """Fork a worker; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        random.seed()
        asyncio.run(main(where, path, limit_usd, lease_s))
        code = 0
    except BaseException:  # noqa: BLE001 - nobody else would tell
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{begin(sys.argv[1], line.strip(), float(sys.argv[2]), float(sys.argv[3]))}\n")
        sys.stdout.flush()
    failed = False
    while True:
        try:
            _, status = os.wait()
        except ChildProcessError:
            sys.exit(failed)
        failed = failed or os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL)

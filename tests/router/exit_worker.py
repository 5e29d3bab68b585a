"""A process that ends in the middle of eight streams: `python exit_worker.py URL (close | leave) TRANSPORT`."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from router.errors import TransportError
from router.transport import Call, Timeouts, Transport
from seawall.transports import transport_named

STREAMS = 8


async def read(transport: Transport, url: str, flowing: asyncio.Semaphore) -> None:
    """Read a stream without an end."""
    timeouts = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
    call = Call(method="POST", url=url, headers=(), body=b"x" * 100, timeouts=timeouts)
    async with transport.send(call) as answer:
        await anext(answer.body)
        flowing.release()
        async for _ in answer.body:
            pass


async def main(url: str, how: str, name: str) -> None:
    """Let the streams flow, then close the transport under them, or leave everything as it is."""
    transport, flowing = transport_named(name), asyncio.Semaphore(0)
    tasks = [asyncio.create_task(read(transport, url, flowing)) for _ in range(STREAMS)]
    for _ in tasks:
        await flowing.acquire()
    if how == "close":
        await transport.aclose()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, TransportError) for end in ends), ends


if __name__ == "__main__":
    # On the loop of the gateway.
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
    sys.stdout.write("done\n")

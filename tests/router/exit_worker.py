"""A process that ends in the middle of eight streams: `python exit_worker.py URL (close | leave)`."""

from __future__ import annotations

import asyncio
import sys

from router.errors import TransportError
from router.pyreqwest_transport import PyreqwestTransport
from router.transport import Call, Timeouts

STREAMS = 8


async def read(transport: PyreqwestTransport, url: str, flowing: asyncio.Semaphore) -> None:
    """Read a stream without an end."""
    timeouts = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
    call = Call(method="POST", url=url, headers=(), body=b"x" * 100, timeouts=timeouts)
    async with transport.send(call) as answer:
        await anext(answer.body)
        flowing.release()
        async for _ in answer.body:
            pass


async def main(url: str, how: str) -> None:
    """Let the streams flow, then close the transport under them, or leave everything as it is."""
    transport, flowing = PyreqwestTransport(), asyncio.Semaphore(0)
    tasks = [asyncio.create_task(read(transport, url, flowing)) for _ in range(STREAMS)]
    for _ in tasks:
        await flowing.acquire()
    if how == "close":
        await transport.aclose()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, TransportError) for end in ends), ends


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
    sys.stdout.write("done\n")

"""Reading the pipes of child processes in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable

__all__ = ["close", "drain", "reading"]

_CHUNK = 64 * 1024
_LINE_LIMIT = 64 * 1024


@contextlib.asynccontextmanager
async def reading(descriptor: int) -> AsyncGenerator[asyncio.StreamReader]:
    """Give a reader of the descriptor, which is closed at the end."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        yield reader
    finally:
        transport.close()


async def drain(output: int, log: int, take: Callable[[bytes], bool]) -> None:
    """
    Copy descriptor `output` into descriptor `log` until its end, but for the lines that `take` says True to.

    Lines longer than 64 KiB are copied in pieces, unasked. A log that cannot be written (a full disk) is passed over:
    a child must never block because nobody reads. With `output` negative there is nothing to do.
    """
    if output < 0:
        return
    pending: bytes = b""
    async with reading(output) as stream:
        while chunk := await stream.read(_CHUNK):
            lines = (pending + chunk).split(b"\n")
            pending = lines.pop()
            _append(log, b"".join(line + b"\n" for line in lines if not take(line)))
            if len(pending) > _LINE_LIMIT:
                _append(log, pending)
                pending = b""
    _append(log, pending)


def close(*descriptors: int) -> None:
    """Close those that are not negative."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _append(log: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(log, data)

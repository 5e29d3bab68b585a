"""
What no implementation of `router.transport.Transport` leaves behind: descriptors, tasks, threads, or a broken exit.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from router.errors import TransportError
from router.transport import Call, Timeouts, Transport

Wire = Any  # one connection as the peer holds it: see conftest.py
CallTo = Callable[..., Call]
MakePeer = Callable[..., AbstractAsyncContextManager[Any]]
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
FAULTS = 10_000
AT_ONCE = 16
EXITS = 50
WORKER = Path(__file__).with_name("exit_worker.py")
PATIENT = Timeouts(connect_s=20, first_byte_s=20, idle_s=20)
HASTY = Timeouts(connect_s=20, first_byte_s=0.02, idle_s=0.02)


async def fail(wire: Wire) -> None:
    """Fail in the way that the path asks for."""
    head, _ = await wire.request()
    kind = head.split(b" ")[1].removeprefix(b"/")
    if kind.startswith(b"body"):
        await wire.send(CHUNKED + b"3\r\none\r\n")
    if kind.endswith(b"wait"):
        await wire.gone()
    wire.reset() if kind.endswith(b"reset") else wire.close()


async def suffer(transport: Transport, url: str, n: int, call_to: CallTo) -> str:
    """Meet the n-th fault; return how it ended."""
    path, timeouts, leave = (
        ("head-close", PATIENT, ""),
        ("head-reset", PATIENT, ""),
        ("head-wait", HASTY, ""),
        ("head-wait", PATIENT, "cancel"),
        ("body-close", PATIENT, ""),
        ("body-reset", PATIENT, ""),
        ("body-wait", HASTY, ""),
        ("body-wait", PATIENT, "cancel"),
        ("body-wait", PATIENT, "leave"),
        ("refused", PATIENT, ""),
    )[n % 10]

    async def call() -> None:
        target = "http://127.0.0.1:1" if path == "refused" else f"{url}/{path}"
        async with transport.send(call_to(target, timeouts=timeouts)) as answer:
            async for _ in answer.body:
                if leave == "leave":
                    return

    try:
        if leave == "cancel":
            task = asyncio.create_task(call())
            await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return "cancelled"
        await call()
    except TransportError as error:
        return error.code
    return "left"


@pytest.mark.real
async def test_ten_thousand_faults_leave_nothing_behind(
    make_transport: Callable[[], Transport], call_to: CallTo, peer: MakePeer
) -> None:
    """10,000 calls that failed in every way leave as many descriptors, tasks and threads as 100 of them."""
    ends: Counter[str] = Counter()

    async def some(first: int, last: int) -> tuple[int, int, int]:
        transport = make_transport()
        numbers = iter(range(first, last))

        async def worker() -> None:
            for n in numbers:
                ends[await suffer(transport, server.url, n, call_to)] += 1

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await transport.aclose()  # what waited to be used again may go as well
        await server.settled()
        await asyncio.sleep(0.2)
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), len(os.listdir("/proc/self/task"))  # noqa: PTH208

    async with peer(fail) as server:
        before = await some(0, 100)
        after = await some(100, FAULTS)
    assert ends.total() == FAULTS
    assert set(ends) >= {"reset", "truncated_body", "first_byte_timeout", "idle_timeout", "connect_failed", "left"}
    assert all(there <= was + 4 for there, was in zip(after, before, strict=True)), (before, after)


@pytest.mark.real
@pytest.mark.parametrize(("how", "name"), [("close", "pyreqwest"), ("leave", "pyreqwest"), ("leave", "httptools")])
async def test_an_interpreter_ends_cleanly_under_streams(peer: MakePeer, how: str, name: str) -> None:
    """Fifty processes that end amid eight streams, after `aclose` or without it: none aborts, hangs or warns."""

    async def pour(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED)
        while True:
            await wire.chunk(b"drop")
            await asyncio.sleep(0.001)

    async def end(url: str) -> tuple[int | None, bytes, bytes]:
        async with room:
            command = [sys.executable, str(WORKER), url, how, name]
            child = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
            try:
                out, err = await asyncio.wait_for(child.communicate(), 30)
            except TimeoutError:
                child.kill()
                raise
            return child.returncode, out, err

    room = asyncio.Semaphore(3)
    async with peer(pour) as server:
        ends = await asyncio.gather(*(end(server.url) for _ in range(EXITS // 2)))
    assert set(ends) == {(0, b"done\n", b"")}

"""The loop in virtual time: the order of things, and that what others build on asyncio works on it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from router.httpx_transport import HttpxTransport
from router.models import Message, Request
from router.testing import Answering, ScriptedTransport, scripted_router
from router.transport import Call, Timeouts
from seawall.simulation.loop import OWNER, START_S, STEP_S, Stalled, VirtualLoop, run_virtual


def test_time_passes_only_when_nothing_is_ready() -> None:
    """An hour of sleep takes no time, and the clock shows it to the microsecond."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began_s = time.perf_counter()
    assert run_virtual(main()) == pytest.approx(START_S + 3600, abs=20 * STEP_S)
    assert time.perf_counter() - began_s < 5


def test_timers_run_in_the_order_of_their_times_and_then_of_their_setting() -> None:
    """Timers of the same moment run in the order in which they were set, and cancelled ones never."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name, at_s in (("late", 2.0), ("first", 1.0), ("second", 1.0), ("never", 1.5), ("third", 1.0)):
            handle = loop.call_at(START_S + at_s, seen.append, name)
            if name == "never":
                handle.cancel()
        await asyncio.sleep(3)

    run_virtual(main())
    assert seen == ["first", "second", "third", "late"]


def test_many_cancelled_timers_are_forgotten() -> None:
    """Time-outs that never fire do not pile up."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(20_000):
            async with asyncio.timeout(1000):
                await asyncio.sleep(0)
        return len(loop._timers)  # pyright: ignore[reportPrivateUsage]

    assert run_virtual(main()) < 5000


def test_two_runs_of_a_program_are_the_same() -> None:
    """Tasks that race for a lock do so in the same order at the same times, twice."""

    async def main() -> list[tuple[int, float]]:
        lock, seen = asyncio.Lock(), list[tuple[int, float]]()

        async def worker(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0.1 * (number % 3))
                async with lock:
                    seen.append((number, asyncio.get_running_loop().time()))
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(worker(number) for number in range(7)))
        return seen

    assert run_virtual(main()) == run_virtual(main())


def test_timeouts_and_task_groups_work() -> None:
    """asyncio.timeout, wait_for and TaskGroup act at the virtual moment that they were told."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        moments: list[float] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        moments.append(loop.time() - START_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 2)
        moments.append(loop.time() - START_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(asyncio.sleep(3))
        return [*moments, loop.time() - START_S]

    assert run_virtual(main()) == pytest.approx([5, 7, 10], abs=1e-3)


def test_anyio_works() -> None:
    """anyio's task groups, cancel scopes and streams run on it."""

    anyio: Any = pytest.importorskip("anyio")  # httpx brings it

    async def main() -> list[int]:
        send, receive = anyio.create_memory_object_stream[int](2)
        found: list[int] = []

        async def produce() -> None:
            async with send:
                for number in range(4):
                    await anyio.sleep(1)
                    await send.send(number)

        with anyio.move_on_after(2.5):
            async with anyio.create_task_group() as group, receive:
                group.start_soon(produce)
                async for number in receive:
                    found += [number]
        return found

    assert run_virtual(main()) == [0, 1]


def test_httpx_transports_work() -> None:
    """httpx's mock and ASGI transports answer, and our transport's time-outs are virtual on top of them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})

    async def main() -> tuple[bytes, str, float]:
        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, text="hi"))) as client:
            text = (await client.get("http://there/")).text
        transport = HttpxTransport(httpx.ASGITransport(app))
        timeouts = Timeouts(connect_s=1, first_byte_s=5, idle_s=5)
        call = Call(method="GET", url="http://there/", headers=(), body=b"", timeouts=timeouts)
        began_s = loop.time()
        async with transport.send(call) as answer:
            body = b"".join([chunk async for chunk in answer.body])
        return body, text, loop.time() - began_s

    body, text, took_s = run_virtual(main())
    assert (body, text) == (b"late", "hi")
    assert took_s == pytest.approx(2, abs=1e-3)


def test_respx_works() -> None:
    """Answers that respx gives to httpx come, with their side effects, in virtual time."""

    async def slow(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3)
        return httpx.Response(200, text="mocked")

    async def main() -> tuple[str, float]:
        with respx.mock() as router:
            router.get("http://there/").mock(side_effect=slow)
            async with httpx.AsyncClient() as client:
                text = (await client.get("http://there/")).text
        return text, asyncio.get_running_loop().time() - START_S

    text, took_s = run_virtual(main())
    assert text == "mocked"
    assert took_s == pytest.approx(3, abs=1e-3)


def test_the_router_runs_on_it() -> None:
    """A router fails over from a slow provider in virtual seconds, on the loop's own clock."""
    script = ScriptedTransport({"gemini": [Answering(status=503, delay_s=7.0)], "claude": [Answering(text="hello")]})

    async def main() -> tuple[str, float]:
        router = scripted_router(script)
        reply = await router.complete(Request(messages=(Message(role="user", content="hi"),), model="gemini"))
        return reply.text, asyncio.get_running_loop().time() - START_S

    text, took_s = run_virtual(main())
    assert text == "hello"
    assert took_s == pytest.approx(7, abs=1e-2)


def test_a_stall_names_the_tasks_and_where_they_stand() -> None:
    """A program that waits for ever is told so at once, with the line of each task."""

    async def waits() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits(), name="the one that waits")

    with pytest.raises(Stalled) as told:
        run_virtual(main())
    assert "the one that waits: wait (locks.py" in str(told.value)
    assert "waits (test_loop.py" in str(told.value)


def test_executors_work_in_place_and_threads_are_refused() -> None:
    """asyncio.to_thread gives its result at the same moment; a thread that calls into the loop is refused."""

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        found = await asyncio.to_thread(sum, [1, 2, 3])
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        return found, loop.time() - START_S

    found, took_s = run_virtual(main())
    assert found == 6
    assert took_s < 1e-3

    async def threaded() -> str:
        loop, told = asyncio.get_running_loop(), list[str]()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(told.append, "called")
            except RuntimeError as error:
                told.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return told[0]

    assert "one thread only" in run_virtual(threaded())


def test_it_opens_no_socket() -> None:
    """A loop has no file descriptor of its own."""

    async def main() -> int:
        return sum(1 for _ in descriptors.iterdir())

    descriptors = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")
    before = sum(1 for _ in descriptors.iterdir())
    assert run_virtual(main()) == before


def test_a_stopped_process_goes_on_where_it_was() -> None:
    """What belongs to a stopped process waits until it is continued; others do not."""

    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        seen: list[tuple[str, float]] = []

        async def tick(name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append((name, round(loop.time() - START_S, 2)))

        context = copy_context()
        context.run(OWNER.set, 7)
        tasks = [loop.create_task(tick("stopped"), context=context), loop.create_task(tick("other"))]
        await asyncio.sleep(1.5)
        loop.stop_process(7)
        await asyncio.sleep(3)
        loop.continue_process(7)
        await asyncio.gather(*tasks)
        return seen

    assert run_virtual(main()) == [
        ("stopped", 1.0),
        ("other", 1.0),
        ("other", 2.0),
        ("other", 3.0),
        ("stopped", 4.5),
        ("stopped", 5.5),
    ]

"""What calls meet under toxics: cases that are played in the simulation and through a real Toxiproxy, by one driver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

import msgspec

from router.errors import TransportError
from router.transport import Call, Timeouts, Transport
from seawall.emulators.steps import Behaviour, Healthy
from seawall.simulation.network import Toxic

__all__ = ["CASES", "HEALTHY", "Action", "Case", "Trace", "play"]

HEALTHY = Healthy(first_token_p50_s=0.05, first_token_p99_s=0.05, tokens_per_second=40, tokens=16)
"""A JSON answer after 450 ms; a stream from 50 ms on, an event each 25 ms."""
Action = Callable[[str, Toxic | str], Awaitable[None]]
"""Does `add` of a toxic, or `remove` of one by its name."""


class Case(NamedTuple):
    """Toxics by when they are added and removed, and calls by when they are made (in seconds)."""

    toxics: tuple[tuple[float, Toxic, float | None], ...] = ()
    stream: bool = False
    calls: tuple[float, ...] = (0.0,)
    behaviour: Behaviour | None = None
    prompt: int = 10
    first_byte_s: float = 2.0
    idle_s: float = 0.5


class Trace(NamedTuple):
    """What one call met."""

    fate: str
    bytes: int
    head_s: float | None
    end_s: float
    tail_s: float
    """From the first byte of the body to the last."""


def _toxic(
    kind: str, stream: Literal["upstream", "downstream"] = "downstream", name: str = "t", **attributes: int
) -> Toxic:
    return Toxic(name=name, type=kind, stream=stream, attributes=attributes)


def _from_start(toxic: Toxic, **more: Any) -> Case:
    return Case(toxics=((0.0, toxic, None),), **more)


_CUT = Behaviour(fault_id="cut", cut_after_chunks=4)
CASES: dict[str, Case] = {
    "nothing": Case(),
    "nothing, a stream": Case(stream=True),
    "cut by the provider": Case(behaviour=_CUT, stream=True),
    "JSON cut by the provider": Case(behaviour=_CUT),
    "hang": Case(behaviour=Behaviour(fault_id="hang", hang=True), first_byte_s=0.6),
    "refusal": Case(behaviour=Behaviour(fault_id="no", status=429)),
    "latency": _from_start(_toxic("latency", latency=300)),
    "latency, a stream": _from_start(_toxic("latency", latency=300), stream=True),
    "latency upstream": _from_start(_toxic("latency", "upstream", latency=300)),
    "latency taken back": Case(toxics=((0.0, _toxic("latency", latency=1500), 0.7),)),
    "latency put on a stream": Case(toxics=((0.2, _toxic("latency", latency=200), None),), stream=True),
    "bandwidth": _from_start(_toxic("bandwidth", rate=1)),
    "bandwidth, a stream": _from_start(_toxic("bandwidth", rate=2), stream=True),
    "bandwidth upstream": _from_start(_toxic("bandwidth", "upstream", rate=8), prompt=4000),
    "bandwidth taken back": Case(toxics=((0.0, _toxic("bandwidth", "upstream", rate=1), 0.6),), prompt=4000),
    "slow_close": _from_start(_toxic("slow_close", delay=400)),
    "slow_close after a cut": _from_start(_toxic("slow_close", delay=400), behaviour=_CUT, stream=True),
    "slow_close taken back": Case(toxics=((0.0, _toxic("slow_close", delay=5000), 0.8),), behaviour=_CUT),
    "slow_close upstream": _from_start(_toxic("slow_close", "upstream", delay=400)),
    "timeout for ever": _from_start(_toxic("timeout", timeout=0), first_byte_s=0.8),
    "timeout": _from_start(_toxic("timeout", timeout=300)),
    "timeout that data begins anew": _from_start(_toxic("timeout", timeout=600)),
    "timeout upstream": _from_start(_toxic("timeout", "upstream", timeout=300)),
    "timeout in a stream": Case(toxics=((0.2, _toxic("timeout", timeout=0), None),), stream=True),
    "timeout taken back": Case(toxics=((0.2, _toxic("timeout", timeout=0), 0.45),), stream=True),
    "reset_peer": _from_start(_toxic("reset_peer", timeout=0)),
    "reset_peer, later": _from_start(_toxic("reset_peer", timeout=200), stream=True),
    "reset_peer upstream": _from_start(_toxic("reset_peer", "upstream", timeout=150)),
    "reset_peer in a stream": Case(toxics=((0.2, _toxic("reset_peer", timeout=50), None),), stream=True),
    "slicer": _from_start(_toxic("slicer", average_size=64, delay=20_000)),
    "slicer upstream": _from_start(_toxic("slicer", "upstream", average_size=500, delay=50_000), prompt=4000),
    "limit_data in the head": _from_start(_toxic("limit_data", bytes=50)),
    "limit_data": _from_start(_toxic("limit_data", bytes=300)),
    "limit_data, a stream": _from_start(_toxic("limit_data", bytes=1500), stream=True),
    "limit_data upstream": _from_start(_toxic("limit_data", "upstream", bytes=60)),
    "limit_data over two calls": _from_start(_toxic("limit_data", bytes=1000), calls=(0.0, 0.6)),
    "down": _from_start(_toxic("down")),
    "down in a stream": Case(toxics=((0.2, _toxic("down"), None),), stream=True),
    "down before the answer": Case(toxics=((0.2, _toxic("down"), None),)),
    "down while idle": Case(toxics=((0.6, _toxic("down"), 0.7),), calls=(0.0, 0.9)),
    "latency and limit_data": Case(
        toxics=((0.0, _toxic("latency", latency=200), None), (0.0, _toxic("limit_data", name="u", bytes=300), None))
    ),
}


async def play(case: Case, url: str, transport: Transport, act: Action) -> list[Trace]:
    """Play a case against the provider (OpenAI's format) at `url`, and return what each call met."""
    loop = asyncio.get_running_loop()
    for at_s, toxic, _ in case.toxics:
        if at_s == 0:
            await act("add", toxic)
    began_s = loop.time()
    traces: list[Trace] = []

    async def change() -> None:
        steps = [(at_s, "add", toxic) for at_s, toxic, _ in case.toxics if at_s > 0]
        steps += [(end_s, "remove", toxic.name) for _, toxic, end_s in case.toxics if end_s is not None]
        for at_s, what, toxic in sorted(steps, key=lambda step: step[0]):
            await asyncio.sleep(began_s + at_s - loop.time())
            await act(what, toxic)

    changes = asyncio.create_task(change())
    for at_s in case.calls:
        await asyncio.sleep(began_s + at_s - loop.time())
        traces.append(await _call(case, url, transport))
    await changes
    return traces


async def _call(case: Case, url: str, transport: Transport) -> Trace:
    loop = asyncio.get_running_loop()
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "[sw:000001] " + "x" * case.prompt}],
        "stream": case.stream,
        "max_tokens": 64,
    }
    call = Call(
        method="POST",
        url=f"{url}/v1/chat/completions",
        headers=(("content-type", "application/json"), ("authorization", "Bearer k")),
        body=msgspec.json.encode(body),
        timeouts=Timeouts(connect_s=1.0, first_byte_s=case.first_byte_s, idle_s=case.idle_s),
    )
    began_s = loop.time()
    head_s = first_s = last_s = None
    size, fate = 0, "whole"
    try:
        async with transport.send(call) as answer:
            head_s = loop.time() - began_s
            async for chunk in answer.body:
                last_s = loop.time() - began_s
                first_s = last_s if first_s is None else first_s
                size += len(chunk)
            fate = f"whole {answer.status}"
    except TransportError as error:
        fate = f"{error.code}, {'sent' if error.sent else 'not sent'}"
    return Trace(fate, size, head_s, loop.time() - began_s, (last_s or 0.0) - (first_s or 0.0))

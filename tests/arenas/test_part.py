"""The parts of the arena that faults may strike: who dies, who goes on, and what comes back where. Real ones."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from faults import registry
from faults.base import FaultError
from faults.process import ProcessFault, attach, detach
from faults.toxic import ToxicFault
from faults.toxiproxy import Toxiproxy
from seawall.arenas import parts
from seawall.arenas.lifesigns import ProcessProver, gateway_answers
from seawall.arenas.part import Grip, Part
from seawall.arenas.parts import ArenaFailed
from seawall.ports import HeldPort
from seawall.scenario.loader import load_text
from seawall.systems import SeawallSystem
from seawall.toolchain import resolve

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

NEVER = asyncio.Event()
TWO_WORKERS = """
version: 1
title: Two workers on one port
system: {gateway: seawall, workers: 2}
load: {executor: constant-arrival-rate, rate: 10/s, duration: 1s}
"""


def program(part: str) -> Path:
    """Return the program of a part."""
    path = resolve(part).path  # type: ignore[arg-type]
    assert path is not None
    return path


def redis(port: int, *words: str) -> bytes:
    """Send one command to the Redis on a port and return its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(" ".join(words).encode() + b"\r\n")
        return wire.recv(1000)


async def test_a_killed_redis_comes_back_with_its_data(bench: Any) -> None:
    """Killed and healed a part is another process on the same port, and Redis has every write that it confirmed."""
    part: Part = await bench.launcher.redis(program("redis"))
    port, first = part.port, part.child.pid
    assert await asyncio.to_thread(redis, port, "SET", "a", "1") == b"+OK\r\n"
    prover = ProcessProver(part, "kill")
    await prover.prepare()
    await part.strike("kill")
    gone = await prover.active(1, NEVER)
    assert gone is not None
    assert (gone["criterion"], gone["pid"], gone["exit_code"], gone["port_refuses"]) == ("gone", first, -9, True)
    await part.heal()
    back = await prover.healed(5)
    assert back is not None
    assert (part.port, back["answer"]) == (port, "PONG")
    assert part.child.pid != first
    assert await asyncio.to_thread(redis, port, "GET", "a") == b"$1\r\n1\r\n"
    assert b"\r\nalways\r\n" in await asyncio.to_thread(redis, port, "CONFIG", "GET", "appendfsync")
    await part.heal()  # once more changes nothing
    assert [action for name, action, _, _ in bench.events if name == "redis"].count("start") == 2


async def test_a_fault_in_a_thread_reaches_its_part(bench: Any) -> None:
    """Through registry and thread: what the undo file has is undone here, in the event loop that owns the process."""
    part: Part = await bench.launcher.redis(program("redis"))
    attach("a-run/redis", Grip(part))
    try:
        fault = ProcessFault(id="stopped", target="redis", key="a-run/redis", action="stop")
        record = await asyncio.to_thread(fault.prepare)
        prover = ProcessProver(part, "stop")
        assert await prover.active(0, NEVER) is None
        await asyncio.to_thread(fault.inject)
        stopped = await prover.active(5, NEVER)
        assert stopped is not None
        assert (stopped["state"], stopped["pid"]) == ("T", part.child.pid)
        assert not await asyncio.to_thread(registry.verify, record)
        assert await prover.healed(0) is None
        await asyncio.to_thread(registry.undo, record)
        assert await prover.healed(5) is not None
        assert await asyncio.to_thread(registry.verify, record)
        assert [action for name, action, _, _ in bench.events if name == "redis"] == ["start", "ready"]
    finally:
        detach("a-run/redis")


async def test_a_restarted_part_comes_back_by_itself(bench: Any) -> None:
    """A restart ends in order and starts again at once; the undo waits for it. After `close` nothing starts."""
    part: Part = await bench.launcher.redis(program("redis"))
    await part.strike("restart")
    prover = ProcessProver(part, "restart")
    gone = await prover.active(5, NEVER)
    assert gone is not None
    assert gone["exit_code"] == 0
    await part.heal()
    assert await prover.healed(5) is not None
    await part.strike("kill")
    await part.close()
    await part.heal()
    assert part.seen() is None
    with pytest.raises(FaultError, match="redis does not run, so there is nothing to kill"):
        await part.strike("kill")


async def test_a_restarted_toxiproxy_has_its_proxies_and_what_is_in_force(bench: Any) -> None:
    """Proxies listen where they did; a toxic in force is back under its name, one undone meanwhile is not."""
    part: Part = await bench.launcher.toxiproxy(program("toxiproxy"), bench.proxies)
    bench.proxies.attach(f"http://127.0.0.1:{part.port}", is_external=False)
    before = {name: await bench.proxies.create(name, 9) for name in ("gemini", "claude")}
    records = []
    for name in ("gemini", "claude"):
        fault = ToxicFault(
            id=f"slow-{name}",
            target=name,
            run="a-run",
            proxy=before[name].name,
            url=bench.proxies.url,
            type="latency",
            attributes={"latency": 700},
        )
        number = bench.undo.append(fault.prepare())
        await asyncio.to_thread(fault.inject)
        records.append((number, fault.prepare()))
    await part.strike("kill")
    number, record = records[1]
    await asyncio.to_thread(registry.undo, record)
    bench.undo.mark_done(number)
    await part.heal()
    server = Toxiproxy(bench.proxies.url)
    after = await asyncio.to_thread(server.proxies)
    for name, proxy in before.items():
        assert after[proxy.name].listen == proxy.listen, name
    assert [toxic.attributes["latency"] for toxic in after[before["gemini"].name].toxics] == [700]
    assert after[before["claude"].name].toxics == ()
    await asyncio.to_thread(registry.undo, records[0][1])
    assert await asyncio.to_thread(registry.verify, records[0][1])
    assert await bench.proxies.remove_all()


async def test_workers_share_a_port(bench: Any) -> None:
    """Every worker of the gateway is ready on the same port, and each is told from the other."""
    scenario = load_text(TWO_WORKERS, "two.yaml").scenario
    upstreams = dict.fromkeys(("gemini", "claude", "openai", "local"), "http://127.0.0.1:9")
    first, second = await bench.launcher.gateway(scenario, SeawallSystem(), upstreams)
    assert (first.name, second.name) == ("gateway", "gateway-2")
    assert first.port == second.port
    assert await first.answers() == await second.answers() == {"answer": "/readyz 200"}
    assert await gateway_answers(1, first.port, shared=True) is None
    await first.strike("kill")
    gone = await ProcessProver(first, "kill").active(1, NEVER)
    assert gone is not None
    assert gone["port_refuses"] is False
    assert await first.answers() is None
    assert await second.answers() == {"answer": "/readyz 200"}
    await first.heal()
    assert await first.answers() == {"answer": "/readyz 200"}


@pytest.mark.parametrize("name", ["redis", "toxiproxy"])
async def test_a_port_taken_in_between_is_left_to_its_taker(
    bench: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part whose port somebody else listens on takes another; after three such the word says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = iter([port])

        class Taken(HeldPort):
            def __init__(self) -> None:
                super().__init__()
                self.port = next(ports, self.port)

        async def start() -> Part:
            if name == "redis":
                return await bench.launcher.redis(program("redis"))
            return await bench.launcher.toxiproxy(program("toxiproxy"), bench.proxies)

        monkeypatch.setattr(parts, "HeldPort", Taken)
        began = time.monotonic()
        part = await start()
        assert part.port != port
        assert time.monotonic() - began < 12  # it is seen at once, not by a deadline of 15 s
        await part.child.stop()
        ports = iter([port] * 3)
        with pytest.raises(ArenaFailed, match=f"{name} could not be started on any of 3 free ports"):
            await start()

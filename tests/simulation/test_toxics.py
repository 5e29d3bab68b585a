"""Each toxic, here and through a real Toxiproxy: the same fate, the same bytes, the same times."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from toxic_cases import CASES, HEALTHY, Action, Case, Trace, play

from faults.toxiproxy import Toxiproxy, ToxiproxyError
from router.httpx_transport import HttpxTransport
from seawall.emulators.config import Config
from seawall.emulators.server import EmulatorServer
from seawall.emulators.station import Station
from seawall.simulation.loop import VirtualLoop, run_virtual
from seawall.simulation.network import Network, Toxic
from seawall.simulation.provider import SimulatedProvider
from seawall.simulation.transport import SimTransport, address_of

SOONER_S, LATER_S = 0.08, 0.35
"""How much sooner, and later, a busy machine may be than virtual time."""
SEED = 3
AT_A_TIME = 7
TRIES = 3


class _Alive:
    is_dead = False


def simulated(case: Case) -> list[Trace]:
    """Return what the calls of a case meet in the simulation."""

    async def main() -> list[Trace]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        network = Network(loop, SEED)
        provider = SimulatedProvider("openai", HEALTHY, SEED, network, lambda _record: None)
        proxy = network.add("openai", provider.accept)
        if case.behaviour is not None:
            provider.behaviours[case.behaviour.fault_id] = case.behaviour

        async def act(what: str, toxic: Toxic | str) -> None:
            if isinstance(toxic, Toxic):
                proxy.add(toxic)
            else:
                proxy.remove(toxic)

        return await play(case, address_of("openai"), SimTransport(network, {"openai": provider}, _Alive()), act)

    return run_virtual(main())


@pytest.fixture(scope="module")
def server(toxiproxy_binary: Path) -> Iterator[Toxiproxy]:
    """Return a real Toxiproxy that the tests of this module share."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    argv = [str(toxiproxy_binary), "-host", "127.0.0.1", "-port", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server = Toxiproxy(f"http://127.0.0.1:{port}")
            _await(server)
            yield server
        finally:
            process.kill()


@pytest.fixture(scope="module")
def real(server: Toxiproxy) -> dict[str, list[Trace]]:
    """Return what the calls of all cases meet through a real Toxiproxy, some cases at a time."""
    names, traces = list(CASES), dict[str, list[Trace]]()
    for start in range(0, len(names), AT_A_TIME):
        traces |= asyncio.run(_play_all(server, names[start : start + AT_A_TIME]))
    return traces


@pytest.mark.real
@pytest.mark.parametrize("name", CASES)
def test_toxics_do_here_what_toxiproxy_does(name: str, server: Toxiproxy, real: dict[str, list[Trace]]) -> None:
    """Every call ends alike, with as many bytes, and as late, in the simulation and on the wire."""
    here, there = simulated(CASES[name]), real[name]
    for _ in range(TRIES):
        difference = _difference(CASES[name], here, there)
        if difference is None:
            return
        # A busy machine is late once, and not always: what differs each time is ours.
        there = asyncio.run(_play_all(server, [name]))[name]
    assert _difference(CASES[name], here, there) is None


def _difference(case: Case, here: list[Trace], there: list[Trace]) -> str | None:
    """Return what differs between the simulation and the wire, None for nothing."""
    for ours, theirs in zip(here, there, strict=True):
        # Of a stream that is broken off some chunks more or less.
        margin = 2500 if case.stream and "whole" not in ours.fate else 0
        agree = (
            ours.fate == theirs.fate
            and abs(ours.bytes - theirs.bytes) <= margin
            and -SOONER_S <= theirs.end_s - ours.end_s <= LATER_S
            and abs(theirs.tail_s - ours.tail_s) <= LATER_S
            and (ours.head_s is None) == (theirs.head_s is None)
        )
        if not agree:
            return f"simulated {ours}, real {theirs}"
    return None


async def _play_all(server: Toxiproxy, names: list[str]) -> dict[str, list[Trace]]:
    """Play cases side by side, each against an emulator of its own behind a proxy of its own."""
    ready: list[str] = []
    begin = asyncio.Event()

    async def one(name: str) -> list[Trace]:
        case = CASES[name]
        emulator = EmulatorServer(Config(providers={"openai": HEALTHY}, seed=SEED), "token")
        await emulator.start()
        if case.behaviour is not None:
            stations: dict[str, Station] = emulator.__dict__["_stations"]
            stations["openai"].behaviours[case.behaviour.fault_id] = case.behaviour
        proxy_name = f"case-{uuid.uuid4().hex}"
        upstream = f"127.0.0.1:{emulator.ports['openai']}"
        proxy = await asyncio.to_thread(server.create_proxy, proxy_name, upstream)
        # Certificates take longer to load than most cases last.
        transport = HttpxTransport(httpx.AsyncHTTPTransport(verify=False, trust_env=False))
        ready.append(name)
        if len(ready) == len(names):
            begin.set()
        await begin.wait()
        try:
            return await play(case, f"http://127.0.0.1:{proxy.address[1]}", transport, _action(server, proxy_name))
        finally:
            await transport.aclose()
            await emulator.stop()

    traces = await asyncio.gather(*(one(name) for name in names))
    return dict(zip(names, traces, strict=True))


def _action(server: Toxiproxy, proxy: str) -> Action:
    down: set[str] = set()

    async def act(what: str, toxic: Toxic | str) -> None:
        if isinstance(toxic, Toxic) and toxic.type == "down":
            down.add(toxic.name)
            await asyncio.to_thread(server.set_enabled, proxy, False)
        elif isinstance(toxic, Toxic):
            arguments = (toxic.name, toxic.type, toxic.stream, toxic.toxicity, toxic.attributes)
            await asyncio.to_thread(server.add_toxic, proxy, *arguments)
        elif toxic in down:
            await asyncio.to_thread(server.set_enabled, proxy, True)
        else:
            await asyncio.to_thread(server.delete_toxic, proxy, toxic)

    return act


def _await(server: Toxiproxy) -> None:
    end_s = time.monotonic() + 15
    while True:
        try:
            server.version()
        except ToxiproxyError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.02)
        else:
            return

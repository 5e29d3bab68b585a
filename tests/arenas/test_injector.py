"""The life of faults at a real proxy: again and again, over one another, and cut short at any moment."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults.base import FaultError, Undo
from faults.criteria import probe_plan
from faults.down import DownFault, holders
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo, Toxiproxy
from faults.undo import UndoFile
from seawall.arenas.evidence import ProbeProver
from seawall.arenas.injector import PlannedFault, inject_and_heal, tell_met
from seawall.emulators.config import Config
from seawall.emulators.steps import Healthy
from seawall.journal.events import Fault
from seawall.live import FaultWatch, LiveView

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

TRIES = 30
AT_ONCE = 6


class Stage:
    """A Toxiproxy with an emulator of gemini behind it."""

    def __init__(self, url: str, port: int, folder: Path) -> None:
        self.server = Toxiproxy(url)
        self.folder = folder
        self._port = port

    def proxy(self, name: str) -> ProxyInfo:
        """Create a proxy to the emulator."""
        return self.server.create_proxy(name, f"127.0.0.1:{self._port}")

    def toxic(self, proxy: ProxyInfo, id_: str, type_: str, at_s: float, lasts_s: float, **attributes: int) -> Any:
        """Plan a toxic, or `down`, at a proxy."""
        fault: Any = DownFault(id=id_, target="gemini", proxy=proxy.name, url=self.server.url)
        if type_ != "down":
            fault = ToxicFault(
                id=id_,
                target="gemini",
                run="r",
                proxy=proxy.name,
                url=self.server.url,
                type=type_,
                attributes=attributes,
            )
        plan = probe_plan(type_, "downstream", attributes)
        prover = ProbeProver(fault, proxy.address, proxy.upstream_address, plan)
        return PlannedFault(fault=fault, prover=prover, start_s=at_s, duration_s=lasts_s)


@pytest.fixture
async def stage(bench: Any, toxiproxy_binary: Path, tmp_path: Path) -> Stage:
    """Return real parts without a whole run."""
    config = tmp_path / "emulators.json"
    healthy = Healthy(first_token_p50_s=0.01, first_token_p99_s=0.02, tokens_per_second=1000.0, tokens=4)
    config.write_bytes(msgspec.json.encode(Config(providers={"gemini": healthy}, seed=1)))
    argv = (sys.executable, "-m", "seawall.emulators", "--config", str(config))
    emulators = await bench.launcher.start("emulators", argv, {"SEAWALL_TOKEN": "a-token"})
    part = await bench.launcher.toxiproxy(toxiproxy_binary, bench.proxies)
    return Stage(f"http://127.0.0.1:{part.port}", emulators.ready["ports"]["gemini"], tmp_path)


async def lived(
    faults: list[PlannedFault], undo: UndoFile, live: LiveView, stop: asyncio.Event, emit: Callable[[Fault], None]
) -> list[bool]:
    """Let faults live from now on."""
    for fault in faults:
        await fault.prover.prepare()
    t0_s = time.monotonic()

    def life(fault: PlannedFault) -> Any:
        return inject_and_heal(fault, t0_s=t0_s, clock=time.monotonic, stop=stop, undo=undo, live=live, emit=emit)

    return await asyncio.gather(*(life(fault) for fault in faults))


async def test_a_fault_that_repeats_has_a_whole_life_each_time(stage: Stage, bench: Any) -> None:
    """Each occurrence is injected, proven, healed and verified, in order, under its own planned start and record."""
    proxy = await asyncio.to_thread(stage.proxy, "p")
    fault = stage.toxic(proxy, "slow", "latency", 0.1, 0.6, latency=100)
    fault = msgspec.structs.replace(fault, repeats_s=(1.3, 2.5))
    told: list[Fault] = []
    records: list[Undo] = []
    append = bench.undo.append
    bench.undo.append = lambda record: records.append(record) or append(record)
    assert await lived([fault], bench.undo, LiveView(stage.folder), asyncio.Event(), told.append) == [True]
    life = ["injecting", "active", "healing", "healed", "undo_verified"]
    assert [(event.planned_at_s, event.phase) for event in told] == [
        (start_s, phase) for start_s in (0.1, 1.3, 2.5) for phase in life
    ]
    assert len(records) == 3
    assert bench.undo.still_open == ()


async def test_faults_over_one_another_are_told_honestly(stage: Stage, bench: Any) -> None:
    """
    What hides another is named in the other's evidence, and no fault is called healed or active by a probe that met
    another one.
    """
    proxy = await asyncio.to_thread(stage.proxy, "p")
    faults = [
        stage.toxic(proxy, "slow", "latency", 0.0, 4.0, latency=100),
        stage.toxic(proxy, "slower", "latency", 0.8, 1.2, latency=150),
        stage.toxic(proxy, "cut", "reset_peer", 2.2, 1.0, timeout=0),
        stage.toxic(proxy, "gone", "down", 2.7, 2.0),
    ]
    told: list[Fault] = []
    assert await lived(faults, bench.undo, LiveView(stage.folder), asyncio.Event(), told.append) == [True] * 4
    by = {(event.id, event.phase): str(event.evidence.get("criterion")) for event in told if event.evidence}
    beside_slow = "while latency (fault slow) is in force"
    assert by["slow", "active"] == "delayed"
    assert by["slower", "active"] == f"read_back {beside_slow}"
    assert by["slower", "healed"] == f"read_back {beside_slow}"
    assert by["cut", "active"] == f"reset {beside_slow}"
    assert by["gone", "active"].startswith("refused while latency (fault slow)")
    assert by["cut", "healed"] == "read_back while latency (fault slow), down (fault gone) is in force"
    assert by["slow", "healed"] == "read_back while down (fault gone) is in force"
    assert by["gone", "healed"] == "refused"


async def test_a_toxic_that_does_not_bite_is_not_read_back_into_force(stage: Stage, bench: Any) -> None:
    """Alone, what the server has but no probe meets is never active."""
    proxy = await asyncio.to_thread(stage.proxy, "p")
    fault = stage.toxic(proxy, "weak", "latency", 0.0, 1.2, latency=1)
    wanted = probe_plan("latency", "downstream", {"latency": 500})
    prover = ProbeProver(fault.fault, proxy.address, proxy.upstream_address, wanted)
    told: list[Fault] = []
    await lived(
        [msgspec.structs.replace(fault, prover=prover)],
        bench.undo,
        LiveView(stage.folder),
        asyncio.Event(),
        told.append,
    )
    assert "active" not in [event.phase for event in told]


async def test_a_proof_that_breaks_leaves_nothing(stage: Stage, bench: Any) -> None:
    """Whatever goes wrong between injection and healing is told, and the fault is taken back at once."""
    proxy = await asyncio.to_thread(stage.proxy, "p")
    fault = stage.toxic(proxy, "slow", "latency", 0.0, 30.0, latency=100)

    async def broken(*_: Any) -> None:
        raise KeyError("a bug")

    fault.prover.active = broken
    told: list[Fault] = []
    assert await lived([fault], bench.undo, LiveView(stage.folder), asyncio.Event(), told.append) == [True]
    assert [event.error for event in told if event.error] == ["KeyError: 'a bug'"]
    assert stage.server.proxies()["p"].toxics == ()


async def test_what_cannot_be_written_down_is_not_injected(stage: Stage, bench: Any) -> None:
    """When the undo file takes no record the fault stays out, and the journal says why."""
    proxy = await asyncio.to_thread(stage.proxy, "p")

    def full(_: Undo) -> int:
        raise FaultError("the undo file cannot be written: no space")

    bench.undo.append = full
    told: list[Fault] = []
    fault = stage.toxic(proxy, "slow", "latency", 0.0, 0.5, latency=100)
    assert await lived([fault], bench.undo, LiveView(stage.folder), asyncio.Event(), told.append) == [True]
    assert "no space" in (told[0].error or "")
    assert stage.server.proxies()["p"].toxics == ()


@pytest.mark.parametrize("by", ["calls", "behaviour"])
def test_each_occurrence_is_met_by_its_own_traffic(tmp_path: Path, by: str) -> None:
    """A call meets the occurrence in which it came, and an occurrence without one is not met."""
    live = LiveView(tmp_path)
    spans = ((10, 20), (30, 40), (50, 60))
    for start, end in spans:
        watch = FaultWatch("f", "gemini", by_behaviour=by == "behaviour", planned_at_s=start)
        watch.injected_ns, watch.active_ns, watch.healed_ns = start, start, end
        live.watches.append(watch)
    lines = [
        {
            "kind": "call",
            "mono_ns": end,
            "provider": "gemini",
            "behaviour": "f",
            "arrival_ns": end - 3,
            "end_ns": end - 1,
        }
        for end in (20, 60)
    ]
    (tmp_path / "events-x-1.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    live.poll()
    assert [watch.is_met for watch in live.watches] == [True, False, True]
    told: list[Fault] = []
    fault = DownFault(id="f", target="gemini", proxy="p", url="http://127.0.0.1:9")
    planned = PlannedFault(fault=fault, prover=None, start_s=10, duration_s=10, repeats_s=(30, 50))
    for watch in live.watches * 2:
        tell_met(planned, watch, told.append)
    assert [(event.phase, event.planned_at_s) for event in told] == [("met", 10), ("met", 50)]


async def cut_short(stage: Stage, number: int) -> str | None:
    """Let overlapping and repeating faults live, stop them at some moment, and return what is left of them."""
    draw = random.Random(number)
    name = f"try-{number}"
    proxy = await asyncio.to_thread(stage.proxy, name)
    slow = stage.toxic(proxy, "slow", "latency", 0.0, 0.4, latency=200)
    faults = [
        msgspec.structs.replace(slow, repeats_s=(0.5, 1.0)),
        stage.toxic(proxy, "dark", "timeout", 0.1, 0.5, timeout=0),
        stage.toxic(proxy, "gone", "down", 0.4, 0.4),
        stage.toxic(proxy, "gone_too", "down", 0.5, 0.1),
    ]
    stop = asyncio.Event()
    after = draw.randrange(1, 30) if number % 2 else None
    told: list[Fault] = []

    def emit(event: Fault) -> None:
        told.append(event)
        if after is not None and len(told) >= after:
            stop.set()

    if after is None:
        asyncio.get_running_loop().call_later(draw.uniform(0.0, 1.6), stop.set)
    undo = UndoFile.create(stage.folder / "undo", name)
    try:
        verified = await lived(faults, undo, LiveView(stage.folder), stop, emit)
        # Toxiproxy may still be busy with connections that its neighbours have left.
        found = await asyncio.to_thread(Toxiproxy(stage.server.url, deadline_s=25).proxy, name)
        if found is None:  # Toxiproxy hung on a toxic until its proxy had to go, which must be told
            assert [event.id for event in told if "the proxy was deleted" in str(event.evidence)], told
            return None
        left = (verified, found.toxics, found.enabled, undo.still_open, holders(stage.server.url, name))
        clean = left == ([True] * 4, (), True, (), frozenset())
        return None if clean else f"try {number}: {left} after {[(event.id, event.phase) for event in told]}"
    finally:
        undo.close()


async def test_nothing_is_left_wherever_it_is_cut_short(stage: Stage) -> None:
    """
    Stopped between any two steps or at any moment, in 30 tries, no toxic, no disabled proxy and no open record is
    left, and every undo is verified.
    """
    for first in range(0, TRIES, AT_ONCE):
        left = await asyncio.gather(*(cut_short(stage, number) for number in range(first, first + AT_ONCE)))
        assert [words for words in left if words] == []

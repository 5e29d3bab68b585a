"""
How a simulated toxic is proven: by pings through the same proxy, judged by the criteria that hold on the wire.

A toxic that does nothing here would be as unproven as on the wire, and one that bites is in force from the same moment:
when a probe has met it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from faults.criteria import ProbePlan
from faults.down import DownFault
from faults.overlap import Around, among
from faults.probe import PERIOD_S, Baseline, Evidence, Sample, is_clean, is_met, wait_active
from faults.samples import Ending, Shape
from faults.toxic import ToxicFault
from faults.toxiproxy import ToxicInfo
from seawall.arenas.evidence import ProbeProver
from seawall.simulation.loop import VirtualLoop
from seawall.simulation.network import Link, Proxy, Refused
from seawall.simulation.provider import SimulatedProvider, ping_answer

__all__ = ["SimProbeProver", "ping"]

_REQUEST_HEAD = b"POST /_seawall/ping HTTP/1.1\r\nhost: provider\r\n\r\n".ljust(100, b" ")
_PING, _PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
_ADDRESS = ("simulated", 0)
_BASELINE = Baseline(median_s=0.0, spread_s=0.0, probes=0)


class SimProbeProver(ProbeProver):
    """A ProbeProver in the simulation. `provider` is None for Redis."""

    def __init__(
        self, fault: ToxicFault | DownFault, plan: ProbePlan, proxy: Proxy, provider: SimulatedProvider | None
    ) -> None:
        super().__init__(fault, _ADDRESS, _ADDRESS, plan)
        self._proxy = proxy
        self._provider = provider

    async def prepare(self) -> None:
        """See Prover. Where nothing is wrong a ping takes no time."""

    async def _around(self) -> Around:
        proxy = self._proxy
        mine = proxy.has(self._fault.id)
        if not proxy.network.is_up:
            return Around(mine=mine, gone=True, blocked=("Toxiproxy being away",))
        blocked = [f"down (fault {name})" for name in sorted(proxy.down_for - {self._fault.id})]
        blocked += ["Toxiproxy standing still"] if proxy.network.is_stopped else []
        blocked += [] if proxy.serves else ["an upstream that does not answer"]
        toxics = tuple(
            ToxicInfo(
                name=f"seawall-simulated-{toxic.name}",
                type=toxic.type,
                stream=toxic.stream,
                toxicity=toxic.toxicity,
                attributes=toxic.attributes,
            )
            for toxic in proxy.toxics
            if toxic.name != self._fault.id
        )
        return Around(mine=mine, toxics=toxics, blocked=tuple(blocked))

    async def _probed(
        self, wait: Any, plan: ProbePlan, limit_s: float, stop: asyncio.Event, around: Around
    ) -> dict[str, Any] | None:
        phase: Literal["active", "healed"] = "active" if wait is wait_active else "healed"
        found = await self._watched(plan, limit_s, stop, around, phase)
        if found is None:
            return None
        return {**found.data(), "criterion": f"{found.criterion}{among(around)}"}

    async def _watched(
        self, plan: ProbePlan, limit_s: float, stop: asyncio.Event, around: Around, phase: Literal["active", "healed"]
    ) -> Evidence | None:
        """Send a ping every period until one shows the fault, or two in a row do not; None when others came or went."""
        loop = self._proxy.network.loop
        began_s = loop.time()
        queue: asyncio.Queue[tuple[int, int, int, Sample]] = asyncio.Queue()
        shots: list[asyncio.Task[None]] = []

        async def shoot(number: int) -> None:
            started_ns = loop.time_ns()
            sample = await ping(self._proxy, self._provider, plan.shape)
            queue.put_nowait((number, started_ns, loop.time_ns(), sample))

        async def send() -> None:
            while True:
                shots.append(loop.create_task(shoot(len(shots))))
                await asyncio.sleep(PERIOD_S)

        async def collect() -> Evidence:
            clean: set[int] = set()
            while True:
                number, started_ns, ended_ns, sample = await queue.get()
                if phase == "active":
                    shows = is_met(plan.criterion, sample, _BASELINE)
                elif shows := is_clean(plan.criterion, sample, _BASELINE):
                    clean.add(number)
                    shows = bool({number - 1, number + 1} & clean)
                if shows:
                    waited_s = loop.time() - began_s
                    return _evidence(phase, plan, len(shots), waited_s, (started_ns, ended_ns), sample)

        collector = loop.create_task(collect())
        tasks: list[asyncio.Task[Any]] = [collector, loop.create_task(send()), loop.create_task(stop.wait())]
        try:
            await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            found = collector.result() if collector.done() else None
        finally:
            for task in (*tasks, *shots):
                task.cancel()
            await asyncio.gather(*tasks, *shots, return_exceptions=True)
        # What came in between may have been what the ping met.
        return found if (await self._around()).others == around.others else None


def _evidence(
    phase: Literal["active", "healed"],
    plan: ProbePlan,
    probes: int,
    waited_s: float,
    span_ns: tuple[int, int],
    sample: Sample,
) -> Evidence:
    shown = {name: _in_ms(getattr(sample, f"{name}_s")) for name in ("connect", "first_byte", "last_byte", "end")}
    return Evidence(
        phase=phase,
        criterion=plan.criterion.name,
        wanted=plan.criterion.describe()
        if phase == "active"
        else "two probes in a row whole, with nothing of the fault",
        probes=probes,
        waited_ms=round(waited_s * 1000, 3),
        baseline_ms=0.0,
        started_ns=span_ns[0],
        ended_ns=span_ns[1],
        sample={
            **{f"{name}_ms": value for name, value in shown.items()},
            "bytes": sample.bytes,
            "segments": sample.segments,
            "ended": sample.ended,
            "status": sample.status,
            **({} if sample.fin_s is None else {"fin_ms": _in_ms(sample.fin_s)}),
        },
    )


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class _Pinger:
    """The client's end of a ping."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.began_s = loop.time()
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.ended: Ending | None = None
        self.bytes = 0
        self.segments = 0
        self.changed = asyncio.Event()

    def received(self, data: bytes) -> None:
        """See network.Client."""
        self.last_s = self.loop.time() - self.began_s
        self.first_s = self.last_s if self.first_s is None else self.first_s
        self.bytes += len(data)
        self.segments += 1
        self.changed.set()

    def lost(self, *, reset: bool) -> None:
        """See network.Client."""
        self.ended = "reset" if reset else "eof"
        self.changed.set()


async def ping(proxy: Proxy, provider: SimulatedProvider | None, shape: Shape) -> Sample:
    """Send one ping through `proxy` and return what it met."""
    loop = proxy.network.loop
    pinger = _Pinger(loop)
    try:
        link = proxy.connect(pinger)
    except Refused:
        return _sample(pinger, "refused", connected=False)
    wanted = _ask(link, provider, shape)
    fin_s: float | None = None
    ended: Ending = "deadline"
    try:
        async with asyncio.timeout(shape.deadline_s):
            while pinger.ended is None and (shape.close or pinger.bytes < wanted):
                pinger.changed.clear()
                await pinger.changed.wait()
            ended = pinger.ended or "whole"
            if ended == "eof" and pinger.bytes >= wanted:
                ended = "whole"
            if shape.witnessed and ended == "whole" and provider is not None:
                closed_ns = loop.time_ns()
                link.close()
                fin_s = (await provider.fin_ns(link.number) - closed_ns) / 1e9
    except TimeoutError:
        pass
    finally:
        link.close()
    return _sample(pinger, ended, fin_s=fin_s)


def _ask(link: Link, provider: SimulatedProvider | None, shape: Shape) -> int:
    """Send the question; return how many bytes its whole answer has."""
    if provider is None:
        link.request(lambda: _PING, lambda: link.reply(_PONG))
        return len(_PONG)
    answer = ping_answer(shape.reply_bytes, close=shape.close)
    body = b"." * shape.request_bytes
    link.request(lambda: _REQUEST_HEAD + body, lambda: provider.handle_ping(link, answer, close=shape.close))
    return len(answer)


def _sample(pinger: _Pinger, ended: Ending, *, connected: bool = True, fin_s: float | None = None) -> Sample:
    return Sample(
        connect_s=0.0 if connected else None,
        first_byte_s=pinger.first_s,
        last_byte_s=pinger.last_s,
        end_s=pinger.loop.time() - pinger.began_s,
        bytes=pinger.bytes,
        segments=pinger.segments,
        ended=ended,
        status=200 if ended == "whole" else None,
        fin_s=fin_s,
    )

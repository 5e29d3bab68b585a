"""
Evidence that a fault of the wire bites, and that it has gone.

Probes are raw sockets of their own, never the gateway's pool: a fresh connection every 200 ms through the proxy to the
emulator's ping route, each its own task, so that a slow one holds up nobody. What to send and what counts follows from
the toxic (`faults.criteria`).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from faults.base import FaultError
from faults.criteria import PERIOD_S, ProbePlan, probe_plan
from faults.ping import PING_PATH, Address, Witness, probe
from faults.samples import Baseline, Criterion, Sample, Shape, is_clean, is_met, measure

__all__ = [
    "PERIOD_S",
    "PING_PATH",
    "Address",
    "Baseline",
    "Criterion",
    "Evidence",
    "ProbePlan",
    "Sample",
    "Shape",
    "Witness",
    "baseline",
    "is_clean",
    "is_met",
    "probe",
    "probe_plan",
    "wait_active",
    "wait_healed",
]

_ROUNDS = 3
# Toxiproxy takes 5 s to delete a bandwidth toxic while a client has just left such a reply in the middle (measured), so
# these probes are let to their end.
_BULKY_BYTES = 4_096


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """
    What showed that a fault was in force, or had gone. Times in milliseconds.

    `started_ns` and `ended_ns` are CLOCK_MONOTONIC of the deciding probe; `waited_ms` runs from the first probe's
    start to the decision.
    """

    phase: Literal["active", "healed"]
    criterion: str
    wanted: str
    probes: int
    waited_ms: float
    baseline_ms: float
    started_ns: int
    ended_ns: int
    sample: dict[str, Any]

    def data(self) -> dict[str, Any]:
        """Return it as plain data for the journal."""
        return msgspec.to_builtins(self)


async def baseline(address: Address, plan: ProbePlan, n: int = 5, *, witness: Witness | None = None) -> Baseline:
    """
    Measure `n` probes, one after the other, before the fault.

    Raises FaultError when one of them is no whole answer, or when they differ by more than half of the time that the
    criterion turns on, in each of three rounds: then the fault could not be told from the noise.
    """
    result = Baseline(median_s=0.0, spread_s=0.0, probes=0)
    await _whole(address, plan.shape, witness)  # the first one pays for what is opened lazily on the way
    for _ in range(_ROUNDS):
        times = [measure(plan.criterion, await _whole(address, plan.shape, witness)) for _ in range(n)]
        result = Baseline(median_s=statistics.median(times), spread_s=max(times) - min(times), probes=n)
        if plan.criterion.scale_s is None or result.spread_s <= plan.criterion.scale_s / 2:
            return result
    needed_s = plan.criterion.scale_s or 0.0
    raise FaultError(
        f"probes through {address[0]}:{address[1]} differ by {result.spread_s * 1000:.1f} ms without any fault, "
        f"more than half of the {needed_s * 1000:.1f} ms that would prove it; use a stronger fault or a quieter machine"
    )


async def wait_active(
    address: Address,
    plan: ProbePlan,
    baseline: Baseline,
    deadline_s: float,
    stop: asyncio.Event,
    *,
    witness: Witness | None = None,
) -> Evidence | None:
    """
    Probe until one shows the fault, and return it; None after `deadline_s` seconds, on `stop`, or when unprovable.

    `plan.budget_s` is the deadline that suffices when the fault is there. Raises FaultError when probes cannot be sent.
    """
    if not plan.provable:
        return None

    def judge(shot: _Shot) -> bool:
        return is_met(plan.criterion, shot.sample, baseline)

    return await _watch(address, plan, baseline, "active", judge, deadline_s, stop, witness)


async def wait_healed(
    address: Address,
    plan: ProbePlan,
    baseline: Baseline,
    deadline_s: float,
    stop: asyncio.Event,
    *,
    witness: Witness | None = None,
) -> Evidence | None:
    """
    Probe until two in a row are whole and show nothing of the fault; None after `deadline_s` seconds or on `stop`.

    Call it when the API has answered that the fault is taken back: probes of before may have met it. With a toxicity
    below 1 two clean probes prove little; there the read-back of the toxics is what counts.
    """
    clean: set[int] = set()

    def judge(shot: _Shot) -> bool:
        if not is_clean(plan.criterion, shot.sample, baseline):
            return False
        clean.add(shot.number)
        return bool({shot.number - 1, shot.number + 1} & clean)

    return await _watch(address, plan, baseline, "healed", judge, deadline_s, stop, witness)


class _Shot(msgspec.Struct, frozen=True):
    number: int
    started_ns: int
    ended_ns: int
    sample: Sample


async def _whole(address: Address, shape: Shape, witness: Witness | None) -> Sample:
    sample = await probe(address, shape, witness)
    if sample.ended == "whole" and sample.status == 200 and (sample.fin_s is not None or not shape.witnessed):
        return sample
    what = f"status {sample.status}" if sample.ended == "whole" else sample.ended
    raise FaultError(
        f"without any fault a probe through {address[0]}:{address[1]} ended in {what} after "
        f"{sample.end_s * 1000:.0f} ms and {sample.bytes} bytes; proxy or upstream is broken, or a fault is in force"
    )


async def _watch(
    address: Address,
    plan: ProbePlan,
    base: Baseline,
    phase: Literal["active", "healed"],
    judge: Callable[[_Shot], bool],
    deadline_s: float,
    stop: asyncio.Event,
    witness: Witness | None,
) -> Evidence | None:
    """Start a probe every period and hand them to `judge` as they end, until it says yes."""
    queue: asyncio.Queue[_Shot | FaultError] = asyncio.Queue()
    shots: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0

    async def shoot(number: int) -> None:
        started_ns = time.monotonic_ns()
        try:
            sample = await probe(address, plan.shape, witness)
        except FaultError as error:
            queue.put_nowait(error)
        else:
            queue.put_nowait(_Shot(number, started_ns, time.monotonic_ns(), sample))

    async def send() -> None:
        nonlocal sent
        due = began
        while True:
            task = loop.create_task(shoot(sent))
            sent += 1
            shots.add(task)
            task.add_done_callback(shots.discard)
            # Late is late: a loop that stood still is not made up for by a burst.
            due = max(due + PERIOD_S, loop.time())
            await asyncio.sleep(due - loop.time())

    async def collect() -> Evidence:
        while True:
            shot = await queue.get()
            if isinstance(shot, FaultError):
                raise shot
            if judge(shot):
                return _evidence(phase, plan, base, shot, sent, loop.time() - began)

    collector = loop.create_task(collect())
    tasks: set[asyncio.Task[Any]] = {collector, loop.create_task(send()), loop.create_task(stop.wait())}
    try:
        await asyncio.wait(tasks, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        return collector.result() if collector.done() else None
    finally:
        for task in tasks:
            task.cancel()
        if shots and plan.shape.reply_bytes > _BULKY_BYTES:
            await asyncio.wait(shots, timeout=plan.expected_s + 0.5)
        for task in shots:
            task.cancel()
        await asyncio.gather(*tasks, *shots, return_exceptions=True)


def _evidence(
    phase: Literal["active", "healed"], plan: ProbePlan, base: Baseline, shot: _Shot, sent: int, waited_s: float
) -> Evidence:
    def in_ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds * 1000, 3)

    sample = shot.sample
    return Evidence(
        phase=phase,
        criterion=plan.criterion.name,
        wanted=plan.criterion.describe()
        if phase == "active"
        else "two probes in a row whole, with nothing of the fault",
        probes=sent,
        waited_ms=round(waited_s * 1000, 3),
        baseline_ms=round(base.median_s * 1000, 3),
        started_ns=shot.started_ns,
        ended_ns=shot.ended_ns,
        sample={
            "connect_ms": in_ms(sample.connect_s),
            "first_byte_ms": in_ms(sample.first_byte_s),
            "last_byte_ms": in_ms(sample.last_byte_s),
            "end_ms": in_ms(sample.end_s),
            "bytes": sample.bytes,
            "segments": sample.segments,
            "ended": sample.ended,
            "status": sample.status,
            **({} if sample.fin_s is None else {"fin_ms": in_ms(sample.fin_s)}),
        },
    )

"""
The faults of a scenario, done to the parts of a simulation.

They go through the life that faults have on the wire (`seawall.arenas.injector`), with the same words and evidence;
only what is done, and how it is taken back, is a call here instead of a request to another process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from faults import registry
from faults.base import FaultError, Undo
from faults.criteria import probe_plan
from faults.down import DownFault
from faults.process import Action, ProcessFault
from faults.respond import ReadBack, RespondFault
from faults.toxic import ToxicFault
from seawall.arenas.behaviours import behaviour_of
from seawall.arenas.evidence import Prover
from seawall.arenas.injector import PlannedFault
from seawall.emulators.steps import Behaviour
from seawall.scenario.model import FaultSpec
from seawall.simulation.network import Proxy, Toxic
from seawall.simulation.probe import SimProbeProver
from seawall.simulation.processes import SimProcess
from seawall.simulation.provider import SimulatedProvider

__all__ = ["Deed", "SimFault", "process_fault", "respond_fault", "toxic_fault"]

_NOWHERE = "http://127.0.0.1:1"  # real faults have an address; these only lend their words
_LOOK_EVERY_S = 0.02
_numbers = itertools.count(1)
_deeds: dict[str, Deed] = {}


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault does, how it is taken back, and whether nothing of it is left. `check` raises FaultError."""

    do: Callable[[], None]
    undo: Callable[[], None]
    is_gone: Callable[[], bool]
    check: Callable[[], None] = lambda: None


class SimFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of `faults.base.Fault`'s shape; `described` are a real one's words."""

    id: str
    target: str
    described: str
    deed: Deed

    def describe(self) -> str:
        """Return the fault in a few words."""
        return self.described

    def prepare(self) -> Undo:
        """Return how to undo it, within this process and this run. Raises FaultError."""
        self.deed.check()
        key = str(next(_numbers))
        _deeds[key] = self.deed
        return Undo(kind="simulation", arguments={"key": key})

    def inject(self) -> None:
        """Put it in force."""
        self.deed.do()


def toxic_fault(spec: FaultSpec, start_s: float, proxy: Proxy, provider: SimulatedProvider | None) -> PlannedFault:
    """Return the fault `toxic` of a scenario at `proxy`; `provider` is None for Redis."""
    toxic = spec.toxic
    assert toxic is not None  # noqa: S101 - what the caller has seen
    common: dict[str, Any] = {"id": spec.id, "target": spec.target, "proxy": proxy.name, "url": _NOWHERE}
    if toxic.type == "down":
        real: ToxicFault | DownFault = DownFault(**common)
    else:
        attributes = dict(toxic.attributes)
        kind: dict[str, Any] = {"type": toxic.type, "stream": toxic.stream, "toxicity": toxic.toxicity}
        real = ToxicFault(**common, run="simulated", attributes=attributes, **kind)
    ours = Toxic(
        name=spec.id,
        type=toxic.type,
        stream=toxic.stream,
        toxicity=toxic.toxicity,
        attributes=dict(toxic.attributes),
    )
    deed = Deed(do=lambda: proxy.add(ours), undo=lambda: proxy.remove(spec.id), is_gone=lambda: not proxy.has(spec.id))
    protocol = "resp" if provider is None else "http"
    plan = probe_plan(toxic.type, toxic.stream, toxic.attributes, toxic.toxicity, protocol)
    prover = SimProbeProver(real, plan, proxy, provider)
    return _planned(spec, start_s, real.describe(), deed, prover)


def respond_fault(spec: FaultSpec, start_s: float, provider: SimulatedProvider) -> PlannedFault:
    """Return the fault `respond` of a scenario at `provider`."""
    behaviour = behaviour_of(spec)
    words = RespondFault(id=spec.id, target=spec.target, admin_url=_NOWHERE, token_env="NONE", behaviour=behaviour)  # noqa: S106

    def do() -> None:
        provider.behaviours[spec.id] = behaviour

    def undo() -> None:
        provider.behaviours.pop(spec.id, None)

    deed = Deed(do=do, undo=undo, is_gone=lambda: spec.id not in provider.behaviours)
    return _planned(spec, start_s, words.describe(), deed, _BehaviourProver(provider, behaviour))


def process_fault(spec: FaultSpec, start_s: float, process: SimProcess) -> PlannedFault:
    """Return the fault `process` of a scenario at `process`."""
    action = spec.process
    assert action is not None  # noqa: S101 - what the caller has seen
    words = ProcessFault(id=spec.id, target=spec.target, key="", action=action)

    def check() -> None:
        if not process.is_running:
            raise FaultError(f"fault {spec.id}: {spec.target} does not run, so there is nothing to {action}")

    deed = Deed(
        do=lambda: process.strike(action),
        undo=process.heal,
        is_gone=lambda: process.is_running and not process.is_stopped,
        check=check,
    )
    return _planned(spec, start_s, words.describe(), deed, _ProcessProver(process, action))


def _planned(spec: FaultSpec, start_s: float, described: str, deed: Deed, prover: Prover) -> PlannedFault:
    fault = SimFault(id=spec.id, target=spec.target, described=described, deed=deed)
    return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)


class _BehaviourProver:
    """Reads back what is in force at the provider."""

    by_behaviour = True
    unprovable: str | None = None

    def __init__(self, provider: SimulatedProvider, behaviour: Behaviour) -> None:
        self._provider = provider
        self._behaviour = behaviour

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        return self._read() if self._behaviour.fault_id in self._provider.behaviours else None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return None if self._behaviour.fault_id in self._provider.behaviours else self._read()

    def _read(self) -> dict[str, Any]:
        found = self._provider.behaviours.get(self._behaviour.fault_id)
        return ReadBack(
            provider=self._provider.name,
            fault_id=self._behaviour.fault_id,
            in_force=found is not None,
            behaviour=None if found is None else msgspec.to_builtins(found),
        ).data()


class _ProcessProver:
    """Looks at a process until it is gone, stopped, or serves again."""

    by_behaviour = False
    unprovable: str | None = None

    def __init__(self, process: SimProcess, action: Action) -> None:
        self._process = process
        self._action = action

    async def prepare(self) -> None:
        """See Prover."""

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        return await _until(deadline_s, stop, self._stopped if self._action == "stop" else self._gone)

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        return await _until(deadline_s, asyncio.Event(), self._serves)

    def _stopped(self) -> dict[str, Any] | None:
        process = self._process
        return {"criterion": "stopped", "pid": process.pid, "state": "T"} if process.is_stopped else None

    def _gone(self) -> dict[str, Any] | None:
        process = self._process
        if process.ended is None:
            return None
        pid, code = process.ended
        return {"criterion": "gone", "pid": pid, "exit_code": code, "port_refuses": not process.is_shared}

    def _serves(self) -> dict[str, Any] | None:
        process = self._process
        if not process.is_running or process.is_stopped:
            return None
        return {"criterion": "serves", "pid": process.pid, "answer": process.sign}


async def _until(
    deadline_s: float, stop: asyncio.Event, look: Callable[[], dict[str, Any] | None]
) -> dict[str, Any] | None:
    loop = asyncio.get_running_loop()
    due_s = loop.time() + deadline_s
    while True:
        found = look()
        if found is not None or loop.time() >= due_s or stop.is_set():
            return found
        await asyncio.sleep(_LOOK_EVERY_S)


def _undo(record: Undo, *, deadline_s: float) -> None:
    """Take a fault back. Of a run that is over there is nothing left to take back."""
    deed = _deeds.get(record.arguments["key"])
    if deed is not None:
        deed.undo()


def _verify(record: Undo, *, deadline_s: float) -> bool:
    deed = _deeds.get(record.arguments["key"])
    if deed is None or not deed.is_gone():
        return deed is None
    del _deeds[record.arguments["key"]]
    return True


registry.register("simulation", undo=_undo, verify=_verify)

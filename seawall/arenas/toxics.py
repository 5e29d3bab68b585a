"""From what a scenario says of the wire (`toxic`) to the fault at a proxy, and to what proves it."""

from __future__ import annotations

from typing import Any

from faults.base import FaultError
from faults.criteria import probe_plan
from faults.down import DownFault
from faults.probe import Witness
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo
from seawall.arenas.evidence import ProbeProver
from seawall.arenas.injector import PlannedFault
from seawall.emulators.client import EmulatorClient, EmulatorError
from seawall.scenario.model import FaultSpec

__all__ = ["ping_witness", "planned_toxic_fault"]

_ASK_DEADLINE_S = 1.0


def planned_toxic_fault(
    spec: FaultSpec, start_s: float, proxy: ProxyInfo, *, run: str, url: str, witness: Witness
) -> PlannedFault:
    """
    Return the fault `toxic` of the scenario, bound to `proxy` on the Toxiproxy at `url`.

    `witness` tells what the emulator saw of a ping. Raises ValueError for a fault of another kind.
    """
    toxic = spec.toxic
    if toxic is None:
        raise ValueError(f"fault {spec.id} has no toxic")
    common: dict[str, Any] = {
        "id": spec.id,
        "target": spec.target,
        "proxy": proxy.name,
        "url": url,
        "upstream": proxy.upstream,
    }
    if toxic.type == "down":
        fault = DownFault(**common)
    else:
        fault = ToxicFault(
            **common,
            run=run,
            type=toxic.type,
            stream=toxic.stream,
            toxicity=toxic.toxicity,
            attributes=dict(toxic.attributes),
        )
    protocol = "resp" if spec.target == "redis" else "http"
    plan = probe_plan(toxic.type, toxic.stream, toxic.attributes, toxic.toxicity, protocol)
    prover = ProbeProver(fault, proxy.address, proxy.upstream_address, plan, witness)
    return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)


def ping_witness(admin_url: str, token: str, provider: str) -> Witness:
    """Return what asks the emulator of `provider` when it saw the end of a ping's connection."""
    client = EmulatorClient(admin_url, token, deadline_s=_ASK_DEADLINE_S)

    def seen(ping: str) -> int | None:
        try:
            pings = client.pings(provider)
        except EmulatorError as error:
            raise FaultError(f"provider {provider} cannot be asked what it saw of a ping: {error}") from error
        return next((record.fin_ns for record in reversed(pings) if record.id == ping), None)

    return seen

"""
The scenario language, version 1, as typed models.

The words are the field's own: Toxiproxy's toxics and attributes as they are, k6's executors and thresholds, Chaos
Toolkit's steady state, Polly's injection rate, Antithesis's always / sometimes / eventually. Quantities are stored in
base units (seconds, fractions, requests a second).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from seawall.scenario.expectations import Always, Eventually, Expect, Sometimes, SteadyState, StopWhen, Threshold
from seawall.scenario.harm import FAULT_ARENAS, FaultSpec, Respond, ToxicSpec
from seawall.scenario.load import ArrivalModel, FirstToken, Load, ProviderSpec, Stage, System
from seawall.scenario.problems import shown
from seawall.scenario.words import PROVIDERS, Arena, BreakerState, Identifier, Metric, Model, Provider, Whole

__all__ = [
    "FAULT_ARENAS",
    "PROVIDERS",
    "Always",
    "Arena",
    "ArrivalModel",
    "BreakerState",
    "Eventually",
    "Expect",
    "FaultSpec",
    "FirstToken",
    "Identifier",
    "Load",
    "Metric",
    "Provider",
    "ProviderSpec",
    "Respond",
    "Scenario",
    "Sometimes",
    "Stage",
    "SteadyState",
    "StopWhen",
    "System",
    "Threshold",
    "ToxicSpec",
]


class Scenario(Model):
    """One scenario file."""

    version: Literal[1]
    """The version of the language: 1."""
    title: Annotated[str, Field(min_length=1, max_length=200)]
    """What happens and what is shown, in one sentence."""
    motivation: Annotated[str, Field(max_length=1000)] | None = None
    """The real bug or incident behind it, as a link."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Words to choose scenarios by."""
    arenas: Annotated[tuple[Arena, ...], Field(min_length=1)] = ("wire",)
    """Where it may run."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 1
    """Everything drawn at random derives from it: streams, latencies, which requests a fault takes."""
    system: System = System()
    """What is under test."""
    providers: dict[Provider, ProviderSpec] = Field(default={})
    """How the providers behave while nothing is wrong."""
    load: Load
    """What the clients send."""
    steady_state: SteadyState | None = None
    """What holds before the first fault and again after the last."""
    faults: tuple[FaultSpec, ...] = ()
    """What goes wrong, and when."""
    expect: Expect = Expect()
    """What must hold in this run."""
    allow_refusal: tuple[Literal["budget", "all_down", "airgap"], ...] = ()
    """Refusals that are clean here: the run is then safe instead of failed."""
    stop_when: StopWhen | None = None
    """When to end the run early."""

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        if type(value) is not int or value != 1:
            raise ValueError(f"{shown(value)} is no version of the language that this Seawall reads; write 1")
        return value

    def provider(self, name: Provider) -> ProviderSpec:
        """Return the healthy behaviour of a provider, written or default."""
        return self.providers.get(name, ProviderSpec())

    def fault_starts(self) -> dict[str, float]:
        """Return the planned start of each fault by id, in seconds after the start of the load."""
        starts: dict[str, float] = {}
        by_id = {fault.id: fault for fault in self.faults}

        def start(fault: FaultSpec, seen: tuple[str, ...]) -> float:
            if fault.id in starts:
                return starts[fault.id]
            if fault.at is not None:
                return fault.at
            if fault.id in seen:
                raise ValueError(f"fault {fault.id} follows itself: {' → '.join((*seen, fault.id))}")
            before = by_id.get(fault.follows or "")
            if before is None:
                raise ValueError(f"fault {fault.id} follows {fault.follows}, which is no fault's id")
            return start(before, (*seen, fault.id)) + before.duration + fault.delay

        for fault in self.faults:
            starts[fault.id] = start(fault, ())
        return starts

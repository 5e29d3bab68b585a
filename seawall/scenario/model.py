"""
The scenario language, version 1, as typed models.

The words are the field's own: Toxiproxy's toxics and attributes as they are, k6's executors and thresholds, Chaos
Toolkit's steady state, Polly's injection rate, Antithesis's always / sometimes / eventually. Quantities are stored in
base units (seconds, fractions, requests a second, US dollars).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from seawall.plan import duration_of
from seawall.scenario.cluster import ClusterSpec
from seawall.scenario.expectations import Always, Eventually, Expect, Sometimes, SteadyState, StopWhen, Threshold
from seawall.scenario.harm import FAULT_ARENAS, FAULT_TARGETS, FaultKind, FaultSpec, Respond, ToxicSpec
from seawall.scenario.load import ArrivalModel, FirstToken, Load, ProviderSpec, Stage, System
from seawall.scenario.problems import shown
from seawall.scenario.words import (
    PROVIDERS,
    Arena,
    BreakerState,
    Flag,
    Identifier,
    Metric,
    Model,
    Provider,
    SkipReason,
    Target,
    Whole,
)

__all__ = [
    "FAULT_ARENAS",
    "FAULT_TARGETS",
    "PROVIDERS",
    "Always",
    "Arena",
    "ArrivalModel",
    "BreakerState",
    "ClusterSpec",
    "Eventually",
    "Expect",
    "FaultKind",
    "FaultSpec",
    "FirstToken",
    "Identifier",
    "Load",
    "Metric",
    "Provider",
    "ProviderSpec",
    "Respond",
    "Scenario",
    "SkipReason",
    "Sometimes",
    "Stage",
    "SteadyState",
    "StopWhen",
    "System",
    "Target",
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
    exclusive: Flag = False
    """Whether it judges latency so closely that nothing else may run beside it."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 1
    """Everything drawn at random derives from it: streams, latencies, which requests a fault takes."""
    system: System = System()
    """What is under test."""
    cluster: ClusterSpec | None = None
    """Its pods, where it runs as such: in the arena cluster, and in the simulation of one."""
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
    allow_refusal: tuple[Literal["budget", "all_down", "airgap", "transcripts"], ...] = ()
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

    @property
    def load_end_s(self) -> float:
        """When the load is over, in seconds after its start."""
        return duration_of(self.load.plan(self.seed))

    @property
    def needs_redis(self) -> bool:
        """Whether a run needs a Redis: for the budget, for breakers, or because a fault is aimed at it."""
        stores = [v for k, v in self.system.settings.items() if k.lower() in ("budget_store", "breaker_store")]
        used = any(str(store).lower() == "redis" for store in stores)
        return used or any(fault.target in ("redis", "budget") for fault in self.faults)

    @property
    def parts(self) -> tuple[Literal["collector", "key_service"], ...]:
        """What a run on the wire needs beside providers and Redis: a collector of traces, a key service."""
        settings = {name.lower(): str(value) for name, value in self.system.settings.items()}
        collector = ("collector",) if settings.get("telemetry") == "otel" else ()
        return (*collector, "key_service") if self.system.transcripts else collector

    def occurrences(self, fault_id: str) -> tuple[float, ...]:
        """Return every planned start of a fault, in seconds after the start of the load. Raises KeyError."""
        fault = {fault.id: fault for fault in self.faults}[fault_id]
        return fault.starts_from(self.fault_starts()[fault_id], self.load_end_s)

    def fault_starts(self) -> dict[str, float]:
        """Return the planned first start of each fault by id, in seconds after the start of the load."""
        starts: dict[str, float] = {}
        by_id = {fault.id: fault for fault in self.faults}
        load_end_s = self.load_end_s

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
            last_s = before.starts_from(start(before, (*seen, fault.id)), load_end_s)[-1]
            return last_s + before.duration + fault.delay

        for fault in self.faults:
            starts[fault.id] = start(fault, ())
        return starts

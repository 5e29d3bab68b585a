"""
The scenario language, version 1, as typed models.

The words are the field's own: Toxiproxy's toxics and attributes as they are, k6's executors and thresholds, Chaos
Toolkit's steady state, Polly's injection rate, Antithesis's always / sometimes / eventually. Quantities are stored in
base units (seconds, fractions, requests a second).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from seawall.plan import ArrivalSpec, LoadPlan, RateStage
from seawall.scenario.quantities import Duration, LimitText, Rate, Share

__all__ = [
    "PROVIDERS",
    "Always",
    "Eventually",
    "Expect",
    "FaultSpec",
    "FirstToken",
    "Load",
    "ProviderSpec",
    "Respond",
    "Scenario",
    "Sometimes",
    "SteadyState",
    "StopWhen",
    "System",
    "Threshold",
    "ToxicSpec",
]

Provider = Literal["gemini", "claude", "openai", "local"]
PROVIDERS: tuple[Provider, ...] = ("gemini", "claude", "openai", "local")
Arena = Literal["simulation", "wire", "cluster"]
BreakerState = Literal["closed", "open", "half_open"]
Metric = Literal[
    "success_rate",
    "refused_rate",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "latency_max",
    "first_token_p50",
    "first_token_p95",
    "first_token_p99",
    "refusal_latency_max",
    "requests",
]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class FirstToken(_Model):
    """Time to the first token of a healthy answer: a log-normal distribution by two of its quantiles."""

    p50: Duration
    p99: Duration

    @model_validator(mode="after")
    def _ordered(self) -> FirstToken:
        if self.p99 < self.p50:
            raise ValueError("p99 is below p50; write the larger duration at p99")
        return self


class ProviderSpec(_Model):
    """How a provider behaves when nothing is wrong."""

    first_token: FirstToken = FirstToken.model_construct(p50=0.02, p99=0.05)
    tokens_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 200.0
    tokens: Annotated[int, Field(ge=1, le=100_000)] = 16


class System(_Model):
    """What is under test, and its settings by the names that its own documentation uses."""

    gateway: Literal["seawall"] = "seawall"
    settings: dict[str, str | int | float | bool] = {}


class Stage(_Model):
    """A stretch of a ramp: reach `target` within `duration`."""

    target: Rate
    duration: Duration


class ArrivalModel(_Model):
    """One arrival of the executor `arrivals`."""

    at: Duration
    stream: bool = False


class Load(_Model):
    """What the clients send, planned beforehand (open loop)."""

    executor: Literal["constant-arrival-rate", "ramping-arrival-rate", "arrivals"]
    rate: Rate | None = None
    start_rate: Rate | None = None
    duration: Duration | None = None
    stages: tuple[Stage, ...] = ()
    arrivals: tuple[ArrivalModel, ...] = ()
    stream: Share = 0.0
    prompts: Literal["short", "long"] = "short"
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    model: str = "gemini"
    deadline: Duration = 30.0

    @model_validator(mode="after")
    def _complete(self) -> Load:
        needs = {
            "constant-arrival-rate": ("rate", "duration"),
            "ramping-arrival-rate": ("stages",),
            "arrivals": ("arrivals",),
        }[self.executor]
        missing = [name for name in needs if not getattr(self, name)]
        if missing:
            raise ValueError(f"executor {self.executor} needs {' and '.join(missing)}, above zero")
        foreign = {"rate", "duration", "stages", "arrivals", "start_rate"} - set(needs)
        if self.executor == "ramping-arrival-rate":
            foreign.discard("start_rate")
        extra = sorted(name for name in foreign if getattr(self, name))
        if extra:
            raise ValueError(f"executor {self.executor} does not use {', '.join(extra)}; take it out")
        return self

    def plan(self, seed: int) -> LoadPlan:
        """Return the load in the form that load generators execute."""
        stages: list[RateStage] = []
        if self.executor == "constant-arrival-rate" and self.rate and self.duration:
            stages = [RateStage(duration_s=self.duration, start_rate=self.rate, end_rate=self.rate)]
        rate = self.start_rate or 0.0
        for stage in self.stages:
            stages.append(RateStage(duration_s=stage.duration, start_rate=rate, end_rate=stage.target))
            rate = stage.target
        return LoadPlan(
            executor=self.executor,
            seed=seed,
            stages=tuple(stages),
            arrivals=tuple(
                ArrivalSpec(at_s=a.at, stream=a.stream, prompt=self.prompts, max_tokens=self.max_tokens)
                for a in self.arrivals
            ),
            stream_share=self.stream,
            prompts=self.prompts,
            max_tokens=self.max_tokens,
            model=self.model,
            deadline_s=self.deadline,
        )


class SteadyState(_Model):
    """What holds in the `window` before the first fault, and again in the window after the last has healed."""

    window: Duration = 5.0
    success_rate: LimitText | None = None
    latency_p50: LimitText | None = None
    latency_p95: LimitText | None = None
    latency_p99: LimitText | None = None


class ToxicSpec(_Model):
    """A Toxiproxy toxic, its type and attributes by Toxiproxy's own names (milliseconds where Toxiproxy has them)."""

    type: Literal["latency", "timeout", "reset_peer"]
    attributes: dict[str, int] = {}
    stream: Literal["downstream", "upstream"] = "downstream"
    toxicity: Share = 1.0

    @model_validator(mode="after")
    def _known_attributes(self) -> ToxicSpec:
        known = {"latency": {"latency", "jitter"}, "timeout": {"timeout"}, "reset_peer": {"timeout"}}[self.type]
        unknown = sorted(set(self.attributes) - known)
        if unknown:
            raise ValueError(
                f"toxic {self.type} has no attribute {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        if self.type == "latency" and self.attributes.get("latency", 0) <= 0:
            raise ValueError("toxic latency needs the attribute latency, in milliseconds above 0")
        if any(value < 0 for value in self.attributes.values()):
            raise ValueError("attributes of a toxic are milliseconds from 0 up")
        return self


class Respond(_Model):
    """What the provider itself does wrong."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after: Duration | None = None
    first_token: Duration | None = None
    hang: bool = False
    cut_after_chunks: Annotated[int, Field(ge=0, le=100_000)] | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Respond:
        chosen = [
            n for n in ("status", "first_token", "hang", "cut_after_chunks") if getattr(self, n) not in (None, False)
        ]
        if len(chosen) != 1:
            raise ValueError("respond takes exactly one of status, first_token, hang, cut_after_chunks")
        if self.retry_after is not None and self.status is None:
            raise ValueError("retry_after belongs to a status; add one, such as status: 429")
        return self


class FaultSpec(_Model):
    """One fault: when (`at`, or `follows` + `delay`), how long, at whom, and exactly one kind of harm."""

    id: Identifier
    at: Duration | None = None
    follows: Identifier | None = None
    delay: Duration = 0.0
    duration: Duration
    target: Provider
    toxic: ToxicSpec | None = None
    respond: Respond | None = None
    injection_rate: Share = 1.0

    @model_validator(mode="after")
    def _one_kind(self) -> FaultSpec:
        kinds = [name for name in ("toxic", "respond") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError("a fault takes exactly one of toxic, respond")
        if (self.at is None) == (self.follows is None):
            raise ValueError("a fault takes exactly one of at, follows")
        if self.toxic is not None and self.injection_rate != 1.0:
            raise ValueError("injection_rate belongs to respond; a toxic has toxicity, which is a connection's")
        return self


class Always(_Model):
    """Holds on every event, and is checked at least once."""

    calls_to: Provider
    state: BreakerState | None = Field(default=None, alias="while")
    during: Identifier | None = None
    at_most: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _when(self) -> Always:
        if (self.state is None) == (self.during is None):
            raise ValueError("calls_to takes exactly one of while, during")
        return self


class Sometimes(_Model):
    """Happens at least once: the scenario did exercise what it claims."""

    breaker: Provider | None = None
    reaches: BreakerState | None = None
    served_by: Provider | None = None
    refused: Literal["all_clouds_down", "budget_exceeded", "airgap"] | None = None
    requests: LimitText | None = None
    during: Identifier | None = None

    @model_validator(mode="after")
    def _shape(self) -> Sometimes:
        if sum(x is not None for x in (self.breaker, self.served_by, self.refused)) != 1:
            raise ValueError("takes exactly one of breaker (with reaches), served_by or refused (with requests)")
        if (self.breaker is None) != (self.reaches is None):
            raise ValueError("breaker and reaches belong together")
        if self.breaker is None and self.requests is None:
            raise ValueError('served_by and refused need requests, such as requests: ">= 20"')
        return self


class Eventually(_Model):
    """Becomes true within `within` after the fault has healed, and holds until the next fault or the load's end."""

    breaker: Provider | None = None
    state: BreakerState | None = None
    served_by: Provider | None = None
    share: LimitText | None = None
    within: Duration
    after: Identifier

    @model_validator(mode="after")
    def _shape(self) -> Eventually:
        if (self.breaker is None) == (self.served_by is None):
            raise ValueError("takes exactly one of breaker (with state), served_by (with share)")
        if (self.breaker is None) != (self.state is None):
            raise ValueError("breaker and state belong together")
        if (self.served_by is None) != (self.share is None):
            raise ValueError('served_by and share belong together, such as share: ">= 95%"')
        return self


class Threshold(_Model):
    """A limit on a metric over the whole load, or over the time of a fault, or after it."""

    metric: Metric
    limit: LimitText
    during: Identifier | None = None
    after: Identifier | None = None
    severity: Literal["required", "advisory"] = "required"


class Expect(_Model):
    """What must hold beside the invariants."""

    always: tuple[Always, ...] = ()
    sometimes: tuple[Sometimes, ...] = ()
    eventually: tuple[Eventually, ...] = ()
    thresholds: tuple[Threshold, ...] = ()


class StopWhen(_Model):
    """Ends the run early: the success rate over the last `for_` seconds is within the limit."""

    success_rate: LimitText
    for_: Duration = Field(alias="for")


class Scenario(_Model):
    """One scenario file."""

    version: Literal[1]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    motivation: str | None = None
    tags: tuple[str, ...] = ()
    arenas: tuple[Arena, ...] = ("wire",)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    system: System = System()
    providers: dict[Provider, ProviderSpec] = {}
    load: Load
    steady_state: SteadyState | None = None
    faults: tuple[FaultSpec, ...] = ()
    expect: Expect = Expect()
    allow_refusal: tuple[Literal["budget", "all_down", "airgap"], ...] = ()
    stop_when: StopWhen | None = None

    @field_validator("version", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        if type(value) is not int or value != 1:
            raise ValueError(f"this Seawall reads version 1, not {value!r}")
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

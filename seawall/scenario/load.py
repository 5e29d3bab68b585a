"""The part of the scenario language that is not harm: providers in health, the system under test, and the load."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from seawall.plan import ArrivalSpec, LoadPlan, RateStage
from seawall.scenario.problems import Misplaced
from seawall.scenario.quantities import Duration, PositiveDuration, Rate, Share
from seawall.scenario.words import Flag, Model, Number, Whole

__all__ = ["ArrivalModel", "FirstToken", "Load", "ProviderSpec", "Stage", "System"]


def _setting(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError("a setting is one value; write text, a number, true or false")


class FirstToken(Model):
    """Time to the first token of a healthy answer: a log-normal distribution by two of its quantiles."""

    p50: Duration
    """The median."""
    p99: Duration
    """One answer in a hundred takes longer. At least `p50`."""

    @model_validator(mode="after")
    def _ordered(self) -> FirstToken:
        if self.p99 < self.p50:
            raise Misplaced("p99 is below p50; write the larger duration at p99", ("p99",))
        return self


class ProviderSpec(Model):
    """How a provider behaves when nothing is wrong."""

    first_token: FirstToken = FirstToken.model_construct(p50=0.02, p99=0.05)
    """Time from the request to the first token."""
    tokens_per_second: Annotated[Number, Field(gt=0, le=1_000_000)] = 200.0
    """How fast the tokens follow one another."""
    tokens: Annotated[Whole, Field(ge=1, le=100_000)] = 16
    """Tokens of a whole answer."""


class System(Model):
    """What is under test, and its settings by the names that its own documentation uses."""

    gateway: Literal["seawall", "litellm", "portkey", "tensorzero", "bifrost", "direct"] = "seawall"
    """The gateway under test; `seawall run --system` names another."""
    workers: Annotated[Whole, Field(ge=1, le=16)] = 1
    """How many processes of it share one port. A fault at `gateway` takes the first of them."""
    settings: dict[str, Annotated[str | int | float | bool, BeforeValidator(_setting)]] = Field(default={})
    """The gateway's settings, in upper or lower case; durations with a unit. Never a key or a password."""
    transcripts: Literal["closed", "open"] | None = None
    """Keep a sealed transcript of every answer, each request a subject of its own, with keys of a key service; while
    one cannot be sealed: `closed` refuses the request, `open` answers it unrecorded."""


class Stage(Model):
    """A stretch of a ramp: reach `target` within `duration`."""

    target: Rate
    """The rate at the end of the stage."""
    duration: PositiveDuration
    """How long the stage takes."""


class ArrivalModel(Model):
    """One arrival of the executor `arrivals`, or several at the same moment."""

    at: Duration
    """When it is sent, after the start of the load."""
    count: Annotated[Whole, Field(ge=1, le=100_000)] = 1
    """How many are sent at that moment."""
    stream: Flag = False
    """Whether it asks for a stream."""


class Load(Model):
    """What the clients send, planned beforehand (open loop)."""

    executor: Literal["constant-arrival-rate", "ramping-arrival-rate", "arrivals"]
    """How arrivals are planned: an even rate, a rate that ramps through stages, or a list written out."""
    rate: Rate | None = None
    """Requests per unit of time (constant-arrival-rate)."""
    start_rate: Rate | None = None
    """The rate at the start of the first stage (ramping-arrival-rate); 0 unless said."""
    duration: Duration | None = None
    """How long requests are sent (constant-arrival-rate)."""
    stages: tuple[Stage, ...] = ()
    """The stages of the ramp, in order (ramping-arrival-rate)."""
    arrivals: tuple[ArrivalModel, ...] = ()
    """Every request (arrivals)."""
    stream: Share = 0.0
    """The share of requests that ask for a stream, drawn from the seed."""
    prompts: Literal["short", "long"] = "short"
    """The length of the prompts."""
    max_tokens: Annotated[Whole, Field(ge=1, le=100_000)] = 64
    """The longest answer that a request asks for, in tokens."""
    model: Annotated[str, Field(min_length=1, max_length=200)] = "gemini"
    """What the client sends as `model`: whom or what to prefer, `seawall` for no wish, `auto` for cost arbitrage."""
    deadline: PositiveDuration = 30.0
    """How long a client waits for the whole answer before it calls the request hung."""

    @model_validator(mode="after")
    def _complete(self) -> Load:
        needs = {
            "constant-arrival-rate": ("rate", "duration"),
            "ramping-arrival-rate": ("stages",),
            "arrivals": ("arrivals",),
        }[self.executor]
        missing = [name for name in needs if not getattr(self, name)]
        if missing:
            raise ValueError(f"executor {self.executor} lacks {' and '.join(missing)}; write it, above zero")
        foreign = {"rate", "duration", "stages", "arrivals", "start_rate"} - set(needs)
        if self.executor == "ramping-arrival-rate":
            foreign.discard("start_rate")
        extra = sorted(name for name in foreign if getattr(self, name))
        if extra:
            message = f"executor {self.executor} does not use {', '.join(extra)}; take it out"
            raise Misplaced(message, (extra[0],), on_key=True)
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
                ArrivalSpec(at_s=a.at, count=a.count, stream=a.stream, prompt=self.prompts, max_tokens=self.max_tokens)
                for a in self.arrivals
            ),
            stream_share=self.stream,
            prompts=self.prompts,
            max_tokens=self.max_tokens,
            model=self.model,
            deadline_s=self.deadline,
        )

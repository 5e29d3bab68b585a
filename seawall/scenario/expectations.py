"""The part of the scenario language that says what must hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seawall.scenario.cluster import Scaling
from seawall.scenario.problems import Misplaced
from seawall.scenario.quantities import LimitText, PositiveDuration
from seawall.scenario.words import BreakerState, Identifier, Metric, Model, Provider, Reached, SkipReason, Whole

__all__ = ["Always", "Eventually", "Expect", "Sometimes", "SteadyState", "StopWhen", "Threshold"]


class SteadyState(Model):
    """What holds in the `window` before the first fault, and again in the window after the last has healed."""

    window: PositiveDuration = 5.0
    """How long each of the two windows is."""
    success_rate: LimitText | None = None
    """Limit on the share of whole answers."""
    latency_p50: LimitText | None = None
    """Limit on the median time to the whole answer."""
    latency_p95: LimitText | None = None
    """Limit on the 95th percentile of the time to the whole answer."""
    latency_p99: LimitText | None = None
    """Limit on the 99th percentile of the time to the whole answer; needs 100 requests in the window."""


class Always(Model):
    """Holds on every event, and is checked at least once."""

    calls_to: Provider
    """The provider whose calls are counted."""
    state: BreakerState | None = Field(default=None, alias="while")
    """Count the calls that start while its breaker is in this state; the probe is not counted."""
    during: Identifier | None = None
    """Count the calls that start while this fault is in force."""
    at_most: Annotated[Whole, Field(ge=0, le=1_000_000_000)]
    """The most calls that may be counted."""

    @model_validator(mode="after")
    def _when(self) -> Always:
        if (self.state is None) == (self.during is None):
            raise ValueError("calls_to is counted over exactly one time; write one of while, during")
        return self


class Sometimes(Model):
    """Happens at least once: the scenario did exercise what it claims."""

    breaker: Provider | None = None
    """The provider whose breaker is watched."""
    latency: Provider | None = None
    """The provider whose response times are watched: it grows too slow before anything fails, or fast again."""
    reaches: Reached | None = None
    """With `breaker`: the state that it reaches in any worker. With `latency`: slow or fast."""
    served_by: Provider | None = None
    """The provider whose whole answers are counted."""
    refused: Literal["all_clouds_down", "budget_exceeded", "airgap", "transcripts_down"] | None = None
    """The refusal that is counted."""
    skipped: Provider | None = None
    """The provider that is left out of the route of a request."""
    reason: SkipReason | None = None
    """With `skipped`: why."""
    requests: LimitText | None = None
    """With `served_by`, `refused` or `skipped`: how many requests."""
    during: Identifier | None = None
    """Only while this fault is in force."""

    @model_validator(mode="after")
    def _shape(self) -> Sometimes:
        counted = (self.served_by, self.refused, self.skipped)
        if sum(x is not None for x in (self.breaker, self.latency, *counted)) != 1:
            raise ValueError(
                "sometimes watches exactly one thing; write breaker or latency with reaches, "
                "or served_by, refused or skipped with requests"
            )
        if (self.breaker is None and self.latency is None) != (self.reaches is None):
            raise ValueError("breaker or latency and reaches belong together; write both, or neither")
        if self.reaches is not None and (self.latency is not None) != (self.reaches in ("slow", "fast")):
            takes = "slow, fast" if self.latency is not None else "closed, open, half_open"
            what = "latency" if self.latency is not None else "breaker"
            raise Misplaced(f"a {what} never reaches {self.reaches}; write one of {takes}", ("reaches",))
        if self.reason is not None and self.skipped is None:
            message = "reason belongs to skipped; add a provider, such as skipped: gemini"
            raise Misplaced(message, ("reason",), on_key=True)
        if self.reaches is None and self.requests is None:
            raise ValueError('served_by, refused and skipped need a count; add one, such as requests: ">= 20"')
        if self.reaches is not None and self.requests is not None:
            raise Misplaced("reaches is not counted in requests; take it out", ("requests",), on_key=True)
        return self


class Eventually(Model):
    """Becomes true within `within` after the fault has healed, and holds until the next fault or the load's end."""

    breaker: Provider | None = None
    """The provider whose breaker is watched."""
    state: BreakerState | None = None
    """With `breaker`: the state that it takes in every worker that served a request."""
    served_by: Provider | None = None
    """The provider whose part of the whole answers is watched."""
    share: LimitText | None = None
    """With `served_by`: how large its part is, over a sliding window of 1 s or 20 requests."""
    within: PositiveDuration
    """The latest time after the fault has healed."""
    after: Identifier
    """The fault."""

    @model_validator(mode="after")
    def _shape(self) -> Eventually:
        if (self.breaker is None) == (self.served_by is None):
            raise ValueError("eventually watches exactly one thing; write breaker with state, or served_by with share")
        if (self.breaker is None) != (self.state is None):
            raise ValueError("breaker and state belong together; write both, or neither")
        if (self.served_by is None) != (self.share is None):
            raise ValueError('served_by and share belong together; write both, such as share: ">= 95%"')
        return self


class Threshold(Model):
    """A limit on a metric over the whole load, or over the time of a fault, or after it."""

    metric: Metric
    """What is measured, at the client; `spend_usd` is all that the run has paid."""
    limit: LimitText
    """What it has to be: a share for rates, a duration for latencies, a count for requests, USD for money."""
    during: Identifier | None = None
    """Only requests that start while this fault is in force."""
    after: Identifier | None = None
    """Only requests that start after this fault has healed."""
    severity: Literal["required", "advisory"] = "required"
    """A missed advisory limit makes the run partial, not failed."""

    @model_validator(mode="after")
    def _one_time(self) -> Threshold:
        if self.during is not None and self.after is not None:
            raise Misplaced("a threshold has at most one time; keep one of during, after", ("after",), on_key=True)
        time = "during" if self.during is not None else "after" if self.after is not None else None
        if self.metric == "spend_usd" and time is not None:
            raise Misplaced(f"spend_usd is that of the whole run; take {time} out", (time,), on_key=True)
        return self


class Expect(Model):
    """What must hold beside the invariants."""

    always: tuple[Always, ...] = ()
    """What holds on every event."""
    sometimes: tuple[Sometimes, ...] = ()
    """What happens at least once."""
    eventually: tuple[Eventually, ...] = ()
    """What becomes true after a fault, and stays."""
    thresholds: tuple[Threshold, ...] = ()
    """Limits on metrics."""
    scaling: tuple[Scaling, ...] = ()
    """What holds of the number of pods."""


class StopWhen(Model):
    """Ends the run early: the success rate over the last `for_` seconds is within the limit."""

    success_rate: LimitText
    """The limit on the share of whole answers that stops the run."""
    for_: PositiveDuration = Field(alias="for")
    """Over how long a time."""

"""
The plan: every arrival and every fault in time, made from the scenario and its seed before anything starts.

Pure and cheap to import: the Locust process and the simulation load it and only execute what it lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Literal

import msgspec

from seawall.answers import marked
from seawall.draws import unit

__all__ = ["Arrival", "ArrivalSpec", "LoadPlan", "RateStage", "arrivals", "count_of", "duration_of"]

_PROMPTS = {
    "short": "What does a seawall do?",
    "long": "Explain, for somebody who has never seen the sea, what a seawall does and when it fails. " * 8,
}


class RateStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of load: the rate (requests a second) goes from `start_rate` to `end_rate` evenly."""

    duration_s: float
    start_rate: float
    end_rate: float


class ArrivalSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One arrival written out in the scenario (executor `arrivals`), or `count` of them at the same moment."""

    at_s: float
    count: int = 1
    stream: bool = False
    prompt: str = "short"
    max_tokens: int = 64


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The load of a scenario, small enough to hand to another process as JSON."""

    executor: Literal["constant-arrival-rate", "ramping-arrival-rate", "arrivals"]
    seed: int
    stages: tuple[RateStage, ...] = ()
    arrivals: tuple[ArrivalSpec, ...] = ()
    stream_share: float = 0.0
    prompts: Literal["short", "long"] = "short"
    max_tokens: int = 64
    model: str = "auto-chain"
    """What the client sends as `model`."""
    deadline_s: float = 30.0
    """How long the client waits for the whole answer before it calls the request `hung`."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request to send: `at_s` seconds after the start of the load, whatever the system does meanwhile."""

    n: int
    request_id: str
    at_s: float
    prompt: str
    stream: bool
    max_tokens: int


def arrivals(plan: LoadPlan, worker: int = 0, workers: int = 1) -> Iterator[Arrival]:
    """Yield the arrivals of worker `worker` of `workers` (every n-th of all), in order of time, lazily."""
    for n, (at_s, stream, prompt, max_tokens) in enumerate(_all(plan)):
        if n % workers == worker:
            request_id = f"{n:06d}"
            text = marked(request_id, _PROMPTS.get(prompt, prompt))
            yield Arrival(n=n, request_id=request_id, at_s=at_s, prompt=text, stream=stream, max_tokens=max_tokens)


def duration_of(plan: LoadPlan) -> float:
    """Return the seconds from the start of the load to its planned end."""
    if plan.executor == "arrivals":
        return max((spec.at_s for spec in plan.arrivals), default=0.0)
    return sum(stage.duration_s for stage in plan.stages)


def count_of(plan: LoadPlan) -> int:
    """Return how many arrivals the plan has."""
    if plan.executor == "arrivals":
        return sum(spec.count for spec in plan.arrivals)
    return sum(1 for _ in _times(plan.stages))


def _all(plan: LoadPlan) -> Iterator[tuple[float, bool, str, int]]:
    if plan.executor == "arrivals":
        for spec in sorted(plan.arrivals, key=lambda spec: spec.at_s):
            yield from repeat((spec.at_s, spec.stream, spec.prompt, spec.max_tokens), spec.count)
        return
    for n, at_s in enumerate(_times(plan.stages)):
        stream = unit(plan.seed, "stream", n) < plan.stream_share
        yield at_s, stream, plan.prompts, plan.max_tokens


def _times(stages: tuple[RateStage, ...]) -> Iterator[float]:
    """
    Yield the moments at which the integral of the rate passes 0, 1, 2, …

    Within a stage the rate is r(t) = a + b t, so the k-th arrival solves a t + b t²/2 = k.
    """
    start_s = 0.0
    due = 0.0  # arrivals of this stage that are still owed to the fraction of the stage before
    for stage in stages:
        slope = (stage.end_rate - stage.start_rate) / stage.duration_s
        total = (stage.start_rate + stage.end_rate) / 2 * stage.duration_s
        while due < total - 1e-9:
            yield start_s + _solve(stage.start_rate, slope, due)
            due += 1
        due -= total
        start_s += stage.duration_s


def _solve(rate: float, slope: float, amount: float) -> float:
    # The textbook form, (-rate + sqrt(…)) / slope, loses its digits where the rate hardly changes.
    root = max(rate * rate + 2 * slope * amount, 0.0) ** 0.5
    return 2 * amount / (rate + root) if amount else 0.0

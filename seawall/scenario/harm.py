"""The part of the scenario language that says what goes wrong, with whom and when."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, model_validator

from seawall.scenario.cluster import ChaosMesh
from seawall.scenario.problems import Misplaced
from seawall.scenario.quantities import Duration, Money, Period, PositiveDuration, PositiveShare, Skew, parse_duration
from seawall.scenario.respond import RESPOND_KINDS, Respond
from seawall.scenario.toxics import TOXIC_ATTRIBUTES, ToxicSpec
from seawall.scenario.words import PARTS, PROVIDERS, Arena, Identifier, Model, Target

__all__ = [
    "FAULT_ARENAS",
    "FAULT_TARGETS",
    "OCCURRENCES_MAX",
    "RESPOND_KINDS",
    "TOXIC_ATTRIBUTES",
    "FaultKind",
    "FaultSpec",
    "Respond",
    "ToxicSpec",
]

FaultKind = Literal["toxic", "respond", "process", "remaining", "clock_skew", "chaos_mesh", "rollout", "metrics_outage"]
FAULT_ARENAS: dict[FaultKind, tuple[Arena, ...]] = {
    "toxic": ("simulation", "wire"),
    "respond": ("simulation", "wire"),
    "process": ("simulation", "wire"),
    "remaining": ("simulation", "wire"),
    "clock_skew": ("simulation",),
    "chaos_mesh": ("simulation", "cluster"),
    "rollout": ("cluster",),
    "metrics_outage": ("simulation", "cluster"),
}
"""Which arenas take which kind of fault. Another pair is a bad scenario, never a skip."""
FAULT_TARGETS: dict[FaultKind, tuple[Target, ...]] = {
    "toxic": (*PROVIDERS, "redis", *PARTS),
    "respond": PROVIDERS,
    "process": ("gateway", "redis", "toxiproxy"),
    "remaining": ("budget",),
    "clock_skew": ("gateway",),
    "chaos_mesh": ("backend",),
    "rollout": ("backend",),
    "metrics_outage": ("metrics_server",),
}
"""At whom which kind of fault can be aimed."""
OCCURRENCES_MAX = 100
"""How often a fault may start in one run."""


def _of(kind: FaultKind) -> Any:
    return Field(json_schema_extra={"x-arenas": list(FAULT_ARENAS[kind]), "x-targets": list(FAULT_TARGETS[kind])})


def _either_duration(schema: dict[str, Any]) -> None:
    """Say in the schema that `restart_after` may stand for `duration`."""
    schema["required"].remove("duration")
    schema["oneOf"] = [{"required": ["duration"]}, {"required": ["restart_after"]}]


class FaultSpec(Model):
    """One fault: when (`at`, or `follows` + `delay`), how long, at whom, and exactly one kind of harm."""

    model_config = ConfigDict(json_schema_extra=_either_duration)

    id: Identifier
    """Its name in expectations and reports."""
    at: Duration | None = None
    """When it starts, after the start of the load."""
    follows: Identifier | None = None
    """The fault after whose planned end it starts: its last one, when that fault repeats."""
    delay: Duration = 0.0
    """With `follows`: the time between the two."""
    duration: PositiveDuration
    """How long it stays in force. Every fault ends."""
    every: Period | None = None
    """Start it again this long after its last start, as often as it fits into the load; `@every 1m` is `1m`."""
    target: Target
    """At whom."""
    toxic: Annotated[ToxicSpec | None, _of("toxic")] = None
    """Harm on the wire between the gateway and a provider, Redis, the traces' collector or the key service."""
    respond: Annotated[Respond | None, _of("respond")] = None
    """Harm by the provider itself."""
    process: Annotated[Literal["kill", "stop", "restart"] | None, _of("process")] = None
    """Harm to a process: kill it and start it again at the end, stop it and let it go on at the end, or restart it."""
    restart_after: PositiveDuration | None = None
    """With `process: kill` or `restart`: another word for `duration`."""
    remaining: Annotated[Money | None, _of("remaining")] = None
    """Only this much of the day's spend limit is left."""
    clock_skew: Annotated[Skew | None, _of("clock_skew")] = None
    """The clock on the wall of the first worker is this much fast, or slow: the budget's day, dates in Retry-After."""
    chaos_mesh: Annotated[ChaosMesh | None, _of("chaos_mesh")] = None
    """Harm to the pods by Chaos Mesh."""
    rollout: Annotated[Literal["restart", "unready"] | None, _of("rollout")] = None
    """Replace all pods one by one; `unready`: by such that never get ready, taken back at the end."""
    metrics_outage: Annotated[Literal["unavailable", "empty"] | None, _of("metrics_outage")] = None
    """The metrics API answers 503, or knows of no pod."""
    injection_rate: PositiveShare = 1.0
    """With `respond`: the share of requests it takes, drawn from the seed."""

    @property
    def kind(self) -> FaultKind:
        """Which kind of harm it does."""
        return next(kind for kind in FAULT_ARENAS if getattr(self, kind) is not None)

    @property
    def arenas(self) -> tuple[Arena, ...]:
        """Where it can be made."""
        if self.chaos_mesh is not None and not self.chaos_mesh.is_pod_kill:
            return ("cluster",)
        if self.target in PARTS:
            return ("wire",)
        return FAULT_ARENAS[self.kind]

    @property
    def remaining_usd(self) -> float:
        """What `remaining` leaves, in US dollars; 0 without it."""
        return self.remaining or 0.0

    @property
    def remaining_micro_usd(self) -> int:
        """What `remaining` leaves, in micro-dollars; 0 without it."""
        return round(self.remaining_usd * 1_000_000)

    def starts_from(self, first_s: float, load_end_s: float) -> tuple[float, ...]:
        """Return every planned start when the first is at `first_s`; one too many at most of what is allowed."""
        if self.every is None:
            return (first_s,)
        more = math.floor((load_end_s - first_s - self.duration) / self.every + 1e-9)
        return tuple(first_s + n * self.every for n in range(max(0, min(more, OCCURRENCES_MAX)) + 1))

    @model_validator(mode="before")
    @classmethod
    def _either_word(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "duration" in data or "restart_after" not in data:
            return data  # pyright: ignore[reportUnknownVariableType]
        written = cast("dict[str, Any]", data)
        word = written["restart_after"]
        try:
            parse_duration(word)
        except ValueError:
            # It is refused under its own name, and not a second time under another.
            word = "1s"
        return {**written, "duration": word}

    @model_validator(mode="after")
    def _one_kind(self) -> FaultSpec:
        kinds = [name for name in FAULT_ARENAS if getattr(self, name) is not None]
        if len(kinds) != 1:
            message = f"a fault does exactly one kind of harm; write one of {', '.join(FAULT_ARENAS)}"
            raise Misplaced(message, (kinds[1],) if kinds else (), on_key=True)
        if (self.at is None) == (self.follows is None):
            message = "a fault has exactly one start; write one of at, follows"
            raise Misplaced(message, () if self.at is None else ("follows",), on_key=True)
        if self.delay and self.follows is None:
            raise Misplaced("delay belongs to follows; move it into at", ("delay",), on_key=True)
        if self.respond is None and self.injection_rate != 1.0:
            message = "injection_rate belongs to respond; take it out"
            if self.toxic is not None:
                message = "injection_rate belongs to respond; a toxic has toxicity, which is a connection's"
            raise Misplaced(message, ("injection_rate",), on_key=True)
        if self.target not in FAULT_TARGETS[self.kind]:
            takes = ", ".join(FAULT_TARGETS[self.kind])
            raise Misplaced(f"`{self.kind}` has no effect at {self.target}; aim it at one of {takes}", ("target",))
        if self.every is not None and self.every <= self.duration:
            message = "a fault heals before it starts again; write an `every` above the duration"
            raise Misplaced(message, ("every",))
        self._restart()
        return self

    def _restart(self) -> None:
        if self.restart_after is None:
            return
        if self.process not in ("kill", "restart"):
            message = "restart_after belongs to process: kill and process: restart; write duration"
            raise Misplaced(message, ("restart_after",), on_key=True)
        if self.restart_after != self.duration:
            message = "restart_after is another word for duration; keep one of the two"
            raise Misplaced(message, ("restart_after",), on_key=True)

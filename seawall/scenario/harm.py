"""The part of the scenario language that says what goes wrong, with whom and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from seawall.scenario.problems import Misplaced, nearest
from seawall.scenario.quantities import Duration, PositiveDuration, PositiveShare
from seawall.scenario.words import Arena, Flag, Identifier, Model, Provider, Whole

__all__ = ["FAULT_ARENAS", "FaultSpec", "Respond", "ToxicSpec"]

FAULT_ARENAS: dict[str, tuple[Arena, ...]] = {"toxic": ("simulation", "wire"), "respond": ("simulation", "wire")}
"""Which arenas take which kind of fault. Another pair is a bad scenario, never a skip."""
_TOXIC_ATTRIBUTES = {"latency": ("latency", "jitter"), "timeout": ("timeout",), "reset_peer": ("timeout",)}


class ToxicSpec(Model):
    """A Toxiproxy toxic, its type and attributes by Toxiproxy's own names (milliseconds where Toxiproxy has them)."""

    type: Literal["latency", "timeout", "reset_peer"]
    """Which toxic: late bytes, silence, or a reset connection."""
    attributes: dict[str, Whole] = Field(default={})
    """The toxic's own attributes, in milliseconds; a timeout of 0 lasts as long as the fault."""
    stream: Literal["downstream", "upstream"] = "downstream"
    """Which way it works: on answers (downstream) or on requests (upstream)."""
    toxicity: PositiveShare = 1.0
    """The share of *connections* it takes. With keep-alive, half of the connections may be none or all."""

    @model_validator(mode="after")
    def _known_attributes(self) -> ToxicSpec:
        known = _TOXIC_ATTRIBUTES[self.type]
        for name, value in self.attributes.items():
            if name not in known:
                word = nearest(name, known)
                fix = f"did you mean `{word}`?" if word else f"it has {', '.join(known)}"
                raise Misplaced(
                    f"toxic {self.type} has no attribute `{name}`; {fix}", ("attributes", name), on_key=True
                )
            if not 0 <= value <= 86_400_000:
                message = f"{value} is no attribute of a toxic; write milliseconds from 0 to 86400000"
                raise Misplaced(message, ("attributes", name))
        if self.type == "latency" and self.attributes.get("latency", 0) <= 0:
            message = "toxic latency lacks the attribute latency, above 0; write latency: 300 (milliseconds)"
            raise Misplaced(message, ("attributes",))
        return self


class Respond(Model):
    """What the provider itself does wrong."""

    status: Annotated[Whole, Field(ge=400, le=599)] | None = None
    """Answer with this HTTP status and the vendor's error body."""
    retry_after: Duration | None = None
    """With `status`: the `Retry-After` that goes with it."""
    first_token: Duration | None = None
    """Give the first token (or the JSON body) only after this long."""
    hang: Flag = False
    """Take the request and never answer."""
    cut_after_chunks: Annotated[Whole, Field(ge=0, le=100_000)] | None = None
    """Reset the connection after this many tokens (JSON: in the middle of the body)."""

    @model_validator(mode="after")
    def _one_thing(self) -> Respond:
        chosen = [
            n for n in ("status", "first_token", "hang", "cut_after_chunks") if getattr(self, n) not in (None, False)
        ]
        if len(chosen) != 1:
            found = ", ".join(chosen) or "none"
            raise ValueError(
                f"respond does exactly one thing, here {found}; keep one of status, first_token, hang, cut_after_chunks"
            )
        if self.retry_after is not None and self.status is None:
            message = "retry_after belongs to a status; add one, such as status: 429"
            raise Misplaced(message, ("retry_after",), on_key=True)
        return self


class FaultSpec(Model):
    """One fault: when (`at`, or `follows` + `delay`), how long, at whom, and exactly one kind of harm."""

    id: Identifier
    """Its name in expectations and reports."""
    at: Duration | None = None
    """When it starts, after the start of the load."""
    follows: Identifier | None = None
    """The fault after whose planned end it starts."""
    delay: Duration = 0.0
    """With `follows`: the time between the two."""
    duration: PositiveDuration
    """How long it stays in force. Every fault ends."""
    target: Provider
    """At whom."""
    toxic: Annotated[ToxicSpec | None, Field(json_schema_extra={"x-arenas": list(FAULT_ARENAS["toxic"])})] = None
    """Harm on the wire between gateway and provider."""
    respond: Annotated[Respond | None, Field(json_schema_extra={"x-arenas": list(FAULT_ARENAS["respond"])})] = None
    """Harm by the provider itself."""
    injection_rate: PositiveShare = 1.0
    """With `respond`: the share of requests it takes, drawn from the seed."""

    @model_validator(mode="after")
    def _one_kind(self) -> FaultSpec:
        kinds = [name for name in ("toxic", "respond") if getattr(self, name) is not None]
        if len(kinds) != 1:
            message = "a fault does exactly one kind of harm; write one of toxic, respond"
            raise Misplaced(message, ("respond",) if kinds else (), on_key=True)
        if (self.at is None) == (self.follows is None):
            message = "a fault has exactly one start; write one of at, follows"
            raise Misplaced(message, () if self.at is None else ("follows",), on_key=True)
        if self.delay and self.follows is None:
            raise Misplaced("delay belongs to follows; move it into at", ("delay",), on_key=True)
        if self.toxic is not None and self.injection_rate != 1.0:
            message = "injection_rate belongs to respond; a toxic has toxicity, which is a connection's"
            raise Misplaced(message, ("injection_rate",), on_key=True)
        return self

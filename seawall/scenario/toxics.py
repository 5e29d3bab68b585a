"""Toxics: Toxiproxy's own types and attributes, and what each of them needs to have any effect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seawall.scenario.problems import Misplaced, nearest
from seawall.scenario.quantities import PositiveShare
from seawall.scenario.words import Model, Whole

__all__ = ["TOXIC_ATTRIBUTES", "ToxicSpec"]

TOXIC_ATTRIBUTES: dict[str, dict[str, str]] = {
    "latency": {"latency": "milliseconds", "jitter": "milliseconds"},
    "bandwidth": {"rate": "KB/s"},
    "slow_close": {"delay": "milliseconds"},
    "timeout": {"timeout": "milliseconds"},
    "reset_peer": {"timeout": "milliseconds"},
    "slicer": {"average_size": "bytes", "size_variation": "bytes", "delay": "microseconds"},
    "limit_data": {"bytes": "bytes"},
    "down": {},
}
"""Each toxic's attributes by Toxiproxy's own names, with their units."""
# Without these a toxic does nothing, or worse: a slicer of size 0 ends Toxiproxy, and bandwidth 0 lets it spin.
_NEEDED = {
    "latency": ("latency", 300),
    "bandwidth": ("rate", 10),
    "slow_close": ("delay", 500),
    "slicer": ("average_size", 16),
    "limit_data": ("bytes", 500),
}
_ATTRIBUTE_MAX = 86_400_000


class ToxicSpec(Model):
    """A Toxiproxy toxic, its type and attributes by Toxiproxy's own names and in its own units."""

    type: Literal["latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data", "down"]
    """Which toxic: late bytes, few bytes a second, a late close, silence, a reset, small slices, an end after so many
    bytes, or no connection at all."""
    attributes: dict[str, Whole] = Field(default={})
    """The toxic's own attributes as plain numbers; a timeout of 0 lasts as long as the fault."""
    stream: Literal["downstream", "upstream"] = "downstream"
    """Which way it works: on answers (downstream) or on requests (upstream)."""
    toxicity: PositiveShare = 1.0
    """The share of *connections* it takes. With keep-alive, half of the connections may be none or all."""

    @model_validator(mode="after")
    def _known_attributes(self) -> ToxicSpec:
        known = TOXIC_ATTRIBUTES[self.type]
        for name, value in self.attributes.items():
            if name not in known:
                word = nearest(name, known)
                fix = f"did you mean `{word}`?" if word else f"it has {', '.join(known)}" if known else "take it out"
                raise Misplaced(
                    f"toxic {self.type} has no attribute `{name}`; {fix}", ("attributes", name), on_key=True
                )
            if not 0 <= value <= _ATTRIBUTE_MAX:
                message = f"{value} is no attribute of a toxic; write {known[name]} from 0 to {_ATTRIBUTE_MAX}"
                raise Misplaced(message, ("attributes", name))
        if self.type in _NEEDED:
            name, example = _NEEDED[self.type]
            if self.attributes.get(name, 0) <= 0:
                article = f"the attribute {name}, above 0; write {name}: {example} ({known[name]})"
                raise Misplaced(f"toxic {self.type} lacks {article}", ("attributes",))
        self._sound()
        return self

    def _sound(self) -> None:
        if self.type == "slicer" and self.attributes.get("size_variation", 0) >= self.attributes["average_size"]:
            message = "a slicer's size_variation is below its average_size; write a smaller one, or leave it out"
            raise Misplaced(message, ("attributes", "size_variation"))
        if self.type == "down" and self.toxicity != 1:
            raise Misplaced("down takes every connection; take toxicity out", ("toxicity",), on_key=True)

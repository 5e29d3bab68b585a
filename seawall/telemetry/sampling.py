"""
Which requests are traced: decided before anything is made for a trace, so that the others cost next to nothing.

The decision is the one that OpenTelemetry's own samplers of the same names make: by the caller's flag where there is a
parent, else by the lower half of the trace's id.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

from router.errors import ConfigurationError

__all__ = ["Sampling", "parent_flag"]

_NAMES = ("always_on", "always_off", "traceidratio")
_HALF = (1 << 64) - 1
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?", re.DOTALL
)
# Our own source, as for the ids of requests: a seeded one must not give two processes the same traces.
_ids = random.Random()  # noqa: S311 - ids, not secrets


class Sampling:
    """The sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name. Raises ConfigurationError."""

    def __init__(
        self, environment: Mapping[str, str], *, draw: Callable[[], int] = lambda: _ids.getrandbits(128)
    ) -> None:
        name = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        root = name.removeprefix("parentbased_")
        if root not in _NAMES:
            known = ", ".join([*_NAMES, *(f"parentbased_{each}" for each in _NAMES)])
            raise ConfigurationError(f"OTEL_TRACES_SAMPLER is {name!r}; it must be one of {known}")
        self._heeds_parent = root != name
        ratio = {"always_on": 1.0, "always_off": 0.0}.get(root)
        self._bound = round((_ratio(environment) if ratio is None else ratio) * (_HALF + 1))
        self._draw = draw

    def root(self) -> int | None:
        """Return the id of a new trace for a request without a parent, or None: it is not traced."""
        trace_id = self._draw()
        return trace_id if trace_id & _HALF < self._bound else None

    def joins(self, traceparent: str, flag: int) -> bool:
        """Tell whether a request of a trace that goes on from a caller's is traced; `flag` is the caller's decision."""
        if self._heeds_parent:
            return bool(flag & 1)
        return int(traceparent[19:35], 16) < self._bound


def parent_flag(traceparent: str) -> int | None:
    """Return the flags in a W3C `traceparent`, None for what is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return int(found[1], 16) if found else None


def _ratio(environment: Mapping[str, str]) -> float:
    told = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        ratio = float(told or "1")
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigurationError(f"OTEL_TRACES_SAMPLER_ARG is {told!r}; it must be a number from 0 to 1, such as 0.1")
    return ratio

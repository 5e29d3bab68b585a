"""From what a scenario says of a provider (`respond`) to what its emulator is told."""

from __future__ import annotations

import msgspec

from seawall.emulators.steps import Behaviour
from seawall.scenario.harm import FaultSpec

__all__ = ["behaviour_of"]


def behaviour_of(spec: FaultSpec) -> Behaviour:
    """
    Return the behaviour of a `respond` fault. Raises ValueError for a fault of another kind.

    The words are the same on both sides, but that the emulator's durations name their unit (`first_token_s`).
    """
    if spec.respond is None:
        raise ValueError(f"fault {spec.id} has no respond")
    known = frozenset(Behaviour.__struct_fields__)
    told = {name if name in known else f"{name}_s": value for name, value in spec.respond}
    # Strict: a word of the language that the emulators do not know must not be dropped in silence.
    unknown = sorted(told.keys() - known)
    if unknown:
        raise ValueError(f"fault {spec.id}: the emulators do not know {', '.join(unknown)}")
    return msgspec.convert({"fault_id": spec.id, "injection_rate": spec.injection_rate, **told}, Behaviour)

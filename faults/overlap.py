"""
What can still be told of a fault of the wire while others are in force at the same proxy.

Probes meet all of them at once. A toxic that ends connections is told from those that only delay; a delay is not told
from another delay, and nothing comes through a proxy that is down. Where probes cannot tell, Toxiproxy's own list of
what it has is read back, and the evidence says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from faults.base import FaultError
from faults.criteria import ProbePlan, probe_plan
from faults.down import DownFault, holders
from faults.toxic import ToxicFault
from faults.toxiproxy import ToxicInfo, Toxiproxy, ToxiproxyError

__all__ = ["Around", "among", "look", "plan_among", "read_back"]

_LOOK_DEADLINE_S = 1.0
_DELAYING = ("bandwidth", "latency", "slicer", "slow_close")
"""Toxics that let every answer come whole in the end."""
_ENDINGS = ("exact_bytes", "no_answer", "refused", "reset", "silent")
"""Criteria that no mere delay can meet, given time enough."""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a proxy has, seen from one fault. `mine`: whether that fault is there.

    `blocked` is what lets nothing through besides, in words; `gone`: nobody listens at Toxiproxy's API, and with it has
    gone all that it kept in memory.
    """

    mine: bool
    toxics: tuple[ToxicInfo, ...] = ()
    blocked: tuple[str, ...] = ()
    gone: bool = False

    @property
    def others(self) -> tuple[str, ...]:
        """What else is in force, in words such as `latency (fault slow)`."""
        words = [f"{toxic.type} ({_owner(toxic.name)})" for toxic in self.toxics]
        return (*words, *self.blocked)


def look(fault: ToxicFault | DownFault) -> Around | None:
    """
    Ask Toxiproxy what is in force at the fault's proxy; None when it does not answer in time. Blocks.

    Raises ToxiproxyError when it refuses.
    """
    server = Toxiproxy(fault.url, deadline_s=_LOOK_DEADLINE_S, allow_remote=fault.allow_remote)
    try:
        proxy = server.proxy(fault.proxy)
    except ToxiproxyError as error:
        if error.timed_out:
            return None
        if error.gone:
            return Around(mine=False, gone=True, blocked=("Toxiproxy being away",))
        raise
    if proxy is None:
        return Around(mine=False)
    held = holders(fault.url, fault.proxy)
    others = tuple(f"down (fault {holder})" for holder in sorted(held - {fault.id}))
    if isinstance(fault, DownFault):
        mine = fault.id in held and not proxy.enabled
        return Around(mine=mine, toxics=proxy.toxics, blocked=others)
    if not proxy.enabled and not others:
        others = ("down (the proxy)",)
    mine = any(toxic.name == fault.toxic for toxic in proxy.toxics)
    toxics = tuple(toxic for toxic in proxy.toxics if toxic.name != fault.toxic)
    return Around(mine=mine, toxics=toxics, blocked=others)


def plan_among(plan: ProbePlan, around: Around, *, healing: bool = False) -> ProbePlan | None:
    """
    Return how probes prove the fault among the others, or, when `healing`, its end; None where they cannot.

    Alone that is `plan` itself.
    """
    if not around.others:
        return plan
    if around.blocked or plan.criterion.name not in _ENDINGS:
        return None
    if plan.criterion.name == "refused" and not healing:
        return plan  # which no toxic does
    if any(toxic.type not in _DELAYING for toxic in around.toxics):
        return None
    delays = [_delay_s(toxic) for toxic in around.toxics]
    longest_s = sum(delay for delay in delays if delay is not None)
    if None in delays:
        return None
    shape = msgspec.structs.replace(plan.shape, deadline_s=plan.shape.deadline_s + 1.25 * longest_s)
    return msgspec.structs.replace(plan, shape=shape, expected_s=plan.expected_s + 1.25 * longest_s)


def among(around: Around) -> str:
    """Return what else is in force, as the end of a criterion's name; nothing when there is nothing."""
    return f" while {', '.join(around.others)} is in force" if around.others else ""


def read_back(around: Around, *, phase: str) -> dict[str, Any]:
    """Return the evidence that Toxiproxy's own list gives, as plain data."""
    found = "there" if around.mine else "not there"
    return {
        "phase": phase,
        "criterion": f"read_back{among(around)}",
        "wanted": f"Toxiproxy has it that the fault is {found}",
    }


def _delay_s(toxic: ToxicInfo) -> float | None:
    """Return how long a toxic holds a probe of a few bytes up at most, in seconds; None when that cannot be told."""
    try:
        plan = probe_plan(toxic.type, toxic.stream, toxic.attributes)
    except (FaultError, TypeError, ArithmeticError):
        return None
    return plan.expected_s if plan.provable else None


def _owner(name: str) -> str:
    """Return whose toxic that is: ours are named `seawall-<run>-<fault id>`."""
    return f"fault {name.rpartition('-')[2]}" if name.startswith("seawall-") else f"somebody else's {name}"

"""What a run will have trouble to show: a fault that nobody can show to be in force makes it invalid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from seawall.scenario.harm import FaultSpec
from seawall.scenario.problems import Problem
from seawall.scenario.quantities import duration_text
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation
from seawall.scenario.toxics import ToxicSpec
from seawall.scenario.words import Provider

__all__ = ["check_proof"]

_NOISE_MS = 10  # a shorter latency drowns in the spread of the probes
_STREAMS_ONLY = ("no_done", "duplicate_chunks", "dribble")


def check_proof(situation: Situation) -> Iterator[Problem]:
    """Yield a warning for each fault that may stay unproven, or whom nobody may meet."""
    for index, fault in enumerate(situation.scenario.faults):
        if fault.respond is not None:
            yield from _respond(situation, index, fault)
        if fault.toxic is not None and "wire" in situation.scenario.arenas:
            yield from _toxic(situation, index, fault, fault.toxic)


def _respond(situation: Situation, index: int, fault: FaultSpec) -> Iterator[Problem]:
    respond = fault.respond
    if respond is None or not situation.load_known:
        return
    path: Path = ("faults", index, "respond", respond.kind)
    if respond.kind in _STREAMS_ONLY and situation.stream_share == 0:
        message = f"`{respond.kind}` shows in streams only, and the load asks for none"
        yield situation.warning(path, message, "let the load ask for streams: stream: 30%")
    if respond.cut_after_chunks is None:
        return
    healthy = situation.scenario.provider(cast("Provider", fault.target))
    tokens = min(healthy.tokens, situation.scenario.load.max_tokens)
    if respond.cut_after_chunks >= tokens:
        message = f"an answer of {fault.target} has {tokens} tokens, so nothing is cut after {respond.cut_after_chunks}"
        yield situation.warning(path, message, f"cut after less than {tokens}")


def _toxic(situation: Situation, index: int, fault: FaultSpec, toxic: ToxicSpec) -> Iterator[Problem]:
    path: Path = ("faults", index, "toxic")
    if toxic.toxicity < 1:
        message = "`toxicity` is drawn once for each connection: keep-alive clients get all of the toxic or none"
        fix = "use `respond` with `injection_rate` for a share of requests"
        yield situation.warning((*path, "toxicity"), message, fix)
    if toxic.type == "latency" and toxic.attributes["latency"] < _NOISE_MS:
        message = f"a latency of {toxic.attributes['latency']} ms cannot be told from noise, so it stays unproven"
        yield situation.warning((*path, "attributes", "latency"), message, f"use at least {_NOISE_MS} ms")
    # Imported here: only who loads a scenario needs to know how faults are proven.
    from faults.criteria import probe_plan  # noqa: PLC0415

    protocol = "resp" if fault.target == "redis" else "http"
    plan = probe_plan(toxic.type, toxic.stream, toxic.attributes, toxic.toxicity, protocol=protocol)
    if not plan.provable:
        yield situation.warning(path, f"fault `{fault.id}` cannot be proven: {plan.why}", "expect the verdict invalid")
    elif fault.duration < plan.budget_s:
        takes = duration_text(round(plan.budget_s, 3))
        message = f"fault `{fault.id}` may heal before it is proven, which takes up to {takes}"
        yield situation.warning(("faults", index, "duration"), message, f"let it last {takes} or more")

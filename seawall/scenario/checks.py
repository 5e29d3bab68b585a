"""
What the parts of a scenario say about one another: names, times, units, and what a run could never show.

Errors are contradictions; warnings are what is legal and probably not meant. Pure but for the router's own lists of
settings and models, which are asked when there is something to check.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.scenario.expected import check_expectations
from seawall.scenario.harm import FaultSpec
from seawall.scenario.problems import Problem, listed, nearest
from seawall.scenario.proof import check_proof
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation, count_between
from seawall.scenario.timing import check_times
from seawall.scenario.tuning import check_system
from seawall.scenario.words import PARTS

__all__ = ["REQUESTS_MAX", "check"]

REQUESTS_MAX = 5_000_000
"""The most requests that a load may plan."""


def check(situation: Situation) -> Iterator[Problem]:
    """Yield every problem between the parts of a scenario, errors and warnings."""
    yield from _load(situation)
    yield from _names(situation)
    yield from check_times(situation)
    for index, fault in enumerate(situation.scenario.faults):
        yield from _arenas(situation, index, fault)
    yield from _pods(situation)
    yield from check_proof(situation)
    yield from check_system(situation)
    yield from check_expectations(situation)


def _load(situation: Situation) -> Iterator[Problem]:
    if not situation.load_known:
        return
    count = count_between(situation.plan, 0.0, float("inf"))
    if count <= 0:
        yield situation.problem(("load",), "the load sends no request", "give a stage a target above 0/s")
    if count > REQUESTS_MAX:
        message = f"the load sends about {count:.0f} requests, over {REQUESTS_MAX}"
        yield situation.problem(("load",), message, "lower the rate or the duration")


def _names(situation: Situation) -> Iterator[Problem]:
    faults = situation.scenario.faults
    first: dict[str, int] = {}
    for index, fault in enumerate(faults):
        if fault.id in first:
            line = situation.problem(("faults", first[fault.id], "id"), "", "").line
            message = f"a second fault has the id `{fault.id}`"
            yield situation.problem(
                ("faults", index, "id"), message, f"give it another id; the first is on line {line}"
            )
        first.setdefault(fault.id, index)
    in_cycle: set[str] = set()
    for index, fault in enumerate(faults):
        if fault.follows is None or fault.follows in situation.ghosts:
            continue
        path: Path = ("faults", index, "follows")
        if fault.follows not in first:
            message = f"`follows` names `{fault.follows}`, which is no fault's id"
            yield situation.problem(
                path,
                message,
                _or_ids(fault.follows, [name for name in (*first, *situation.ghosts) if name != fault.id]),
            )
            continue
        cycle = _cycle(fault, {f.id: f for f in faults})
        if cycle and not in_cycle.intersection(cycle):
            in_cycle.update(cycle)
            message = f"`follows` goes in a circle: {' → '.join((*cycle, cycle[0]))}"
            yield situation.problem(path, message, "give one of them `at`")


def _or_ids(wrong: str, ids: list[str]) -> str:
    word = nearest(wrong, ids)
    if word:
        return f"did you mean `{word}`?"
    return f"the faults are {listed(ids)}" if ids else "there is no other fault; write `at`"


def _cycle(fault: FaultSpec, by_id: dict[str, FaultSpec]) -> list[str]:
    """Return the ids from `fault` back to itself, or none when its chain ends or never comes back to it."""
    chain = [fault.id]
    before = by_id.get(fault.follows or "")
    while before is not None and before.id not in chain:
        chain.append(before.id)
        before = by_id.get(before.follows or "")
    return chain if before is not None and before.id == fault.id else []


def _arenas(situation: Situation, index: int, fault: FaultSpec) -> Iterator[Problem]:
    for place, arena in enumerate(situation.scenario.arenas):
        if arena in fault.arenas:
            continue
        what = f"`{fault.kind}` at {fault.target}" if fault.target in ("redis", *PARTS) else f"`{fault.kind}`"
        message = f"the arena {arena} does not take {what}, which fault `{fault.id}` is"
        fix = f"it runs in {' and '.join(fault.arenas)}; take {arena} out of `arenas`, or the fault out"
        yield situation.problem(("arenas", place), message, fix)


def _pods(situation: Situation) -> Iterator[Problem]:
    """Yield what is said of pods where there are none, or of what scales them where nothing does."""
    scenario = situation.scenario
    pods = scenario.cluster
    if pods is None and "cluster" in situation.tree.entries:
        return  # it was left out, and that is told already
    fix = "add cluster: {} for one pod, or with hpa: {} for as many as it takes"
    if pods is None:
        for index, fault in enumerate(scenario.faults):
            if fault.target == "backend":
                message = f"fault `{fault.id}` is aimed at pods, and the scenario has none"
                yield situation.problem(("faults", index, "target"), message, fix)
        if scenario.expect.scaling:
            yield situation.problem(("expect", "scaling"), "the scenario has no pods to be counted", fix)
    elif scenario.system.workers > 1:
        message = "a pod is one worker; the scenario asks for more on one port"
        yield situation.problem(("system", "workers"), message, "take workers out, and write cluster.replicas")
    if pods is None or pods.hpa is None:
        for index, fault in enumerate(scenario.faults):
            if fault.metrics_outage is not None:
                message = f"fault `{fault.id}` takes metrics away that nobody asks for"
                yield situation.problem(("faults", index, "metrics_outage"), message, "add cluster: {hpa: {}}")

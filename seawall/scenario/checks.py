"""
What the parts of a scenario say about one another: names, times, units, and what a run could never show.

Errors are contradictions; warnings are what is legal and probably not meant. Pure but for the router's own list of
settings, which is asked when there are settings to check.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from seawall.scenario.expected import check_expectations
from seawall.scenario.harm import FAULT_ARENAS, FaultSpec
from seawall.scenario.problems import Problem, listed, nearest, shown, split_fix
from seawall.scenario.quantities import duration_text
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation, count_between

__all__ = ["REQUESTS_MAX", "check"]

REQUESTS_MAX = 5_000_000
"""The most requests that a load may plan."""
_NOISE_MS = 10  # a shorter latency drowns in the spread of the probes


def check(situation: Situation) -> Iterator[Problem]:
    """Yield every problem between the parts of a scenario, errors and warnings."""
    yield from _load(situation)
    yield from _names(situation)
    yield from _times(situation)
    yield from _overlaps(situation)
    for index, fault in enumerate(situation.scenario.faults):
        yield from _arenas(situation, index, fault)
        yield from _provable(situation, index, fault)
    yield from _settings(situation)
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


def _times(situation: Situation) -> Iterator[Problem]:
    if not situation.load_known:
        return
    end_s = situation.load_end_s
    for index, fault, start_s, stop_s in situation.timed_faults():
        path: Path = ("faults", index)
        if start_s >= end_s:
            message = f"fault `{fault.id}` starts at {duration_text(start_s)}, when the load is over"
            fix = f"start it before {duration_text(end_s)}, or lengthen the load"
            yield situation.problem((*path, "at" if fault.at is not None else "follows"), message, fix)
        elif stop_s > end_s:
            message = f"fault `{fault.id}` ends at {duration_text(stop_s)}, after the load"
            fix = f"let it end by {duration_text(end_s)}, or lengthen the load"
            # A list of arrivals ends with the last one sent, and its answer still meets the fault.
            severity = "warning" if situation.plan.executor == "arrivals" else "error"
            yield situation.problem((*path, "duration"), message, fix, severity=severity)
    yield from _steady_state(situation)


def _steady_state(situation: Situation) -> Iterator[Problem]:
    steady = situation.scenario.steady_state
    if steady is None:
        return
    path: Path = ("steady_state", "window")
    window = duration_text(steady.window)
    end_s = situation.load_end_s
    timed = [fault for fault in situation.timed_faults() if fault[3] <= end_s]
    if not timed:
        if steady.window > end_s and situation.faults_known:
            message = f"the window of {window} is longer than the load"
            yield situation.problem(path, message, f"take at most {duration_text(end_s)}")
        return
    first = min(timed, key=lambda fault: fault[2])
    if first[2] < steady.window:
        message = f"the window of {window} does not fit before fault `{first[1].id}` at {duration_text(first[2])}"
        yield situation.problem(path, message, "shorten the window or start the fault later")
    last = max(timed, key=lambda fault: fault[3])
    # A fault whose time is not known may be the last, but a window that does not fit now will not fit then.
    if last[3] + steady.window > end_s:
        left = duration_text(max(0.0, round(end_s - last[3], 9)))
        message = f"the window of {window} does not fit after fault `{last[1].id}`: {left} of load are left"
        yield situation.problem(path, message, "shorten the window or lengthen the load")


def _overlaps(situation: Situation) -> Iterator[Problem]:
    for one, two in combinations(situation.timed_faults(), 2):
        index, first, second = two[0], one[1], two[1]
        if first.target != second.target or one[3] <= two[2] or two[3] <= one[2]:
            continue
        path: Path = ("faults", index)
        both = f"faults `{first.id}` and `{second.id}`"
        if first.respond is not None and second.respond is not None:
            # A provider obeys the behaviour installed first, if that one takes the request.
            (_, early, _, early_end_s), (_, late, _, late_end_s) = sorted((one, two), key=lambda timed: timed[2])
            message = f"{both} both change what {second.target} answers at the same time"
            if early.injection_rate == 1 and late_end_s <= early_end_s:
                fix = f"let one follow the other: `{early.id}` takes every request, so `{late.id}` never takes any"
                yield situation.problem(path, message, fix)
            else:
                yield situation.warning(path, message, f"expect that `{early.id}`, which starts first, goes first")
        elif first.toxic is not None and second.toxic is not None and first.toxic.type == second.toxic.type:
            message = f"{both} are both {second.toxic.type} on {second.target} at the same time"
            fix = "expect that neither can be seen to heal while the other is in force"
            yield situation.warning(path, message, fix)


def _arenas(situation: Situation, index: int, fault: FaultSpec) -> Iterator[Problem]:
    kind = "toxic" if fault.toxic is not None else "respond"
    for place, arena in enumerate(situation.scenario.arenas):
        if arena not in FAULT_ARENAS[kind]:
            message = f"the arena {arena} does not take `{kind}`, which fault `{fault.id}` is"
            fix = f"it runs in {' and '.join(FAULT_ARENAS[kind])}; take {arena} out of `arenas`, or the fault out"
            yield situation.problem(("arenas", place), message, fix)


def _provable(situation: Situation, index: int, fault: FaultSpec) -> Iterator[Problem]:
    """Warn of what a run will have trouble to show; a fault that nobody can show to be in force makes it invalid."""
    path: Path = ("faults", index)
    respond = fault.respond
    if respond is not None and respond.cut_after_chunks is not None:
        tokens = min(situation.scenario.provider(fault.target).tokens, situation.scenario.load.max_tokens)
        if situation.load_known and respond.cut_after_chunks >= tokens:
            message = (
                f"an answer of {fault.target} has {tokens} tokens, so nothing is cut after {respond.cut_after_chunks}"
            )
            yield situation.warning((*path, "respond", "cut_after_chunks"), message, f"cut after less than {tokens}")
    toxic = fault.toxic
    if toxic is None or "wire" not in situation.scenario.arenas:
        return
    path = (*path, "toxic")
    if toxic.toxicity < 1:
        message = "`toxicity` is drawn once for each connection: keep-alive clients get all of the toxic or none"
        yield situation.warning(
            (*path, "toxicity"), message, "use `respond` with `injection_rate` for a share of requests"
        )
    if toxic.type == "latency" and toxic.attributes.get("latency", 0) < _NOISE_MS:
        message = f"a latency of {toxic.attributes['latency']} ms cannot be told from noise, so it stays unproven"
        yield situation.warning((*path, "attributes", "latency"), message, f"use at least {_NOISE_MS} ms")
    # Imported here: only who loads a scenario needs to know how faults are proven.
    from faults.criteria import probe_plan  # noqa: PLC0415

    plan = probe_plan(toxic.type, toxic.stream, toxic.attributes, toxic.toxicity)
    if not plan.provable:
        yield situation.warning(path, f"fault `{fault.id}` cannot be proven: {plan.why}", "expect the verdict invalid")
    elif fault.duration < plan.budget_s:
        takes = duration_text(round(plan.budget_s, 3))
        message = f"fault `{fault.id}` may heal before it is proven, which takes up to {takes}"
        yield situation.warning(("faults", index, "duration"), message, f"let it last {takes} or more")


def _settings(situation: Situation) -> Iterator[Problem]:
    settings = situation.scenario.system.settings
    if not settings:
        return
    try:
        router: Any = importlib.import_module("router.settings")
    except ImportError:
        return
    names = [name.lower() for name in router.setting_names()]
    for key, value in settings.items():
        path: Path = ("system", "settings", key)
        if key.lower() not in names:
            word = nearest(key, names)
            shape = word.upper() if word and key.isupper() else word
            fix = f"did you mean `{shape}`?" if shape else "`seawall` lists them in its documentation"
            yield situation.problem(path, f"`{key[:60]}` is no setting of the gateway", fix, on_key=True)
        elif key.lower().endswith("_api_key") and value:
            message = f"`{key}` is a secret, and a scenario goes into every journal"
            yield situation.problem(path, message, "take it out and set it in the environment", on_key=True)
        else:
            reason = _refused(router, key, value)
            if reason:
                message, fix = split_fix(reason)
                yield situation.problem(path, message, fix or "see what the setting takes")


def _refused(router: Any, key: str, value: object) -> str:
    """Return why the gateway would not take the value, or nothing."""
    try:
        router.Settings.from_mapping({key: value})
    except Exception as error:  # noqa: BLE001 - whatever the gateway says against it is what the reader has to know
        text = str(error) or f"{key}: {shown(value)} is refused"
        return text.replace(": write ", "; write ")
    return ""

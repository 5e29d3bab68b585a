"""Faults in time: inside the load, beside the windows of the steady state, and over one another."""

from __future__ import annotations

from collections.abc import Iterator

from seawall.scenario.harm import OCCURRENCES_MAX, FaultSpec
from seawall.scenario.problems import Problem
from seawall.scenario.quantities import duration_text
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation

__all__ = ["check_times"]

_Timed = tuple[int, FaultSpec, float, float]
_ONLY_ONCE = {"process": "take the process of", "remaining": "say what remains of", "clock_skew": "set the clock of"}


def check_times(situation: Situation) -> Iterator[Problem]:
    """Yield the problems of when faults start and end."""
    if situation.load_known:
        yield from _inside(situation)
        yield from _repeats(situation)
        yield from _steady_state(situation)
    yield from _overlaps(situation)


def _inside(situation: Situation) -> Iterator[Problem]:
    end_s = situation.load_end_s
    told: set[int] = set()
    for index, fault, start_s, stop_s in situation.timed_faults:
        if index in told:
            continue
        told.add(index)  # later occurrences start only where they fit
        path: Path = ("faults", index)
        if start_s >= end_s:
            message = f"fault `{fault.id}` starts at {duration_text(start_s)}, when the load is over"
            fix = f"start it before {duration_text(end_s)}, or lengthen the load"
            yield situation.problem((*path, "at" if fault.at is not None else "follows"), message, fix)
        elif stop_s > end_s:
            message = f"fault `{fault.id}` ends at {duration_text(stop_s)}, after the load"
            fix = f"let it end by {duration_text(end_s)}, or lengthen the load"
            word = "duration" if fault.restart_after is None else "restart_after"
            # A list of arrivals ends with the last one sent, and its answer still meets the fault.
            severity = "warning" if situation.plan.executor == "arrivals" else "error"
            yield situation.problem((*path, word), message, fix, severity=severity)


def _repeats(situation: Situation) -> Iterator[Problem]:
    for index, fault in enumerate(situation.scenario.faults):
        if fault.every is None or index not in situation.starts_s:
            continue
        path: Path = ("faults", index, "every")
        times = len(situation.windows_s(fault.id))
        if times > OCCURRENCES_MAX:
            message = f"fault `{fault.id}` starts more than {OCCURRENCES_MAX} times"
            yield situation.problem(path, message, "lengthen `every`, or shorten the load")
        elif times == 1 and situation.starts_s[index] + fault.duration <= situation.load_end_s:
            need_s = situation.starts_s[index] + fault.every + fault.duration
            message = f"fault `{fault.id}` never starts a second time"
            fix = f"let the load last {duration_text(round(need_s, 9))} or more, or take `every` out"
            yield situation.warning(path, message, fix)


def _steady_state(situation: Situation) -> Iterator[Problem]:
    steady = situation.scenario.steady_state
    if steady is None:
        return
    path: Path = ("steady_state", "window")
    window = duration_text(steady.window)
    end_s = situation.load_end_s
    timed = [fault for fault in situation.timed_faults if fault[3] <= end_s]
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
    in_force: list[_Timed] = []
    told: set[frozenset[int]] = set()
    for late in sorted(situation.timed_faults, key=lambda timed: (timed[2], timed[0])):
        in_force = [timed for timed in in_force if timed[3] > late[2]]
        for early in in_force:
            pair = frozenset((early[0], late[0]))
            found = None if pair in told else _clash(situation, early, late)
            if found is not None:
                told.add(pair)
                yield found
        in_force.append(late)


def _clash(situation: Situation, early: _Timed, late: _Timed) -> Problem | None:
    """Return what is wrong with two faults at the same time, told at the one that stands later in the file."""
    first, second = early[1], late[1]
    path: Path = ("faults", max(early[0], late[0]))
    if "toxiproxy" in (first.target, second.target) and "toxic" in (first.kind, second.kind):
        toxic, process = (first, second) if first.kind == "toxic" else (second, first)
        message = f"fault `{process.id}` takes Toxiproxy away, which makes fault `{toxic.id}` at the same time"
        return situation.warning(path, message, "let one follow the other")
    if first.target != second.target:
        return None
    both = f"faults `{first.id}` and `{second.id}`"
    kinds = {first.kind, second.kind}
    if kinds == {"respond"}:
        return _both_answer(situation, path, early, late)
    if len(kinds) == 1 and first.kind in _ONLY_ONCE:
        what = _ONLY_ONCE[first.kind]
        message = f"{both} both {what} {second.target} at the same time"
        return situation.problem(path, message, "let one follow the other: neither can be done twice")
    return _hidden(situation, path, first, second)


def _both_answer(situation: Situation, path: Path, early: _Timed, late: _Timed) -> Problem:
    first, second = early[1], late[1]
    message = f"faults `{first.id}` and `{second.id}` both change what {second.target} answers at the same time"
    if first.injection_rate == 1 and late[3] <= early[3]:
        # A provider obeys the behaviour installed first, if that one takes the request.
        fix = f"let one follow the other: `{first.id}` takes every request, so `{second.id}` never takes any"
        return situation.problem(path, message, fix)
    return situation.warning(path, message, f"expect that `{first.id}`, which starts first, goes first")


def _hidden(situation: Situation, path: Path, first: FaultSpec, second: FaultSpec) -> Problem | None:
    both = f"faults `{first.id}` and `{second.id}`"
    types = [fault.toxic.type for fault in (first, second) if fault.toxic is not None]
    if len(types) == 2 and types[0] == types[1]:
        message = f"{both} are both {types[0]} on {second.target} at the same time"
        return situation.warning(path, message, "expect that neither can be seen to heal while the other is in force")
    if "down" in types:
        message = f"{both} are on {second.target} at the same time, and down hides the other"
        return situation.warning(path, message, "let one follow the other: nothing comes through a proxy that is down")
    if first.kind == "process" or second.kind == "process":
        message = f"{both} are on {second.target} at the same time, and one of them takes its process"
        return situation.warning(path, message, "let one follow the other: what does not run shows no other harm")
    return None

"""Whether a run proves anything at all: what is missing or out of order makes it `invalid`, never a pass. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from seawall.journal.view import MERGE_SOURCE
from seawall.verdicts.answers import planned_count
from seawall.verdicts.case import Case, percentile
from seawall.verdicts.checks import absent, sentence, timely
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["LAG_MAX_MS", "LAG_P99_MS", "WHOLE", "check_validity", "something_is_observable"]

WHOLE = "the journal is whole"
LAG_P99_MS = 10.0
LAG_MAX_MS = 100.0
_GENERATORS = ("load", "locust")


def check_validity(case: Case) -> list[Check]:
    """Return one check for each thing that a run needs to count."""
    faults = {**dict.fromkeys(case.specs), **dict.fromkeys(case.journal.faults)}
    return [
        _came_to_its_end(case),
        _is_readable(case),
        _is_complete(case),
        _generator_kept_time(case),
        _generator_ended_well(case),
        *(_fault_was_met(case, fault_id) for fault_id in faults),
    ]


def something_is_observable(expectations: list[Check]) -> Check:
    """Return the check that not every written expectation is n/a for this system."""
    unseen = [check for check in expectations if check.figure == "n/a" and check.verdict is Verdict.PASS]
    name = "the system shows what the scenario asks about"
    figure = f"{len(expectations) - len(unseen)} of {len(expectations)} expectations"
    if expectations and len(unseen) == len(expectations):
        return absent("validity", name, "No expectation of the scenario is observable on this system.", limit="1")
    return _valid(name, figure, f"{figure} are observable.", len(expectations))


def _came_to_its_end(case: Case) -> Check:
    name = "the run came to its end"
    end = case.journal.end
    if end is None:
        return absent("validity", name, "The journal has no end: the run was killed.")
    if end.reason != "finished":
        detail = f": {end.detail}" if end.detail else ""
        return absent("validity", name, f"The run was not finished but ended by {end.reason}{detail}.")
    return _valid(name, end.reason, "The run was finished.", 1)


def _is_readable(case: Case) -> Check:
    name = WHOLE
    tally = case.journal.tally
    evidence = [case.evidence(f"it was edited after the run: {tally.edited}")] if tally.edited else []
    evidence += [case.evidence(problem) for problem in tally.problems]
    evidence += [
        case.evidence(timed.event.text)
        for timed in case.journal.notes
        if timed.source == MERGE_SOURCE and timed.event.level == "error"
    ]
    unknown = sum(tally.unknown_kinds.values())
    reason = "Every line could be read." if not unknown else f"{unknown} events of unknown kinds were passed over."
    if tally.sealed is False:
        reason += " It has no seal, so an edit would not show."
    elif tally.sealed:
        reason += " None was changed after the run."
    return _check(case, name, evidence, figure=f"{len(evidence)} problems", held=reason)


def _is_complete(case: Case) -> Check:
    name = "every planned request was sent and recorded"
    requests = case.journal.requests
    if not requests:
        return absent("validity", name, "No request was recorded.")
    evidence = list(
        timely(
            case.evidence(f"the load generator let it go: {r.problem or r.outcome}", r.intended_ns, r.request_id)
            for r in requests.having("outcome", "dropped", "process_died")
        )
    )
    planned = planned_count(case)
    if planned is not None and planned != len(requests):
        evidence.append(case.evidence(f"{planned} requests were planned and {len(requests)} recorded"))
    return _check(
        case,
        name,
        evidence,
        figure=f"{len(requests)} of {'?' if planned is None else planned}",
        held=f"{len(requests)} requests were recorded" + (", as planned." if planned is not None else "."),
        examined=len(requests),
    )


def _generator_kept_time(case: Case) -> Check:
    name = "the load generator kept its times"
    lags = array("q", sorted(r.sent_ns - r.intended_ns for r in case.journal.requests if r.sent_ns is not None))
    p99_ms, max_ms = ((percentile(lags, share) or 0) / 1e6 for share in (0.99, 1.0))
    evidence: tuple[Evidence, ...] = ()
    if p99_ms > LAG_P99_MS or max_ms > LAG_MAX_MS:
        bound_ns = (LAG_MAX_MS if max_ms > LAG_MAX_MS else LAG_P99_MS) * 1e6
        late = (r for r in case.journal.requests if r.sent_ns is not None and r.sent_ns - r.intended_ns > bound_ns)
        evidence = timely(
            case.evidence(f"sent {((r.sent_ns or 0) - r.intended_ns) / 1e6:.1f} ms late", r.intended_ns, r.request_id)
            for r in late
        )
    return _check(
        case,
        name,
        evidence,
        figure=f"p99 {p99_ms:.1f} ms, max {max_ms:.1f} ms",
        limit=f"p99 <= {LAG_P99_MS:g} ms, max <= {LAG_MAX_MS:g} ms",
        held=f"{len(lags)} requests left on time." if lags else "Nothing to examine: no request left.",
        examined=len(lags),
    )


def _generator_ended_well(case: Case) -> Check:
    name = "the load generator ended well"
    exits = [
        timed
        for timed in case.journal.processes
        if timed.event.action == "exit" and any(word in timed.event.name for word in _GENERATORS)
    ]
    evidence = [
        case.evidence(f"{timed.event.name} ended with code {timed.event.code}", timed.mono_ns)
        for timed in exits
        if timed.event.code not in (0, None)
    ]
    held = f"{len(exits)} load generators ended with code 0." if exits else "No load generator is a process of its own."
    return _check(case, name, evidence, figure=f"{len(evidence)} bad exits", held=held, examined=len(exits))


def _fault_was_met(case: Case, fault_id: str) -> Check:
    name = f"fault {fault_id} was in force and met"
    intervals = case.intervals(fault_id)
    trace = case.journal.faults.get(fault_id)
    why = f": {trace.errors[0]}" if trace is not None and trace.errors else ""
    if not intervals:
        return absent("validity", name, f"Fault {fault_id} was never injected{why}.")
    evidence: list[Evidence] = []
    for interval in intervals:
        moment_ns = interval.active_ns or interval.injected_ns
        if interval.active_ns is None:
            evidence.append(case.evidence(f"fault {fault_id} never took effect{why}", moment_ns))
        elif not case.is_met(fault_id, interval):
            evidence.append(case.evidence(f"fault {fault_id} was in force, but nobody met it{why}", moment_ns))
    planned = _occurrences(case, fault_id)
    if len(intervals) < planned:
        evidence.append(case.evidence(f"fault {fault_id} was injected {len(intervals)} of {planned} times{why}"))
    met = sum(case.is_met(fault_id, interval) for interval in intervals)
    times = f"{met} of {max(planned, len(intervals))} times"
    held = f"Fault {fault_id} was in force and met {times}."
    return _check(case, name, evidence, figure=times, held=held, examined=len(intervals))


def _occurrences(case: Case, fault_id: str) -> int:
    """Return how often a fault was planned, as far as the run came to its planned end."""
    end = case.journal.end
    if fault_id not in case.specs or end is None or end.reason != "finished":
        return 0
    return len(case.scenario.occurrences(fault_id))


def _valid(name: str, figure: str, reason: str, examined: int) -> Check:
    return Check(
        group="validity", name=name, verdict=Verdict.PASS, figure=figure, limit="", reason=reason, examined=examined
    )


def _check(
    case: Case, name: str, evidence: Sequence[Evidence], *, figure: str, held: str, limit: str = "", examined: int = 1
) -> Check:
    first = timely(evidence)
    return Check(
        group="validity",
        name=name,
        verdict=Verdict.INVALID if first else Verdict.PASS,
        figure=figure,
        limit=limit,
        reason=f"{sentence(first[0])}." if first else held,
        examined=examined,
        evidence=first,
    )

"""
The faults themselves: none acts outside of its window, and every one was taken back.

That a fault acted when it should not have makes the run `invalid`: it judged a system that was harmed in secret.
Whether all was undone is an axis of its own and changes no verdict. Pure.
"""

from __future__ import annotations

from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, sentence, timely, unobservable
from seawall.verdicts.model import Check, Verdict

__all__ = ["faults_keep_their_windows", "undo_check", "undone"]


def faults_keep_their_windows(case: Case) -> Check:
    """No call shows a fault's behaviour before its injection or after it healed."""
    name = "no fault acts outside its window"
    if not case.journal.observes("call"):
        return unobservable("invariant", name, "call")
    windows = {
        fault_id: [
            (i.injected_ns, i.healed_ns if i.healed_ns is not None else case.journal.last_ns)
            for i in trace.intervals
            if i.injected_ns is not None
        ]
        for fault_id, trace in case.journal.faults.items()
    }
    kinds = case.journal.calls.counts("behaviour").keys() - {"healthy"}
    behaved = case.journal.calls.having("behaviour", *kinds)
    found = (
        case.evidence(f"{call.provider} behaved by fault {call.behaviour}", call.arrival_ns, call.request_id)
        for call in behaved
        if not any(start <= call.arrival_ns <= end for start, end in windows.get(call.behaviour, ()))
    )
    return invariant(name, found, examined=len(behaved), of="calls that met a fault", verdict=Verdict.INVALID)


def undone(case: Case) -> bool | None:
    """Return whether every fault was verified undone; None when none was injected."""
    intervals = [i for trace in case.journal.faults.values() for i in trace.intervals if i.injected_ns is not None]
    if not intervals:
        return None
    end = case.journal.end
    return all(i.undo_verified for i in intervals) and not (end is not None and end.undone is False)


def undo_check(case: Case) -> Check:
    """Return the check that stands for the second axis; it has a group of its own and no part in the verdict."""
    traces = [t for t in case.journal.faults.values() if any(i.injected_ns is not None for i in t.intervals)]
    evidence = timely(
        case.evidence(
            f"the undo of fault {trace.id} was not verified{': ' + trace.errors[-1] if trace.errors else ''}",
            interval.healed_ns or interval.injected_ns,
        )
        for trace in traces
        for interval in trace.intervals
        if interval.injected_ns is not None and not interval.undo_verified
    )
    if evidence:
        reason = sentence(evidence[0]) + "."
    elif undone(case) is False:
        reason = "The harness itself says that not everything was undone."
    else:
        reason = f"The undo of {len(traces)} faults was verified." if traces else "No fault was injected."
    return Check(
        group="undo",
        name="every fault is undone",
        verdict=Verdict.PASS if undone(case) is not False else Verdict.FAIL,
        figure=f"{len(evidence)} of {len(traces)} faults not verified",
        limit="0",
        reason=reason,
        examined=len(traces),
        evidence=evidence,
    )

"""How findings become checks: one sentence each, at most 20 pieces of evidence, in order of time. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator

from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["EVIDENCE_MAX", "absent", "invariant", "sentence", "timely", "unobservable"]

EVIDENCE_MAX = 20
_FAR = float("inf")


def timely(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Return the first of `evidence` by time, those without a time last."""
    first = next(iterator := iter(evidence), None)
    if first is None:  # as nearly always
        return ()
    return tuple(heapq.nsmallest(EVIDENCE_MAX, itertools.chain((first,), iterator), key=_moment))


def _moment(evidence: Evidence) -> tuple[float, str, str]:
    return (_FAR if evidence.at_s is None else evidence.at_s, evidence.request_id or "", evidence.text)


class _Counted(Iterator[Evidence]):
    """Hands on what it is given, and counts it."""

    def __init__(self, evidence: Iterable[Evidence]) -> None:
        self._evidence = iter(evidence)
        self.count = 0

    def __next__(self) -> Evidence:
        found = next(self._evidence)
        self.count += 1
        return found


def sentence(evidence: Evidence) -> str:
    """Return a piece of evidence in words, with its time and request where it has them."""
    where = [] if evidence.at_s is None else [f"at {evidence.at_s:.3f} s"]
    if evidence.request_id is not None:
        where.append(f"request {evidence.request_id}")
    return f"{evidence.text} ({', '.join(where)})" if where else evidence.text


def invariant(
    name: str,
    violations: Iterable[Evidence],
    *,
    examined: int,
    of: str,
    limit: str = "0",
    verdict: Verdict = Verdict.FAIL,
    note: str = "",
    explained: Iterable[Evidence] = (),
) -> Check:
    """
    Return the check of something that holds in every run; `of` names what was examined, in the plural.

    One that had nothing to examine passes and says so. `note` is added to the reason of a pass. What a fault explains
    is no violation, but it is counted and told.
    """
    counted, excused = _Counted(violations), _Counted(explained)
    evidence, told = timely(counted), timely(excused)
    if evidence:
        outcome, reason = verdict, sentence(evidence[0]) + "."
    elif examined == 0:
        outcome, reason = Verdict.PASS, f"Nothing to examine: there were no {of}."
    else:
        outcome, reason = Verdict.PASS, f"No violation among {examined} {of}."
    if note and not evidence:
        reason = f"{reason} {note}"
    if told:
        reason = f"{reason} {excused.count} more are explained by a fault; the first: {sentence(told[0])}."
    return Check(
        group="invariant",
        name=name,
        verdict=outcome,
        figure=f"{counted.count} of {examined} {of}",
        limit=limit,
        reason=reason,
        examined=examined,
        evidence=evidence or told,
    )


def unobservable(group: str, name: str, kind: str, *, limit: str = "", severity: str = "required") -> Check:
    """Return the check of something that needs events of a kind that this system does not report."""
    return Check(
        group=group,
        name=name,
        verdict=Verdict.PASS,
        figure="n/a",
        limit=limit,
        reason=f"Not observable: this system reports no {kind} events.",
        severity=severity,
    )


def absent(group: str, name: str, reason: str, *, limit: str = "", examined: int = 0) -> Check:
    """Return the check of something that cannot be judged because evidence is missing: `invalid`."""
    return Check(
        group=group,
        name=name,
        verdict=Verdict.INVALID,
        figure="n/a",
        limit=limit,
        reason=reason,
        examined=examined,
        evidence=(Evidence(text=reason.rstrip(".")),),
    )

"""How findings become checks: one sentence each, at most 20 pieces of evidence, in order of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["EVIDENCE_MAX", "absent", "invariant", "sentence", "timely", "unobservable"]

EVIDENCE_MAX = 20


def timely(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Return the first of `evidence` by time, those without a time last."""
    far = float("inf")
    ordered = sorted(evidence, key=lambda e: (far if e.at_s is None else e.at_s, e.request_id or "", e.text))
    return tuple(ordered[:EVIDENCE_MAX])


def sentence(evidence: Evidence) -> str:
    """Return a piece of evidence in words, with its time and request where it has them."""
    where = [] if evidence.at_s is None else [f"at {evidence.at_s:.3f} s"]
    if evidence.request_id is not None:
        where.append(f"request {evidence.request_id}")
    return f"{evidence.text} ({', '.join(where)})" if where else evidence.text


def invariant(
    name: str,
    violations: list[Evidence],
    *,
    examined: int,
    of: str,
    limit: str = "0",
    verdict: Verdict = Verdict.FAIL,
    note: str = "",
) -> Check:
    """
    Return the check of something that holds in every run; `of` names what was examined, in the plural.

    One that had nothing to examine passes and says so. `note` is added to the reason of a pass.
    """
    evidence = timely(violations)
    if evidence:
        outcome, reason = verdict, sentence(evidence[0]) + "."
    elif examined == 0:
        outcome, reason = Verdict.PASS, f"Nothing to examine: there were no {of}."
    else:
        outcome, reason = Verdict.PASS, f"No violation among {examined} {of}."
    if note and not evidence:
        reason = f"{reason} {note}"
    return Check(
        group="invariant",
        name=name,
        verdict=outcome,
        figure=f"{len(violations)} of {examined} {of}",
        limit=limit,
        reason=reason,
        examined=examined,
        evidence=evidence,
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

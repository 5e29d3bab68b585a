"""Invariants on what clients received: every request comes to one clean end. Pure."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from seawall.journal.events import RequestRecord
from seawall.plan import count_of
from seawall.verdicts.case import Case
from seawall.verdicts.checks import EVIDENCE_MAX, invariant, sentence, timely
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["accounted_for", "not_cut", "not_disguised", "not_hung", "planned_count", "refused_cleanly"]


def planned_count(case: Case) -> int | None:
    """Return how many requests the plan has, None when the run did not come to its planned end."""
    header, end = case.journal.header, case.journal.end
    if header is None or end is None or end.reason != "finished":
        return None
    return count_of(case.scenario.load.plan(header.seed))


def accounted_for(case: Case) -> Check:
    """Every sent request has exactly one record. A missing one is missing evidence, one too many a broken promise."""
    requests = case.journal.requests
    counts = Counter(request.request_id for request in requests)
    twice = [
        case.evidence(f"{counts[r.request_id]} records of one request", r.intended_ns, r.request_id)
        for r in {r.request_id: r for r in requests if counts[r.request_id] > 1}.values()
    ]
    name = "every request has exactly one record"
    planned = planned_count(case)
    if twice or planned is None:
        return invariant(name, twice, examined=len(requests), of="requests", limit="1 each")
    foreign = [request_id for request_id in counts if not _is_planned(request_id, planned)]
    odd = [case.evidence("a record of a request that was not planned", None, request_id) for request_id in foreign]
    if len(counts) - len(foreign) < planned:
        lost = (request_id for n in range(planned) if (request_id := f"{n:06d}") not in counts)
        text = "planned, but there is no record of it"
        odd += [case.evidence(text, None, request_id) for request_id in islice(lost, EVIDENCE_MAX)]
    return invariant(name, odd, examined=planned, of="requests", limit="1 each", verdict=Verdict.INVALID)


def _is_planned(request_id: str, planned: int) -> bool:
    return (
        request_id.isascii()
        and request_id.isdigit()
        and f"{int(request_id):06d}" == request_id
        and (int(request_id) < planned)
    )


def not_disguised(case: Case) -> Check:
    """No error is passed on as if it were an answer."""
    return _none(case, "disguised", "no error is passed on as an answer", "an error came as a success")


def not_cut(case: Case) -> Check:
    """No answer is cut and passed on as whole."""
    return _none(case, "cut", "no answer is cut", "the answer was cut")


def not_hung(case: Case) -> Check:
    """No request waits past its deadline."""
    return _none(case, "hung", "no request hangs", "no end within the client's deadline")


def refused_cleanly(case: Case) -> Check:
    """Refusals that the scenario allows make the run `safe` rather than hurting; others count as not served."""
    name = "refusals are clean and allowed by the scenario"
    refused = [request for request in case.journal.requests if request.outcome == "refused"]
    allowed = [request for request in refused if case.is_allowed(request)]
    if not allowed:
        note = "The scenario allows none of them: they count as not served." if refused else ""
        return invariant(name, [], examined=len(refused), of="refusals", limit="", note=note)
    evidence = timely(_refusal(case, request) for request in allowed)
    reason = f"{len(allowed)} of {len(refused)} refusals are allowed; the first: {sentence(evidence[0])}."
    return Check(
        group="invariant",
        name=name,
        verdict=Verdict.SAFE,
        figure=f"{len(allowed)} of {len(refused)} refusals allowed",
        limit="",
        reason=reason,
        examined=len(refused),
        evidence=evidence,
    )


def _refusal(case: Case, request: RequestRecord) -> Evidence:
    took_ms = (request.end_ns - request.intended_ns) / 1e6
    text = f"refused with {request.status} {request.code} after {took_ms:.0f} ms"
    return case.evidence(text, request.intended_ns, request.request_id)


def _none(case: Case, outcome: str, name: str, text: str) -> Check:
    found = [
        case.evidence(f"{text}: {request.problem or outcome}", request.intended_ns, request.request_id)
        for request in case.journal.requests
        if request.outcome == outcome
    ]
    return invariant(name, found, examined=len(case.journal.requests), of="requests")

"""Invariants on what clients received: every request comes to one clean end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from seawall.journal.events import RequestRecord
from seawall.plan import count_of
from seawall.verdicts.case import Case
from seawall.verdicts.checks import EVIDENCE_MAX, invariant, sentence
from seawall.verdicts.model import Check, Evidence, Verdict
from seawall.verdicts.spans import Span

__all__ = ["accounted_for", "not_cut", "not_disguised", "not_hung", "planned_count", "refused_cleanly"]


def planned_count(case: Case) -> int | None:
    """Return how many requests the plan has, None when there was none, or the run did not come to its planned end."""
    header, end = case.journal.header, case.journal.end
    if header is None or not header.planned or end is None or end.reason != "finished":
        return None
    return count_of(case.scenario.load.plan(header.seed))


def accounted_for(case: Case) -> Check:
    """Every sent request has exactly one record. A missing one is missing evidence, one too many a broken promise."""
    name = "every request has exactly one record"
    planned = planned_count(case)
    seen = bytearray(planned or 0)
    others: Counter[str] = Counter()  # of a run that ended early it holds all
    for request in case.journal.requests:
        if planned is not None and _is_planned(request.request_id, planned) and not seen[int(request.request_id)]:
            seen[int(request.request_id)] = True
        else:
            others[request.request_id] += 1
    if planned is None:
        twice = {request_id: count for request_id, count in others.items() if count > 1}
    else:
        twice = {request_id: count + 1 for request_id, count in others.items() if _is_planned(request_id, planned)}
    again = [_again(case, request, twice.pop(request.request_id)) for request in case.journal.requests
             if request.request_id in twice] if twice else []  # fmt: skip
    if again or planned is None:
        return invariant(name, again, examined=len(case.journal.requests), of="requests", limit="1 each")
    odd = [case.evidence("a record of a request that was not planned", None, request_id) for request_id in others]
    lost = (f"{n:06d}" for n in range(planned) if not seen[n])
    odd += [
        case.evidence("planned, but there is no record of it", None, request_id)
        for request_id in islice(lost, EVIDENCE_MAX)
    ]
    return invariant(name, odd, examined=planned, of="requests", limit="1 each", verdict=Verdict.INVALID)


def _again(case: Case, request: RequestRecord, count: int) -> Evidence:
    return case.evidence(f"{count} records of one request", request.intended_ns, request.request_id)


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
    """
    No answer is cut and passed on as whole.

    An answer that broke off because a fault killed the worker that gave it is told, and no violation.
    """
    return _none(case, "cut", "no answer is cut", "the answer was cut")


def not_hung(case: Case) -> Check:
    """No request waits past its deadline, unless a fault had stopped the gateway, or killed the request's worker."""
    return _none(case, "hung", "no request hangs", "no end within the client's deadline")


def refused_cleanly(case: Case) -> Check:
    """Refusals that the scenario allows make the run `safe` rather than hurting; others count as not served."""
    name = "refusals are clean and allowed by the scenario"
    refused = allowed = 0
    first: list[Evidence] = []
    for request in case.journal.requests.having("outcome", "refused"):
        refused += 1
        if case.is_allowed(request):
            allowed += 1
            if len(first) < EVIDENCE_MAX:
                first.append(_refusal(case, request))
    if not allowed:
        note = "The scenario allows none of them: they count as not served." if refused else ""
        return invariant(name, [], examined=refused, of="refusals", limit="", note=note)
    return Check(
        group="invariant",
        name=name,
        verdict=Verdict.SAFE,
        figure=f"{allowed} of {refused} refusals allowed",
        limit="",
        reason=f"{allowed} of {refused} refusals are allowed; the first: {sentence(first[0])}.",
        examined=refused,
        evidence=tuple(first),
    )


def _refusal(case: Case, request: RequestRecord) -> Evidence:
    took_ms = (request.end_ns - request.intended_ns) / 1e6
    text = f"refused with {request.status} {request.code} after {took_ms:.0f} ms"
    return case.evidence(text, request.intended_ns, request.request_id)


def _none(case: Case, outcome: str, name: str, text: str) -> Check:
    stops = _stops(case)

    def judged() -> Iterator[tuple[Evidence, bool]]:
        for request in case.journal.requests.having("outcome", outcome):
            why = _explanation(case, request, stops)
            said = f"{text}: {request.problem or outcome}" + (f"; {why}" if why else "")
            yield case.evidence(said, request.intended_ns, request.request_id), bool(why)

    return invariant(
        name,
        (evidence for evidence, is_explained in judged() if not is_explained),
        examined=len(case.journal.requests),
        of="requests",
        explained=(evidence for evidence, is_explained in judged() if is_explained),
    )


def _explanation(case: Case, request: RequestRecord, stops: Sequence[tuple[str, Span]]) -> str:
    """Return which fault at the gateway's own process took this request's end from it; empty where none did."""
    death = case.orphans.get(request.request_id)
    if death is not None:
        return f"fault {death.killed_by} had killed its worker {death.worker}"
    stop = next((fault_id for fault_id, span in stops if span.holds(request.end_ns)), None)
    return f"fault {stop} had stopped the gateway" if stop is not None and request.outcome == "hung" else ""


def _stops(case: Case) -> list[tuple[str, Span]]:
    """Return when a fault had the gateway stopped."""
    stopping = [fault.id for fault in case.scenario.faults if fault.target == "gateway" and fault.process == "stop"]
    return [(fault_id, span) for fault_id in stopping for span in case.during(fault_id)]

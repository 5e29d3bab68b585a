"""The expectation `eventually`: true within a time after a fault has healed, and held from then on. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

import msgspec

from seawall.scenario.model import Eventually
from seawall.verdicts.case import Case, served_by
from seawall.verdicts.checks import absent, sentence, unobservable
from seawall.verdicts.model import Check, Evidence, Verdict
from seawall.verdicts.spans import Span

__all__ = ["WINDOW_NS", "WINDOW_REQUESTS", "check_eventually"]

WINDOW_NS = 1_000_000_000
WINDOW_REQUESTS = 20
"""A share is taken over the last second or the last 20 requests, whichever reaches back further."""


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """When it became true for good, None if it did not; and the last moment at which it was not true."""

    since_ns: int | None
    last_false: Evidence = Evidence(text="true at once")


def check_eventually(case: Case, spec: Eventually) -> Check:
    """
    Return the check of one `eventually`.

    It must be true at some instant within the time after each healing of the fault, and from then on until the next
    injection of any fault or the end of the load. A time that ends before it could be decided makes it `invalid`.
    Of a fault that repeats the first healing that went wrong is told, else the first.
    """
    kind = "breaker" if spec.breaker is not None else "request"
    what = f"the breaker of {spec.breaker} is {spec.state}"
    if spec.share is not None:
        what = f"{spec.served_by} serves {spec.share.text} of the requests"
    name, limit = f"{what} after {spec.after}", f"within {spec.within:g} s"
    if not case.journal.observes(kind):
        return unobservable("eventually", name, kind, limit=limit)
    heals = case.after(spec.after)
    if not heals:
        return absent("eventually", name, f"Fault {spec.after} never healed.", limit=limit)
    answers = _Answers(case, spec.served_by) if spec.served_by is not None else None
    checks = [_after(case, spec, name, limit, span.start_ns, answers) for span in heals]
    return min(checks, key=lambda check: (check.verdict is not Verdict.FAIL, check.verdict is not Verdict.INVALID))


def _after(case: Case, spec: Eventually, name: str, limit: str, healed_ns: int, answers: _Answers | None) -> Check:
    until_ns = case.hold_end(healed_ns)
    span = Span(healed_ns, until_ns)
    deadline_ns = healed_ns + round(spec.within * 1e9)
    if answers is not None:
        examined = len(case.requests_in([span]))
        if examined < WINDOW_REQUESTS:
            reason = f"{examined} requests after {spec.after} are too few for a share; it takes {WINDOW_REQUESTS}."
            return absent("eventually", name, reason, limit=limit, examined=examined)
        held = _share_held(case, spec, answers, span)
    else:
        examined = len(case.workers or case.periods.workers)
        held = _breaker_held(case, spec, span)
    if held.since_ns is not None and held.since_ns <= deadline_ns:
        took_s = (held.since_ns - healed_ns) / 1e9
        return Check(
            group="eventually",
            name=name,
            verdict=Verdict.PASS,
            figure=f"{took_s:.3f} s",
            limit=limit,
            reason=f"True {took_s:.3f} s after {spec.after} had healed, and held until {_end(case, until_ns)}.",
            margin=f"{spec.within - took_s:.3f} s inside",
            examined=examined,
        )
    if until_ns < deadline_ns:
        reason = f"{_end(case, until_ns)} came {(until_ns - healed_ns) / 1e9:.3f} s after {spec.after} had healed: "
        return absent("eventually", name, f"{reason}too soon to decide.", limit=limit, examined=examined)
    return _missed(case, spec, name, limit, held, healed_ns, examined)


def _missed(case: Case, spec: Eventually, name: str, limit: str, held: _Held, healed_ns: int, examined: int) -> Check:
    figure = "never held"
    reason = f"Not true for good after {spec.after} had healed"
    if held.since_ns is not None:
        took_s = (held.since_ns - healed_ns) / 1e9
        figure, reason = f"{took_s:.3f} s", f"True for good only {took_s:.3f} s after {spec.after} had healed"
    reason += f"; the last time not: {sentence(held.last_false)}"
    if spec.after not in case.met:
        reason += f"; but nobody met {spec.after}"
    return Check(
        group="eventually",
        name=name,
        verdict=Verdict.FAIL if spec.after in case.met else Verdict.INVALID,
        figure=figure,
        limit=limit,
        reason=f"{reason}.",
        examined=examined,
        evidence=(held.last_false,),
    )


def _breaker_held(case: Case, spec: Eventually, span: Span) -> _Held:
    held = _Held(since_ns=span.start_ns)
    for worker in case.workers or case.periods.workers:
        for period in case.periods.of(worker, spec.breaker or ""):
            overlaps = period.start_ns < span.end_ns and period.end_ns > span.start_ns
            if not overlaps or period.state == spec.state:
                continue
            if period.end_ns >= span.end_ns:
                text = f"{worker}'s breaker of {spec.breaker} is still {period.state}"
                return _Held(since_ns=None, last_false=case.evidence(text, max(period.start_ns, span.start_ns)))
            if period.end_ns > (held.since_ns or 0):
                text = f"{worker}'s breaker of {spec.breaker} was {period.state}"
                evidence = case.evidence(text, max(period.start_ns, span.start_ns))
                held = _Held(since_ns=period.end_ns, last_false=evidence)
    return held


class _Answers:
    """The requests that count for a share, in order: when they were due, and how many before each were served so."""

    def __init__(self, case: Case, provider: str) -> None:
        self.places = array("q")
        self.moments = array("q")
        self.served = array("q", [0])
        for place, request in enumerate(case.journal.requests):
            if not case.is_allowed(request):
                self.places.append(place)
                self.moments.append(request.intended_ns)
                self.served.append(self.served[-1] + (served_by(request) == provider))


def _share_held(case: Case, spec: Eventually, answers: _Answers, span: Span) -> _Held:
    """Evaluate the share at each arrival: it can change at no other moment. Allowed refusals are no part of it."""
    moments, served = answers.moments, answers.served
    first, end = bisect_left(moments, span.start_ns), bisect_left(moments, span.end_ns)
    since_ns: int | None = span.start_ns
    missed: tuple[int, int] | None = None
    for n in range(first, end):
        start = max(0, min(bisect_right(moments, moments[n] - WINDOW_NS), n - WINDOW_REQUESTS + 1))
        share = (served[n + 1] - served[start]) / (n + 1 - start)
        if spec.share is not None and spec.share.holds(share):
            since_ns = moments[n] if since_ns is None else since_ns
        else:
            since_ns, missed = None, (start, n)
    if missed is None:
        return _Held(since_ns=since_ns)
    start, n = missed
    share = (served[n + 1] - served[start]) / (n + 1 - start)
    text = f"{spec.served_by} served {share * 100:.1f} % of the last {n + 1 - start} requests"
    request_id = case.journal.requests[answers.places[n]].request_id
    return _Held(since_ns=since_ns, last_false=case.evidence(text, moments[n], request_id))


def _end(case: Case, until_ns: int) -> str:
    return "the end of the load" if until_ns == case.journal.load_end_ns else "the next fault"

"""What a scenario expects: always, sometimes, eventually, thresholds, by the time words of the language. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from seawall.journal.events import BreakerChange, LatencyChange
from seawall.journal.view import Timed
from seawall.scenario.model import Always, Sometimes, Threshold
from seawall.verdicts.calls import beside_a_probe, calls_within
from seawall.verdicts.case import Case, served_by
from seawall.verdicts.checks import absent, sentence, timely, unobservable
from seawall.verdicts.eventually import check_eventually
from seawall.verdicts.metrics import judge_limit
from seawall.verdicts.model import Check, Evidence, Verdict
from seawall.verdicts.scaling import check_scaling

__all__ = ["check_expectations"]


def check_expectations(case: Case) -> list[Check]:
    """Return one check for each thing that the scenario expects, in its order."""
    expect = case.scenario.expect
    return [
        *(_always(case, spec) for spec in expect.always),
        *(_sometimes(case, spec) for spec in expect.sometimes),
        *(check_eventually(case, spec) for spec in expect.eventually),
        *(_threshold(case, spec) for spec in expect.thresholds),
        *(check_scaling(case, spec) for spec in expect.scaling),
    ]


def _always(case: Case, spec: Always) -> Check:
    when = f"while {spec.state}" if spec.state is not None else f"during {spec.during}"
    name, limit = f"calls to {spec.calls_to} {when}", f"<= {spec.at_most}"
    for kind in ("call", "breaker") if spec.state is not None else ("call",):
        if not case.journal.observes(kind):
            return unobservable("always", name, kind, limit=limit)
    counts, extra = _calls_while(case, spec) if spec.state is not None else _calls_during(case, spec)
    if not counts:
        return absent("always", name, f"Never checked: there was no time {when} for {spec.calls_to}.", limit=limit)
    most = max(counts.values())
    evidence = timely(extra)
    return Check(
        group="always",
        name=name,
        verdict=Verdict.FAIL if evidence else Verdict.PASS,
        figure=f"at most {most}",
        limit=limit,
        reason=f"{sentence(evidence[0])}." if evidence else f"At most {most} in each of {len(counts)} times {when}.",
        margin=f"{abs(spec.at_most - most)} {'outside' if evidence else 'inside'}",
        examined=len(counts),
        evidence=evidence,
    )


_Counts = dict[tuple[str, int], int]
"""How many calls there were in each time, by who and when it began."""


def _calls_while(case: Case, spec: Always) -> tuple[_Counts, list[Evidence]]:
    """Count the calls that started in each period of the state; a half-open one's probe is none of them."""
    state, provider = spec.state or "", spec.calls_to
    counts: _Counts = {
        (worker, period.start_ns): 0
        for worker in {*case.workers, *case.periods.workers}
        for period in case.periods.of(worker, provider)
        if period.state == state
    }
    extra: list[Evidence] = []
    found = beside_a_probe(case, provider) if state == "half_open" else calls_within(case, state, provider)
    for pair, period in found:
        counts[period.worker, period.start_ns] += 1
        if counts[period.worker, period.start_ns] > spec.at_most:
            text = f"{period.worker} called {provider} while its breaker was {state}"
            extra.append(case.evidence(text, pair.start_ns, pair.call.request_id))
    return counts, extra


def _calls_during(case: Case, spec: Always) -> tuple[_Counts, list[Evidence]]:
    """Count the calls that arrived in each time in which the fault was in force."""
    counts: _Counts = {}
    extra: list[Evidence] = []
    for span in case.during(spec.during or ""):
        place = (spec.during or "", span.start_ns)
        counts[place] = 0
        for call in case.journal.calls.within([(span.start_ns, span.end_ns)]):
            counts[place] += call.provider == spec.calls_to
            if call.provider == spec.calls_to and counts[place] > spec.at_most:
                text = f"{call.provider} was called during {spec.during}"
                extra.append(case.evidence(text, call.arrival_ns, call.request_id))
    return counts, extra


def _sometimes(case: Case, spec: Sometimes) -> Check:
    if spec.reaches is not None:
        return _sometimes_reached(case, spec)
    if spec.skipped is not None:
        return _sometimes_skipped(case, spec)
    when = _when(spec)
    if spec.served_by is not None:
        name = f"requests served by {spec.served_by}{when}"
    else:
        name = f"requests refused with {spec.refused}{when}"
    count, first = 0, None
    for request in case.journal.requests if spec.during is None else case.requests_in(case.during(spec.during)):
        if spec.served_by is not None:
            counts = served_by(request) == spec.served_by
        else:
            counts = request.outcome == "refused" and request.code == spec.refused
        count += counts
        first = request if counts and first is None else first
    evidence = [case.evidence("the first such request", first.intended_ns, first.request_id)] if first else []
    return _counted(case, spec, name, count, evidence)


def _sometimes_skipped(case: Case, spec: Sometimes) -> Check:
    """Count the requests of which a provider was left out, by the time at which the router left it out."""
    why = f" for {spec.reason}" if spec.reason is not None else ""
    name = f"requests that left out {spec.skipped}{why}{_when(spec)}"
    if not case.journal.observes("attempt"):
        return unobservable("sometimes", name, "attempt")
    skips = case.journal.skips
    if spec.during is not None:
        skips = skips.within((span.start_ns, span.end_ns) for span in case.during(spec.during))
    found: set[str] = set()
    evidence: list[Evidence] = []
    for timed in skips:
        if timed.event.provider == spec.skipped and spec.reason in (None, timed.event.reason):
            found.add(timed.event.request_id)
            if not evidence:
                text = f"{spec.skipped} was left out: {timed.event.reason}"
                evidence = [case.evidence(text, timed.mono_ns, timed.event.request_id)]
    return _counted(case, spec, name, len(found), evidence)


def _sometimes_reached(case: Case, spec: Sometimes) -> Check:
    """A breaker that reaches a state, or response times that grow slow or fast again, in any worker."""
    what = f"the breaker of {spec.breaker}" if spec.breaker is not None else f"the latency of {spec.latency}"
    name = f"{what} reaches {spec.reaches}{_when(spec)}"
    if not case.journal.observes("breaker"):
        return unobservable("sometimes", name, "breaker")
    spans = case.during(spec.during) if spec.during is not None else None
    reached = [
        (timed.mono_ns, text)
        for timed, text in (_breaker_changes(case) if spec.breaker is not None else _latency_changes(case))
        if timed.event.provider == (spec.breaker or spec.latency)
        and timed.event.to == spec.reaches
        and (spans is None or any(span.holds(timed.mono_ns) for span in spans))
    ]
    evidence = [case.evidence(f"{what} became {spec.reaches} {text}", at_ns) for at_ns, text in reached[:1]]
    return _seen(case, spec, name, bool(reached), f"{len(reached)} times", evidence, ">= 1")


def _breaker_changes(case: Case) -> Iterator[tuple[Timed[BreakerChange], str]]:
    return ((timed, f"in {timed.event.worker}: {timed.event.cause}") for timed in case.journal.breakers)


def _latency_changes(case: Case) -> Iterator[tuple[Timed[LatencyChange], str]]:
    for timed in case.journal.latencies:
        change = timed.event
        yield timed, f"in {change.worker}: {change.average_ms:.0f} ms on average, limit {change.limit_ms:.0f} ms"


def _when(spec: Sometimes) -> str:
    return f" during {spec.during}" if spec.during is not None else ""


def _counted(case: Case, spec: Sometimes, name: str, count: int, evidence: list[Evidence]) -> Check:
    limit = spec.requests
    held = limit is None or limit.holds(count)
    return _seen(case, spec, name, held, f"{count} requests", evidence, "" if limit is None else limit.text)


def _seen(
    case: Case, spec: Sometimes, name: str, held: bool, figure: str, evidence: list[Evidence], limit: str
) -> Check:
    """Return the check; what was missed is a fault of the system only when every fault it depends on was met."""
    if spec.during is not None:
        depends = {spec.during}
    else:
        watched = spec.breaker or spec.latency
        aimed = {fault.id for fault in case.scenario.faults if watched in (None, fault.target)}
        depends = aimed or set(case.specs)
    unmet = sorted(depends - case.met)
    # A run that was broken off might have shown it later.
    cut_short = case.journal.end is None or case.journal.end.reason != "finished"
    verdict = Verdict.PASS if held else Verdict.INVALID if unmet or cut_short else Verdict.FAIL
    reason = f"{figure}, it takes {limit}" if limit else figure
    if held and evidence:
        reason = f"{figure}; {sentence(evidence[0])}"
    elif unmet:
        reason += f", but nobody met {', '.join(unmet)}"
    elif not held and cut_short:
        reason += ", but the run was broken off"
    return Check(
        group="sometimes",
        name=name,
        verdict=verdict,
        figure=figure,
        limit=limit,
        reason=f"{reason}.",
        examined=len(case.journal.requests),
        evidence=tuple(evidence),
    )


def _threshold(case: Case, spec: Threshold) -> Check:
    if spec.during is not None:
        windows, when = [case.requests_in([span]) for span in case.during(spec.during)], f" during {spec.during}"
    elif spec.after is not None:
        windows, when = [case.requests_in([span]) for span in case.after(spec.after)], f" after {spec.after}"
    else:
        windows, when = [case.journal.requests], ""
    name = f"{spec.metric} {spec.limit.text}{when}"
    check = judge_limit(case, name, spec.metric, spec.limit, windows, severity=spec.severity)
    unmet = sorted(case.specs.keys() - case.met)
    # That something takes at least so long is no promise of the system: it says that a fault was felt.
    is_claim = spec.limit.unit == "s" and spec.limit.comparison in (">=", ">")
    if check.verdict is Verdict.FAIL and is_claim and unmet:
        reason = f"{check.reason.removesuffix('.')}; but nobody met {', '.join(unmet)}."
        return msgspec.structs.replace(check, verdict=Verdict.INVALID, reason=reason)
    return check

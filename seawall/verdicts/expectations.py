"""What a scenario expects: always, sometimes, eventually, thresholds, by the time words of the language. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from seawall.scenario.model import Always, Sometimes, Threshold
from seawall.verdicts.calls import beside_a_probe, calls_within
from seawall.verdicts.case import Case, served_by
from seawall.verdicts.checks import absent, sentence, timely, unobservable
from seawall.verdicts.eventually import check_eventually
from seawall.verdicts.metrics import judge_limit
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["check_expectations"]


def check_expectations(case: Case) -> list[Check]:
    """Return one check for each thing that the scenario expects, in its order."""
    expect = case.scenario.expect
    return [
        *(_always(case, spec) for spec in expect.always),
        *(_sometimes(case, spec) for spec in expect.sometimes),
        *(check_eventually(case, spec) for spec in expect.eventually),
        *(_threshold(case, spec) for spec in expect.thresholds),
    ]


def _always(case: Case, spec: Always) -> Check:
    when = f"while {spec.state}" if spec.state is not None else f"during {spec.during}"
    name, limit = f"calls to {spec.calls_to} {when}", f"<= {spec.at_most}"
    for kind in ("call", "breaker") if spec.state is not None else ("call",):
        if not case.journal.observes(kind):
            return unobservable("always", name, kind, limit=limit)
    times = _calls_while(case, spec) if spec.state is not None else _calls_during(case, spec)
    if not times:
        return absent("always", name, f"Never checked: there was no time {when} for {spec.calls_to}.", limit=limit)
    most = max(len(calls) for calls in times)
    extra = timely(call for calls in times for call in _in_order(calls)[spec.at_most :])
    return Check(
        group="always",
        name=name,
        verdict=Verdict.FAIL if extra else Verdict.PASS,
        figure=f"at most {most}",
        limit=limit,
        reason=f"{sentence(extra[0])}." if extra else f"At most {most} in each of {len(times)} times {when}.",
        margin=f"{abs(spec.at_most - most)} {'outside' if extra else 'inside'}",
        examined=len(times),
        evidence=extra,
    )


def _in_order(evidence: Sequence[Evidence]) -> list[Evidence]:
    return sorted(evidence, key=lambda e: (e.at_s or 0.0, e.request_id or ""))


def _calls_while(case: Case, spec: Always) -> list[list[Evidence]]:
    """Return, for each period of the state, the calls that started in it, but for the probes of a half-open one."""
    state, provider = spec.state or "", spec.calls_to
    times: dict[tuple[str, int], list[Evidence]] = {
        (worker, period.start_ns): []
        for worker in {*case.workers, *case.periods.workers}
        for period in case.periods.of(worker, provider)
        if period.state == state
    }
    found = beside_a_probe(case, provider) if state == "half_open" else calls_within(case, state, provider)
    for pair, period in found:
        text = f"{period.worker} called {provider} while its breaker was {state}"
        times[period.worker, period.start_ns].append(case.evidence(text, pair.start_ns, pair.call.request_id))
    return list(times.values())


def _calls_during(case: Case, spec: Always) -> list[list[Evidence]]:
    calls = [call for call in case.journal.calls if call.provider == spec.calls_to]
    return [
        [
            case.evidence(f"{call.provider} was called during {spec.during}", call.arrival_ns, call.request_id)
            for call in calls
            if span.holds(call.arrival_ns)
        ]
        for span in case.during(spec.during or "")
    ]


def _sometimes(case: Case, spec: Sometimes) -> Check:
    spans = case.during(spec.during) if spec.during is not None else None
    when = f" during {spec.during}" if spec.during is not None else ""
    if spec.breaker is not None:
        return _sometimes_breaker(case, spec, when)
    requests = case.journal.requests if spans is None else case.requests_in(spans)
    if spec.served_by is not None:
        name = f"requests served by {spec.served_by}{when}"
        found = [r for r in requests if served_by(r) == spec.served_by]
    else:
        name = f"requests refused with {spec.refused}{when}"
        found = [r for r in requests if r.outcome == "refused" and r.code == spec.refused]
    limit = spec.requests
    held = limit is None or limit.holds(len(found))
    evidence = [case.evidence("the first such request", r.intended_ns, r.request_id) for r in found[:1]]
    return _seen(case, spec, name, held, f"{len(found)} requests", evidence, "" if limit is None else limit.text)


def _sometimes_breaker(case: Case, spec: Sometimes, when: str) -> Check:
    name = f"the breaker of {spec.breaker} reaches {spec.reaches}{when}"
    if not case.journal.observes("breaker"):
        return unobservable("sometimes", name, "breaker")
    spans = case.during(spec.during) if spec.during is not None else None
    reached = [
        timed
        for timed in case.journal.breakers
        if timed.event.provider == spec.breaker
        and timed.event.to == spec.reaches
        and (spans is None or any(span.holds(timed.mono_ns) for span in spans))
    ]
    text = f"the breaker of {spec.breaker} became {spec.reaches}"
    evidence = [case.evidence(f"{text} in {t.event.worker}: {t.event.cause}", t.mono_ns) for t in reached[:1]]
    return _seen(case, spec, name, bool(reached), f"{len(reached)} times", evidence, ">= 1")


def _seen(
    case: Case, spec: Sometimes, name: str, held: bool, figure: str, evidence: list[Evidence], limit: str
) -> Check:
    """Return the check; what was missed is a fault of the system only when every fault it depends on was met."""
    if spec.during is not None:
        depends = {spec.during}
    else:
        aimed = {fault.id for fault in case.scenario.faults if spec.breaker in (None, fault.target)}
        depends = aimed or set(case.specs)
    unmet = sorted(depends - case.met)
    verdict = Verdict.PASS if held else Verdict.INVALID if unmet else Verdict.FAIL
    reason = f"{figure}, it takes {limit}" if limit else figure
    if held and evidence:
        reason = f"{figure}; {sentence(evidence[0])}"
    elif unmet:
        reason += f", but nobody met {', '.join(unmet)}"
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
    return judge_limit(case, name, spec.metric, spec.limit, windows, severity=spec.severity)

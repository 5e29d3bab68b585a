"""
Pods and what scales them: bounds, deadlines, no flapping, and whether the autoscaler did what its figures say. Pure.

Ready pods are counted by uid from what the kubelets tell: the status of a Deployment lags behind. What the autoscaler
wants is judged by what the metrics server told it: of one answer, the replicas it takes are the CPU in use, over the
target's share of what a pod requests. Pods that are not ready count as idle when there is too much load, so the figure
over all pods is the most that may be wanted, and the figure over the ready ones the least that must be kept.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from seawall.journal.events import Hpa, MetricsAnswer
from seawall.journal.view import Journal, Timed
from seawall.scenario.cluster import Scaling
from seawall.verdicts.case import Case
from seawall.verdicts.checks import absent, invariant, sentence, timely
from seawall.verdicts.model import Check, Evidence, Verdict
from seawall.verdicts.spans import Span

__all__ = ["check_scaling", "follows_the_metrics", "keeps_its_window", "stays_within_bounds"]

TOLERANCE = 0.1
"""The controller's own: within it the ratio counts as 1."""
_LOOK_BACK_NS = 5_000_000_000
"""A decision is of the last answers before it: a sync, and what it takes until it is seen."""
_SLACK_NS = 2_500_000_000
"""By as much may be seen late that a window has passed: it counts from sync to sync."""
_CONTROLLER = "kube-controller-manager"
_ASKER = "horizontal-pod-autoscaler"


class _Counts(msgspec.Struct, frozen=True):
    """A count over time: from each moment on, until the next."""

    moments: list[int]
    values: list[int]

    def at(self, ns: int) -> int:
        """Return the count at a moment, 0 before the first."""
        place = bisect_right(self.moments, ns)
        return self.values[place - 1] if place else 0

    def within(self, span: Span) -> Iterator[tuple[int, int]]:
        """Yield the count at the beginning of a span, and every other that begins within it, with its moment."""
        yield span.start_ns, self.at(span.start_ns)
        for place in range(bisect_right(self.moments, span.start_ns), len(self.moments)):
            if self.moments[place] >= span.end_ns:
                return
            yield self.moments[place], self.values[place]


def check_scaling(case: Case, spec: Scaling) -> Check:
    """Return the check of one thing that the scenario expects of the pods."""
    if spec.turns is not None:
        return _turns(case, spec)
    if not case.journal.pods:
        return absent("scaling", _name(spec), "Nobody told anything of pods.", limit=_limit(spec))
    counts = case.once(_ready)
    if spec.back:
        return _back(case, spec, counts)
    return _reaches(case, spec, counts) if spec.reaches is not None else _stays(case, spec, counts)


def stays_within_bounds(case: Case) -> Check:
    """The autoscaler never wants fewer replicas than its minimum, nor more than its maximum."""
    said = [timed for timed in case.journal.hpas if timed.event.desired and timed.event.max_replicas is not None]
    found = (
        case.evidence(f"{each.event.name} wants {each.event.desired}", each.mono_ns)
        for each in said
        if not (each.event.min_replicas or 1) <= each.event.desired <= (each.event.max_replicas or 0)
    )
    return invariant("replicas stay within their bounds", found, examined=len(said), of="states of an HPA")


def follows_the_metrics(case: Case) -> Check:
    """The autoscaler wants more only when its metrics ask for it, and never more than they ask for."""
    name = "what the HPA wants follows from its metrics"
    needs = case.once(_needs)
    changes = [
        (before, after) for before, after in _changes(case.journal) if after.event.desired > before.event.desired
    ]
    found: list[Evidence] = []
    for before, after in changes:
        # Below the minimum, or at the very first, no metric was asked.
        lowest = max(after.event.min_replicas or 1, before.event.desired)
        told = [need for need in needs if after.mono_ns - _LOOK_BACK_NS <= need.at_ns <= after.mono_ns]
        most = max([need.most for need in told], default=None)
        wanted = after.event.desired
        if most is None:
            found.append(
                case.evidence(f"{wanted} replicas were wanted, and no metric had been asked for", after.mono_ns)
            )
        elif wanted > max(most, lowest):
            text = f"{wanted} replicas were wanted where the metrics ask for {most} at most"
            found.append(case.evidence(text, after.mono_ns))
    if not case.journal.metrics_answers and changes:
        return invariant(name, [], examined=0, of="answers of a metrics server of ours")
    return invariant(name, found, examined=len(changes), of="growths")


def keeps_its_window(case: Case) -> Check:
    """The autoscaler takes no pod away that the metrics asked for within its stabilization window."""
    needs = case.once(_needs)
    changes = [
        (before, after) for before, after in _changes(case.journal) if after.event.desired < before.event.desired
    ]
    found: list[Evidence] = []
    for _before, after in changes if needs else ():
        window_ns = round((after.event.stabilization_s or 0.0) * 1e9) - _SLACK_NS
        told = [need for need in needs if after.mono_ns - window_ns <= need.at_ns <= after.mono_ns - _SLACK_NS]
        least = max((need.least for need in told), default=0)
        if after.event.desired < min(least, after.event.max_replicas or least):
            when_s = (after.mono_ns - max(need.at_ns for need in told if need.least == least)) / 1e9
            text = f"{after.event.desired} replicas were wanted {when_s:.1f} s after the metrics asked for {least}"
            found.append(case.evidence(text, after.mono_ns))
    return invariant("no pod is taken away before its time", found, examined=len(changes), of="shrinkings")


class _Need(msgspec.Struct, frozen=True):
    """How many replicas one answer of the metrics server asks for, at the least and at the most."""

    at_ns: int
    least: int
    most: int


def _needs(case: Case) -> list[_Need]:
    spec = case.scenario.cluster
    if spec is None or spec.hpa is None:
        return []
    capacity = spec.cpu_request_milli * spec.hpa.target_percent / 100
    counted = _Counted(case.journal)
    found: list[_Need] = []
    for timed in case.journal.metrics_answers:
        if not _is_asked_by_the_hpa(timed.event):
            continue
        total = sum(pod.cpu_milli for pod in timed.event.pods)
        ready = sum(pod.cpu_milli for pod in timed.event.pods if counted.counts(pod.name, timed, pod.window_s))
        least = math.ceil(ready / capacity / (1 + TOLERANCE) - 1e-9)
        most = math.ceil(total / capacity + 1e-9)
        found.append(_Need(timed.mono_ns, least, max(most, 1)))
    return found


def _is_asked_by_the_hpa(answer: MetricsAnswer) -> bool:
    is_controller = _ASKER in answer.asked_by or _CONTROLLER in answer.asked_by
    return is_controller and answer.status == 200 and bool(answer.pods)


class _Counted:
    """When each pod was ready: a sample counts when its whole window lies in that time."""

    def __init__(self, journal: Journal) -> None:
        self._since_ns: dict[str, list[tuple[int, bool]]] = {}
        for timed in journal.pods:
            pod = timed.event
            if pod.action != "start":
                self._since_ns.setdefault(pod.name, []).append((timed.mono_ns, pod.action == "ready"))

    def counts(self, name: str, timed: Timed[MetricsAnswer], window_s: float) -> bool:
        """Whether the pod was ready from a second before the sample's window to the answer."""
        changes = [change for change in self._since_ns.get(name, ()) if change[0] <= timed.mono_ns]
        start_ns = timed.mono_ns - round((window_s + 1.0) * 1e9)
        return bool(changes) and changes[-1][1] and changes[-1][0] <= start_ns


def _changes(journal: Journal) -> Iterator[tuple[Timed[Hpa], Timed[Hpa]]]:
    """Yield each two states one after the other of the same HPA, the first with a wish."""
    last: dict[str, Timed[Hpa]] = {}
    for timed in journal.hpas:
        before = last.get(timed.event.name)
        if timed.event.desired:
            last[timed.event.name] = timed
        if before is not None and timed.event.desired:
            yield before, timed


def _ready(case: Case) -> _Counts:
    ready: set[str] = set()
    moments: list[int] = []
    values: list[int] = []
    for timed in case.journal.pods:
        if timed.event.action == "ready":
            ready.add(timed.event.uid)
        elif timed.event.action != "start":
            ready.discard(timed.event.uid)
        if not values or values[-1] != len(ready):
            moments.append(timed.mono_ns)
            values.append(len(ready))
    return _Counts(moments, values)


def _reaches(case: Case, spec: Scaling, counts: _Counts) -> Check:
    if spec.after is not None:
        spans = case.after(spec.after)
        if not spans:
            return absent("scaling", _name(spec), f"Fault {spec.after} never healed.", limit=_limit(spec))
    else:
        start_ns = case.journal.t0_ns + round((spec.since or 0.0) * 1e9)
        spans = [Span(start_ns, max(start_ns, case.journal.load_end_ns))]
    deadline_ns = round((spec.within or 0.0) * 1e9)
    worst_s = 0.0
    for span in spans:
        reached = next((at_ns for at_ns, count in counts.within(span) if _holds(spec, count)), None)
        if reached is None or reached - span.start_ns > deadline_ns:
            return _missed(case, spec, span, counts, reached, deadline_ns)
        worst_s = max(worst_s, (reached - span.start_ns) / 1e9)
    reason = f"After {worst_s:.1f} s" + (f", at the worst of {len(spans)} times." if len(spans) > 1 else ".")
    margin = f"{(spec.within or 0.0) - worst_s:.1f} s inside"
    return _check(spec, Verdict.PASS, f"{worst_s:.1f} s", reason, len(spans), margin=margin)


def _missed(case: Case, spec: Scaling, span: Span, counts: _Counts, reached: int | None, deadline_ns: int) -> Check:
    seen = [count for _, count in counts.within(Span(span.start_ns, span.start_ns + deadline_ns))]
    text = f"between {min(seen)} and {max(seen)} pods were ready in that time"
    figure = "never" if reached is None else f"{(reached - span.start_ns) / 1e9:.1f} s"
    evidence = case.evidence(text, span.start_ns)
    if reached is None and span.end_ns < span.start_ns + deadline_ns:
        reason = "The time was over too soon to decide: the load or another fault came before the deadline."
        return _check(spec, Verdict.INVALID, "n/a", reason, 1, evidence=[evidence])
    return _failed(case, spec, figure, evidence)


def _stays(case: Case, spec: Scaling, counts: _Counts) -> Check:
    spans = [Span(case.journal.t0_ns, case.journal.load_end_ns)] if spec.during is None else case.during(spec.during)
    if not spans:
        return absent("scaling", _name(spec), f"Fault {spec.during} was never in force.", limit=_limit(spec))
    seen = [(at_ns, count) for span in spans for at_ns, count in counts.within(span)]
    least, most = min(count for _, count in seen), max(count for _, count in seen)
    figure = f"{least} to {most} pods"
    bad = next(((at_ns, count) for at_ns, count in seen if not _holds(spec, count)), None)
    if bad is not None:
        return _failed(case, spec, figure, case.evidence(f"{bad[1]} pods were ready", bad[0]))
    return _check(spec, Verdict.PASS, figure, f"Always: {figure}.", len(seen))


def _back(case: Case, spec: Scaling, counts: _Counts) -> Check:
    """Each time that pods are taken, as many are ready again within the deadline, from the first that went."""
    took: list[float] = []
    for interval in case.intervals(spec.after or ""):
        if interval.injected_ns is None:
            continue
        # In virtual time the pod goes at the very moment of the injection.
        start_ns = interval.injected_ns - 1
        before = counts.at(start_ns)
        end_ns = case.journal.load_end_ns
        later = list(counts.within(Span(start_ns, end_ns)))
        dip = next((place for place, (_, count) in enumerate(later) if count < before), None)
        if dip is None:
            reason = f"No pod went when {spec.after} took effect."
            return _check(
                spec, Verdict.INVALID, "n/a", reason, 1, evidence=[case.evidence(reason[:-1], interval.injected_ns)]
            )
        gone_ns = later[dip][0]
        again = next((at_ns for at_ns, count in later[dip:] if count >= before), None)
        seconds = ((again if again is not None else end_ns) - gone_ns) / 1e9
        if again is None and seconds < (spec.within or 0.0):
            return _check(spec, Verdict.INVALID, "n/a", "The load ended before the deadline.", len(took))
        if again is None or seconds > (spec.within or 0.0):
            figure = f"{seconds:.1f} s" if again is not None else "never"
            text = f"{before} pods were ready, then {later[dip][1]}"
            return _failed(case, spec, figure, case.evidence(text, gone_ns))
        took.append(seconds)
    if not took:
        return absent("scaling", _name(spec), f"Fault {spec.after} never took effect.", limit=_limit(spec))
    margin = f"{(spec.within or 0.0) - max(took):.1f} s inside"
    reason = f"All were back after {max(took):.1f} s at the latest, {len(took)} times."
    return _check(spec, Verdict.PASS, f"{max(took):.1f} s", reason, len(took), margin=margin)


def _turns(case: Case, spec: Scaling) -> Check:
    """Count how often what is wanted turns round during the load."""
    wanted = [timed for timed in case.journal.hpas if timed.event.desired and timed.mono_ns <= case.journal.load_end_ns]
    if not wanted:
        return absent("scaling", _name(spec), "No HPA told anything.", limit=_limit(spec))
    turns: list[Evidence] = []
    direction = 0
    for before, after in itertools.pairwise(wanted):
        step = after.event.desired - before.event.desired
        if step and direction and (step > 0) is not (direction > 0):
            turns.append(case.evidence(f"from {before.event.desired} to {after.event.desired}", after.mono_ns))
        direction = step or direction
    held = spec.turns is not None and spec.turns.holds(len(turns))
    figure = f"{len(turns)} turns"
    path = " ".join(str(value) for value in _steps([timed.event.desired for timed in wanted]))
    if not held:
        return _failed(case, spec, figure, *turns)
    return _check(spec, Verdict.PASS, figure, f"Wanted were, one after the other: {path}.", len(wanted), evidence=turns)


def _steps(values: Sequence[int]) -> list[int]:
    return [value for n, value in enumerate(values) if n == 0 or values[n - 1] != value]


def _holds(spec: Scaling, count: int) -> bool:
    limit = spec.reaches or spec.stays
    return limit is not None and limit.holds(count)


def _failed(case: Case, spec: Scaling, figure: str, *evidence: Evidence) -> Check:
    """Return the check of what was missed; a fault that it is about and that nobody met makes it `invalid`."""
    unmet = [name for name in (spec.after, spec.during) if name is not None and name not in case.met]
    first = timely(evidence)
    reason = sentence(first[0]) + "." if first else f"{figure}, it takes {_limit(spec)}."
    if unmet:
        reason = f"{reason.removesuffix('.')}; but nobody met {unmet[0]}."
    return _check(spec, Verdict.INVALID if unmet else Verdict.FAIL, figure, reason, 1, evidence=first)


def _check(
    spec: Scaling,
    verdict: Verdict,
    figure: str,
    reason: str,
    examined: int,
    *,
    margin: str = "",
    evidence: Sequence[Evidence] = (),
) -> Check:
    return Check(
        group="scaling",
        name=_name(spec),
        verdict=verdict,
        figure=figure,
        limit=_limit(spec),
        reason=reason,
        margin=margin,
        examined=examined,
        evidence=tuple(evidence),
    )


def _name(spec: Scaling) -> str:
    if spec.turns is not None:
        return f"what is wanted of {spec.replicas} turns round {spec.turns.text} times"
    if spec.back:
        return f"ready pods of {spec.replicas} are back after {spec.after}"
    if spec.stays is not None:
        return f"ready pods of {spec.replicas} stay {spec.stays.text}" + (
            f" during {spec.during}" if spec.during else ""
        )
    text = spec.reaches.text if spec.reaches is not None else ""
    since = f" after {spec.after}" if spec.after is not None else f" from {spec.since:g} s on" if spec.since else ""
    return f"ready pods of {spec.replicas} reach {text}{since}"


def _limit(spec: Scaling) -> str:
    if spec.within is not None:
        return f"within {spec.within:g} s"
    limit = spec.turns or spec.stays
    return limit.text if limit is not None else ""

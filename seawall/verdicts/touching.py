"""
Whether anybody met a fault, by what the journal shows of the system under test. Pure.

A fault counts from the moment it was proven to be in force. Three kinds are a proof of their own and count from their
injection: a provider's misbehaviour, which the provider itself notes on each call that it took (after a `Retry-After`
the first may be the only one), harm to a process, which is done at once, and `down`, which breaks at once what is under
way (and a breaker that this opens lets nobody meet the rest of it).

| target | met by |
| --- | --- |
| a provider, `respond` | a call that bears the fault's mark: with an injection rate overlapping proves nothing |
| a provider, `toxic` | a call or an attempt at it; of `down` before its proof, an attempt that failed |
| redis, budget | a step of the budget, or a provider left out for its sake |
| gateway | a request |
| toxiproxy | an attempt at any provider |
| backend | a request |
| collector, key_service | an exchange with it |
| metrics_server | a question for metrics, answered badly or with none |
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from functools import cached_property

from seawall.journal.faults import FaultInterval
from seawall.journal.view import Journal
from seawall.scenario.model import FaultSpec
from seawall.scenario.words import PARTS
from seawall.verdicts.spans import Overlaps, Span

__all__ = ["Traffic", "in_force", "touching_span"]


def in_force(interval: FaultInterval, last_ns: int) -> Span:
    """Return the time in which a fault was in force, as measured; one that never healed lasts to the end."""
    end_ns = interval.healed_ns if interval.healed_ns is not None else last_ns + 1
    return Span(interval.active_ns if interval.active_ns is not None else end_ns, end_ns)


def touching_span(spec: FaultSpec | None, interval: FaultInterval, last_ns: int) -> Span:
    """Return the time in which somebody can have met a fault."""
    span = in_force(interval, last_ns)
    proves_itself = spec is not None and (
        spec.respond is not None or spec.process is not None or spec.chaos_mesh is not None or _is_down(spec)
    )
    if interval.active_ns is None or interval.injected_ns is None or not proves_itself:
        return span
    return Span(interval.injected_ns, span.end_ns)


class Traffic:
    """What the system under test did, and when, put in order to be asked whether any of it met a fault."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def met(self, fault_id: str, target: str, spec: FaultSpec | None, span: Span) -> bool:
        """Whether anybody met the fault within `span`. What is not observed cannot contradict the harness's word."""
        observes = self._journal.observes
        match target:
            case "redis" | "budget" | "metrics_server":
                moments = self._budget_ns if target != "metrics_server" else self._unmeasured_ns
                return (target != "metrics_server" and not observes("spend")) or _any_in(moments, span)
            case "gateway" | "backend" | "collector" | "key_service":
                return (self._exchanges[target] if target in PARTS else self._requests).any_in(span)
            case "toxiproxy":
                return not observes("attempt") or any(each.any_in(span) for each in self._attempts.values())
            case _:
                pass
        if spec is not None and spec.respond is not None and observes("call"):
            return _any_in(self._marks_ns[fault_id], span)
        if not observes("call") and not observes("attempt"):
            return True
        if spec is not None and _is_down(spec) and observes("attempt"):
            overlaps = (self._failures[target],)
        else:
            overlaps = (self._calls[target], self._attempts[target])
        return any(each.any_in(span) for each in overlaps)

    @cached_property
    def _exchanges(self) -> defaultdict[str, Overlaps]:
        by_part: defaultdict[str, Overlaps] = defaultdict(Overlaps)
        for timed in self._journal.exchanges:
            by_part[timed.event.part].add(timed.event.start_ns, timed.event.end_ns)
        return by_part

    @cached_property
    def _calls(self) -> defaultdict[str, Overlaps]:
        by_provider: defaultdict[str, Overlaps] = defaultdict(Overlaps)
        for call in self._journal.calls:
            by_provider[call.provider].add(call.arrival_ns, call.end_ns)
        return by_provider

    @cached_property
    def _marks_ns(self) -> defaultdict[str, array[int]]:
        """When calls arrived that a provider answered as a fault told it to, by the fault."""
        by_fault: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        kinds = self._journal.calls.counts("behaviour").keys() - {"healthy"}
        for call in self._journal.calls.having("behaviour", *kinds):
            by_fault[call.behaviour].append(call.arrival_ns)
        return by_fault

    @cached_property
    def _attempts(self) -> defaultdict[str, Overlaps]:
        by_provider: defaultdict[str, Overlaps] = defaultdict(Overlaps)
        for attempt in self._journal.attempts:
            by_provider[attempt.provider].add(attempt.start_ns, attempt.end_ns)
        return by_provider

    @cached_property
    def _failures(self) -> defaultdict[str, Overlaps]:
        by_provider: defaultdict[str, Overlaps] = defaultdict(Overlaps)
        for attempt in self._journal.attempts.having("outcome", "failed"):
            by_provider[attempt.provider].add(attempt.start_ns, attempt.end_ns)
        return by_provider

    @cached_property
    def _requests(self) -> Overlaps:
        overlaps = Overlaps()
        for request in self._journal.requests:
            overlaps.add(request.intended_ns, request.end_ns)
        return overlaps

    @cached_property
    def _unmeasured_ns(self) -> list[int]:
        answers = self._journal.metrics_answers
        return [timed.mono_ns for timed in answers if timed.event.status != 200 or not timed.event.pods]

    @cached_property
    def _budget_ns(self) -> list[int]:
        skipped = (timed.mono_ns for timed in self._journal.skips if timed.event.reason == "budget")
        return sorted([*self._journal.spends.moments, *skipped])


def _is_down(spec: FaultSpec) -> bool:
    return spec.toxic is not None and spec.toxic.type == "down"


def _any_in(moments: array[int] | list[int], span: Span) -> bool:
    place = bisect_left(moments, span.start_ns)
    return place < len(moments) and moments[place] < span.end_ns

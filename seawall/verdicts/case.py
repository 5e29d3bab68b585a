"""What is judged: a journal with its scenario, and what several checks need of both, computed once. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from seawall.journal.events import RequestRecord
from seawall.journal.faults import FaultInterval
from seawall.journal.view import Journal
from seawall.scenario.model import FaultSpec, Scenario
from seawall.verdicts.breakers import Periods, periods_of
from seawall.verdicts.joins import Joined, join
from seawall.verdicts.model import Evidence

__all__ = ["ALLOWED_CODES", "Case", "Span", "percentile", "served_by"]

ALLOWED_CODES = {"budget": "budget_exceeded", "all_down": "all_clouds_down", "airgap": "airgap"}
"""The error code that a clean refusal of each kind carries, by the scenario's word for it."""


@dataclass(frozen=True)
class Span:
    """A stretch of time in nanoseconds of the journal; the end is not part of it."""

    start_ns: int
    end_ns: int

    def holds(self, ns: int) -> bool:
        """Whether the moment lies in it."""
        return self.start_ns <= ns < self.end_ns


@dataclass(frozen=True)
class Case:
    """A journal, the scenario that it is a run of, and the time words of the language resolved on it."""

    journal: Journal
    scenario: Scenario

    @cached_property
    def periods(self) -> Periods:
        """The life of every breaker."""
        return periods_of(self.journal)

    @cached_property
    def joined(self) -> tuple[Joined, ...]:
        """Every call with the attempt that made it, in order of arrival."""
        return join(self.journal)

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """The workers that served at least one request."""
        return tuple(sorted({attempt.worker for attempt in self.journal.attempts}))

    @cached_property
    def intended(self) -> list[int]:
        """The intended starts of the requests, in order."""
        return [request.intended_ns for request in self.journal.requests]

    @cached_property
    def bad_exits_ns(self) -> list[int]:
        """When processes of the arena ended with a code other than 0, or by a signal."""
        exits = (timed for timed in self.journal.processes if timed.event.action == "exit")
        return [timed.mono_ns for timed in exits if timed.event.code not in (0, None)]

    @cached_property
    def allowed_codes(self) -> frozenset[str]:
        """The codes of the refusals that the scenario allows."""
        return frozenset(ALLOWED_CODES[word] for word in self.scenario.allow_refusal)

    @cached_property
    def specs(self) -> dict[str, FaultSpec]:
        """The scenario's faults by id."""
        return {fault.id: fault for fault in self.scenario.faults}

    def is_allowed(self, request: RequestRecord) -> bool:
        """Whether it is a clean refusal that the scenario allows."""
        return request.outcome == "refused" and request.code in self.allowed_codes

    def requests_in(self, spans: Iterable[Span]) -> list[RequestRecord]:
        """Return the requests whose intended start lies in one of `spans`, which do not overlap."""
        found: list[RequestRecord] = []
        for span in spans:
            first = bisect_left(self.intended, span.start_ns)
            found.extend(self.journal.requests[first : bisect_left(self.intended, span.end_ns)])
        return found

    def intervals(self, fault_id: str) -> list[FaultInterval]:
        """Return the occurrences of a fault, none when the journal does not know it."""
        trace = self.journal.faults.get(fault_id)
        return trace.intervals if trace is not None else []

    @cached_property
    def met(self) -> frozenset[str]:
        """The faults whose every occurrence was in force and met, by the harness's word and by what was seen."""
        return frozenset(
            trace.id
            for trace in self.journal.faults.values()
            if trace.intervals and all(i.active_ns is not None and i.met for i in trace.intervals)
            if all(self.was_touched(trace.id, interval) for interval in trace.intervals)
        )

    def was_touched(self, fault_id: str, interval: FaultInterval) -> bool:
        """
        Whether a call or an attempt at its target overlapped the time in force.

        Of a provider's own misbehaviour a call must bear the mark: with an injection rate overlapping proves nothing.
        Where neither calls nor attempts are observed nothing can be held against the harness's word.
        """
        journal, span, target = self.journal, self._in_force(interval), self.journal.faults[fault_id].target
        spec = self.specs.get(fault_id)
        marked = spec is not None and spec.respond is not None and journal.observes("call")
        if not journal.observes("call") and not journal.observes("attempt"):
            return True
        calls = (c for c in journal.calls if c.provider == target and (not marked or c.behaviour == fault_id))
        if any(call.arrival_ns < span.end_ns and call.end_ns >= span.start_ns for call in calls):
            return True
        attempts = (a for a in journal.attempts if a.provider == target)
        return not marked and any(a.start_ns < span.end_ns and a.end_ns >= span.start_ns for a in attempts)

    def during(self, fault_id: str) -> list[Span]:
        """Return the times in which the fault was in force, as measured; one that never healed lasts to the end."""
        return [self._in_force(each) for each in self.intervals(fault_id) if each.active_ns is not None]

    def after(self, fault_id: str) -> list[Span]:
        """Return the times from each healing of the fault to its next injection, or the end of the load."""
        spans: list[Span] = []
        intervals = self.intervals(fault_id)
        for n, interval in enumerate(intervals):
            if interval.healed_ns is not None:
                again = intervals[n + 1].injected_ns if n + 1 < len(intervals) else None
                spans.append(Span(interval.healed_ns, again or self.journal.load_end_ns))
        return spans

    def hold_end(self, ns: int) -> int:
        """Return until when what became true after `ns` must hold: the next injection of a fault, or the load's end."""
        injections = (i.injected_ns for trace in self.journal.faults.values() for i in trace.intervals)
        return min((at for at in injections if at is not None and at > ns), default=self.journal.load_end_ns)

    def evidence(self, text: str, ns: int | None = None, request_id: str | None = None) -> Evidence:
        """Return a piece of evidence, its time in seconds of the load."""
        return Evidence(
            text=text, at_s=None if ns is None else round(self.journal.seconds(ns), 6), request_id=request_id
        )

    def _in_force(self, interval: FaultInterval) -> Span:
        end = interval.healed_ns if interval.healed_ns is not None else self.journal.last_ns + 1
        return Span(interval.active_ns if interval.active_ns is not None else end, end)


def served_by(request: RequestRecord) -> str | None:
    """Return who gave the (end of the) whole answer: as the text shows, else as the gateway told; None if not whole."""
    if request.outcome != "whole":
        return None
    return request.providers_in_text[-1] if request.providers_in_text else request.provider


def percentile(values: list[int], share: float) -> int | None:
    """Return the smallest of the sorted `values` that at least `share` of them do not exceed; None of none."""
    if not values:
        return None
    # `round` first: a product a hair over a whole number in binary must not count as the next one.
    return values[max(math.ceil(round(share * len(values), 9)), 1) - 1]

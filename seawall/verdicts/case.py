"""What is judged: a journal with its scenario, and what several checks need of both, computed once. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from seawall.journal.events import RequestRecord
from seawall.journal.faults import FaultInterval
from seawall.journal.packed import Packed
from seawall.journal.view import Journal
from seawall.scenario.model import FaultSpec, Scenario
from seawall.verdicts.breakers import Periods, periods_of
from seawall.verdicts.byrequest import Asked, AskedOf, Requests
from seawall.verdicts.joins import Joins, join
from seawall.verdicts.model import Evidence
from seawall.verdicts.spans import Span
from seawall.verdicts.touching import Traffic, in_force, touching_span
from seawall.verdicts.workers import Death, deaths_of, orphans_of

__all__ = ["ALLOWED_CODES", "Asked", "Case", "percentile", "served_by"]

_T = TypeVar("_T")
_TOO_MANY = 429
_SERVER_ERROR = 500
ALLOWED_CODES = {
    "budget": "budget_exceeded",
    "all_down": "all_clouds_down",
    "airgap": "airgap",
    "transcripts": "transcripts_down",
}
"""The error code that a clean refusal of each kind carries, by the scenario's word for it."""


@dataclass(frozen=True)
class Case:
    """A journal, the scenario that it is a run of, and the time words of the language resolved on it."""

    journal: Journal
    scenario: Scenario

    @cached_property
    def periods(self) -> Periods:
        """The life of every breaker."""
        return periods_of(self.journal, {death.worker: death.at_ns for death in self.deaths})

    @cached_property
    def joined(self) -> Joins:
        """Every call with the attempt that made it, in order of arrival."""
        return join(self.journal)

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """The workers that served at least one request."""
        return tuple(sorted(self.journal.attempts.counts("worker")))

    @cached_property
    def asked(self) -> AskedOf:
        """What the router says of each request's attempts, in their order."""
        return AskedOf(self.requests, self.journal.attempts)

    @cached_property
    def requests(self) -> Requests:
        """The requests by id."""
        return Requests(self.journal.requests)

    @cached_property
    def deaths(self) -> tuple[Death, ...]:
        """The ends of gateway workers, in order of time."""
        return deaths_of(self.journal, self.scenario)

    @cached_property
    def orphans(self) -> dict[str, Death]:
        """The requests that ended because a fault killed their worker, by id."""
        return orphans_of(self.journal, self.deaths)

    @cached_property
    def allowed_codes(self) -> frozenset[str]:
        """The codes of the refusals that the scenario allows."""
        return frozenset(ALLOWED_CODES[word] for word in self.scenario.allow_refusal)

    @cached_property
    def specs(self) -> dict[str, FaultSpec]:
        """The scenario's faults by id."""
        return {fault.id: fault for fault in self.scenario.faults}

    def once(self, make: Callable[[Case], _T]) -> _T:
        """Return what `make` makes of this case; it is made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    @cached_property
    def _made(self) -> dict[Callable[[Case], Any], Any]:
        return {}

    def setting(self, name: str, default: str) -> str:
        """Return a setting of the system under test as it was in force, else as the scenario has it."""
        return self._settings.get(name, default)

    @cached_property
    def _settings(self) -> dict[str, str]:
        written = {key.upper(): str(value) for key, value in self.scenario.system.settings.items()}
        shown = self.journal.header.settings if self.journal.header is not None else {}
        return {**written, **shown}

    def is_allowed(self, request: RequestRecord) -> bool:
        """
        Whether it is a clean refusal that the scenario allows.

        What `all_down` is called is each gateway's own: of one that is seen from outside, a status that says so counts.
        """
        if request.outcome != "refused":
            return False
        if "all_down" in self.scenario.allow_refusal and not self.journal.observes("attempt"):
            return request.status == _TOO_MANY or (request.status or 0) >= _SERVER_ERROR
        return request.code in self.allowed_codes

    def requests_in(self, spans: Iterable[Span]) -> Packed[RequestRecord]:
        """Return the requests whose intended start lies in one of `spans`, which do not overlap."""
        return self.journal.requests.within((span.start_ns, span.end_ns) for span in spans)

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
            if trace.intervals and all(self.is_met(trace.id, interval) for interval in trace.intervals)
        )

    def is_met(self, fault_id: str, interval: FaultInterval) -> bool:
        """
        Whether this occurrence of a fault was in force and met.

        Behind a toxic a provider may see nothing, and a gateway that is seen from outside tells of no attempt; there a
        request that its target did not serve, though it began under the fault, has felt it.
        """
        if interval.active_ns is None:
            return False
        if interval.met and self.was_touched(fault_id, interval):
            return True
        spec = self.specs.get(fault_id)
        if spec is None or spec.toxic is None or self.journal.observes("attempt"):
            return False
        span = touching_span(spec, interval, self.journal.last_ns)
        return any(served_by(request) != spec.target for request in self.requests_in([span]))

    @cached_property
    def _traffic(self) -> Traffic:
        return Traffic(self.journal)

    def was_touched(self, fault_id: str, interval: FaultInterval) -> bool:
        """
        Whether somebody met this occurrence of a fault, by what the journal shows; see seawall/verdicts/touching.py.

        Of a provider's own misbehaviour a call that bears its mark counts from the injection, of a toxic what overlaps
        the time from `active` to `healed`. Where nothing is observed nothing can be held against the harness's word.
        """
        spec = self.specs.get(fault_id)
        span = touching_span(spec, interval, self.journal.last_ns)
        return self._traffic.met(fault_id, self.journal.faults[fault_id].target, spec, span)

    def during(self, fault_id: str) -> list[Span]:
        """Return the times in which the fault was in force, as measured; one that never healed lasts to the end."""
        last_ns = self.journal.last_ns
        return [in_force(each, last_ns) for each in self.intervals(fault_id) if each.active_ns is not None]

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


def served_by(request: RequestRecord) -> str | None:
    """Return who gave the (end of the) whole answer: as the text shows, else as the gateway told; None if not whole."""
    if request.outcome != "whole":
        return None
    return request.providers_in_text[-1] if request.providers_in_text else request.provider


def percentile(values: Sequence[int], share: float) -> int | None:
    """Return the smallest of the sorted `values` that at least `share` of them do not exceed; None of none."""
    if not values:
        return None
    # `round` first: a product a hair over a whole number in binary must not count as the next one.
    return values[max(math.ceil(round(share * len(values), 9)), 1) - 1]

"""
Invariant: while one provider that may be asked is well, every request is answered whole. Pure.

Well is a provider that no fault of the whole run is aimed at, that has a key, and that the budget cannot take away.
What is no promise of a router is left out: a request that its provider calls wrong (400, 413, 422), that has used up
its attempts or its time on those before, or whose gateway process was harmed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from router.settings import Settings
from seawall.journal.events import Attempt, RequestRecord
from seawall.scenario.model import PROVIDERS, FaultSpec, Scenario
from seawall.verdicts.bounds import Bounds
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence
from seawall.verdicts.spans import Span

__all__ = ["the_unbroken_answers"]

_THE_CALLERS_FAULT = frozenset({400, 413, 422})
_SLOW_TOXICS = frozenset({"bandwidth", "slicer"})
_SLACK_S = 1.0
_AMPLE_USD = 1.0
"""More than any scenario's load can cost: a limit above it takes nobody away."""
_DEFAULTS = Settings()


def the_unbroken_answers(case: Case) -> Check:
    """A request is answered whole while some provider that may be asked is well."""
    name = "a provider that is well answers"
    if not case.journal.observes("attempt"):
        return unobservable("invariant", name, "attempt")
    well, bounds = _well(case), Bounds.of(case)
    if not well or not bounds.is_healthy or bounds.opens_in_health:
        return invariant(name, [], examined=0, of="requests with a provider that was well")
    harmed = _harmed(case)
    attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
    # What is cut, hung or disguised is a violation of its own.
    unserved = {r.request_id for r in case.journal.requests.having("outcome", "refused", "error")}
    for attempt in case.journal.attempts if unserved else ():
        if attempt.request_id in unserved:
            attempts[attempt.request_id].append(attempt)
    held_back = {timed.event.request_id for timed in case.journal.skips if timed.event.reason == "retry_budget"}

    def found() -> Iterator[Evidence]:
        for request in case.journal.requests.having("outcome", "refused", "error") if unserved else ():
            if _is_excused(case, request, harmed):
                continue
            made = attempts[request.request_id]
            if request.request_id in held_back and bounds.settings.retry_budget_burst < _DEFAULTS.retry_budget_burst:
                continue
            if _had_a_chance(bounds, made, case.scenario, request):
                text = f"{request.outcome}: {request.problem or request.code}, though {' and '.join(well)} was well"
                yield case.evidence(text, request.intended_ns, request.request_id)

    return invariant(name, found(), examined=len(case.journal.requests), of="requests with a provider that was well")


def _well(case: Case) -> list[str]:
    """Return the providers that were well all the time and may always be asked."""
    faults = case.scenario.faults
    targets = {fault.target for fault in faults}
    if "toxiproxy" in targets:
        return []
    settings = Bounds.of(case).settings
    well = [] if "local" in targets else ["local"]
    free = settings.daily_spend_limit_usd >= _AMPLE_USD and not targets & {"budget", "redis"}
    if free and not settings.airgap_mode:
        keys = {"gemini": "GEMINI_API_KEY", "claude": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
        well += [name for name in PROVIDERS if name in keys and name not in targets and _has_key(case, keys[name])]
    return well


def _has_key(case: Case, name: str) -> bool:
    return case.setting(name, "emulated") != ""


def _harmed(case: Case) -> tuple[Span, ...]:
    """Return when a gateway process was harmed; of one that stood still, all that follows."""
    harm = {fault.id: fault.process for fault in case.scenario.faults if fault.target == "gateway" and fault.process}
    last_ns = case.journal.last_ns
    return tuple(
        Span(i.injected_ns, last_ns + 1 if process == "stop" or i.healed_ns is None else i.healed_ns)
        for fault_id, process in harm.items()
        for i in case.intervals(fault_id)
        if i.injected_ns is not None
    )


def _is_excused(case: Case, request: RequestRecord, harmed: tuple[Span, ...]) -> bool:
    if request.request_id in case.orphans or request.code == "airgap" or case.is_allowed(request):
        return True
    return any(span.start_ns <= request.end_ns and request.intended_ns <= span.end_ns for span in harmed)


def _had_a_chance(bounds: Bounds, made: list[Attempt], scenario: Scenario, request: RequestRecord) -> bool:
    """Whether its turn could have come: by the other providers' worst, within the attempts and the time it had."""
    settings = bounds.settings
    if len(made) >= settings.attempts_max or any(attempt.status in _THE_CALLERS_FAULT for attempt in made):
        return False
    if request.outcome == "error" and request.stream and settings.midstream == "error":
        return False
    if (request.end_ns - request.intended_ns) / 1e9 < settings.total_timeout - _SLACK_S:
        return True  # there was time left
    needs_s = _SLACK_S + sum(bounds.first_byte_ns(attempt.provider) / 1e9 + settings.idle_timeout for attempt in made)
    return needs_s < settings.total_timeout and not any(_is_slow(fault) for fault in scenario.faults)


def _is_slow(fault: FaultSpec) -> bool:
    """Whether its answers may go on for any time, with never a silence that is too long."""
    if fault.toxic is not None:
        return fault.toxic.type in _SLOW_TOXICS
    return fault.respond is not None and fault.respond.dribble is not None

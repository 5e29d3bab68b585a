"""One trial: a schedule simulated and judged, and what new it has shown."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from router.errors import ConfigurationError
from seawall.journal.view import Journal
from seawall.scenario.model import Scenario
from seawall.simulation.arena import simulate
from seawall.simulation.loop import Stalled
from seawall.verdicts.case import Case
from seawall.verdicts.invariants import check_invariants
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["BROKE_OFF", "STANDS_STILL", "Trial", "features_of", "play", "scores_of"]

STANDS_STILL = "the gateway never stands still"
BROKE_OFF = "the run comes to its end"
_HALF_OPEN_MAX = 10


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one schedule."""

    broken: tuple[Check, ...]
    """The invariants that failed, in the order of the verdicts."""
    requests: int
    features: frozenset[Any]
    """What it has shown: states of all breakers together, transitions, overlaps of faults, ways requests took."""
    scores: dict[str, float]
    """What the search is steered towards more of, by name."""


def play(scenario: Scenario, make_router: Any = None) -> Trial:
    """Simulate `scenario` and judge it. Raises ConfigurationError for settings that cannot be used."""
    chosen = {} if make_router is None else {"make_router": make_router}
    try:
        journal = simulate(scenario, **chosen)
    except ConfigurationError:
        raise
    except Stalled as error:
        return _ended_badly(STANDS_STILL, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a router lets out to its process is a find
        return _ended_badly(BROKE_OFF, f"{type(error).__name__}: {error}")
    case = Case(journal, scenario)
    checks = check_invariants(case)
    return Trial(
        broken=tuple(check for check in checks if check.verdict is Verdict.FAIL),
        requests=len(journal.requests),
        features=features_of(case),
        scores=scores_of(case),
    )


def features_of(case: Case) -> frozenset[Any]:
    """Return what a run has shown, in things that can be counted once each."""
    journal = case.journal
    found: set[Any] = set(_states(journal))
    found.update(
        ("moved", c.event.provider, c.event.from_state, c.event.to, _kind(c.event.cause)) for c in journal.breakers
    )
    found.update(("slow", timed.event.provider, timed.event.to) for timed in journal.latencies)
    found.update(("skipped", timed.event.provider, timed.event.reason) for timed in journal.skips)
    for asked in case.asked.values():
        found.add(("asked", tuple((provider, outcome) for _, provider, outcome in asked)))
    found.update(("came to", r.outcome, r.stream, r.status) for r in journal.requests)
    found.update(("beside", *sorted(pair)) for pair in _overlaps(case))
    return frozenset(found)


def scores_of(case: Case) -> dict[str, float]:
    """Return what the search climbs: openings, half-open breakers, depth of failover, overlaps, continued streams."""
    journal = case.journal
    moves = {(timed.event.worker, timed.event.provider, timed.event.to) for timed in journal.breakers}
    to = Counter(timed.event.to for timed in journal.breakers)
    asked = case.asked.values()
    return {
        "moves": float(len(moves)),
        "half-open": float(min(to["half_open"], _HALF_OPEN_MAX)),
        "states": float(len(_states(journal))),
        "depth": float(max(map(len, asked), default=0)),
        "overlaps": float(len(_overlaps(case))),
        "continued": float(len({tuple(r.providers_in_text) for r in journal.requests if len(r.providers_in_text) > 1})),
        "ways": float(len({tuple((provider, outcome) for _, provider, outcome in way) for way in asked})),
    }


def _states(journal: Journal) -> set[Any]:
    """Return the states in which the breakers of one worker were together."""
    now: dict[str, dict[str, str]] = {}
    found: set[Any] = set()
    for timed in journal.breakers:
        states = now.setdefault(timed.event.worker, {})
        states[timed.event.provider] = timed.event.to
        found.add(("breakers", *sorted(item for item in states.items() if item[1] != "closed")))
    return found


def _kind(cause: str) -> str:
    """Return a cause without its numbers."""
    return "".join(letter for letter in cause if not letter.isdigit())


def _overlaps(case: Case) -> set[tuple[str, str]]:
    """Return which kinds of harm at whom were in force at the same time."""
    spans = [
        (interval.injected_ns, interval.healed_ns or case.journal.last_ns, _harm(case, fault_id))
        for fault_id in case.specs
        for interval in case.intervals(fault_id)
        if interval.injected_ns is not None
    ]
    spans.sort()
    return {(first[2], second[2]) for n, first in enumerate(spans) for second in spans[n + 1 :] if second[0] < first[1]}


def _harm(case: Case, fault_id: str) -> str:
    spec = case.specs[fault_id]
    what = spec.toxic.type if spec.toxic else spec.respond.kind if spec.respond else spec.process or "remaining"
    return f"{spec.target} {what}"


def _ended_badly(name: str, reason: str) -> Trial:
    check = Check(
        group="invariant",
        name=name,
        verdict=Verdict.FAIL,
        figure="0",
        limit="",
        reason=reason,
        evidence=(Evidence(text=reason.strip().split("\n")[0]),),
    )
    return Trial(broken=(check,), requests=0, features=frozenset(), scores={})

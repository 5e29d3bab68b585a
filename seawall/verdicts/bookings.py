"""Invariants on what is booked for whom: every paid call is reserved for, and costs what it used. Pure."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator

from router.models import ModelType, Usage
from router.pricing import cost_micro_usd, price_of
from seawall.journal.events import Attempt, CallRecord
from seawall.verdicts.byrequest import Counts
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = ["paid_calls_are_reserved", "settled_at_their_price"]

_LOCAL = str(ModelType.LOCAL)
_ERRORS_FROM = 400
_SEVERAL = _UNKNOWN = -1


def paid_calls_are_reserved(case: Case) -> Check:
    """No attempt at a provider that costs money starts without a reservation of its own, store or no store."""
    name = "every paid call is reserved for"
    for kind in ("attempt", "spend"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    reserved, made = Counts(case.requests), Counts(case.requests)
    for timed in case.journal.spends:
        step = timed.event
        if step.action == "reserve" and step.source != "unanswered":
            reserved.add(step.request_id)

    def unpaid() -> Iterator[Evidence]:
        for attempt in case.journal.attempts:
            if attempt.provider == _LOCAL:
                continue
            if made.add(attempt.request_id) > reserved.of(attempt.request_id):
                text = f"{attempt.worker} called {attempt.provider} without a reservation"
                yield case.evidence(text, attempt.start_ns, attempt.request_id)

    examined = len(case.journal.attempts) - case.journal.attempts.counts("provider").get(_LOCAL, 0)
    return invariant(name, unpaid(), examined=examined, of="paid attempts")


def settled_at_their_price(case: Case) -> Check:
    """
    A good answer is settled at the price of the tokens that its provider told, an error status at nothing.

    Where a request asked a provider once, and nothing was wrong with what that told of its usage.
    """
    name = "every call is settled at its price"
    for kind in ("call", "attempt", "spend"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    settled = _Settled(case)
    examined = 0

    def wrong() -> Iterator[Evidence]:
        nonlocal examined
        for call, attempt in ((pair.call, pair.attempt) for pair in case.joined):
            place = None if attempt is None else settled.place(attempt.request_id, attempt.provider)
            price = None if attempt is None or place is None else _price(call, attempt)
            if place is None or price is None:
                continue
            examined += 1
            due = min(price, settled.held(place, price))
            if settled.amount(place) != due:
                timed = case.journal.spends[place]
                step = timed.event
                text = f"{step.micro_usd} micro-dollars were settled for a call at {step.provider} that cost {due}"
                yield case.evidence(text, timed.mono_ns, step.request_id)

    found = list(wrong())
    return invariant(name, found, examined=examined, of="settlements whose price is known")


class _Settled:
    """What was settled for each request at each provider, and what was held for it; by place among the steps."""

    def __init__(self, case: Case) -> None:
        spends = case.journal.spends
        self._requests = case.requests.place
        self._amounts = array("q", bytes(8 * len(spends)))
        self._held = array("q", bytes(8 * len(spends)))
        self._by_provider: defaultdict[str, array[int]] = defaultdict(
            lambda: array("q", bytes(8 * len(case.requests.ends_ns)))
        )
        self._others: dict[tuple[str, str], int] = {}
        held: dict[str, int] = {}
        early: dict[str, list[int]] = {}
        for place, timed in enumerate(spends):
            step = timed.event
            self._amounts[place] = step.micro_usd
            if step.action == "reserve":
                for settled in early.pop(step.reservation_id, ()):
                    self._held[settled] = step.micro_usd
                held[step.reservation_id] = step.micro_usd
            elif step.action == "settle":
                self._held[place] = held.pop(step.reservation_id, _UNKNOWN)
                if self._held[place] == _UNKNOWN:
                    early.setdefault(step.reservation_id, []).append(place)
                self._settle(step.request_id, step.provider, place)

    def place(self, request_id: str, provider: str) -> int | None:
        """Return where the settlement stands, None where there is none, or more than one."""
        request = self._requests.get(request_id)
        other = self._others.get((request_id, provider), 0)
        found = other if request is None else self._by_provider[provider][request]
        return found - 1 if found > 0 else None

    def amount(self, place: int) -> int:
        """Return what was settled, in micro-dollars."""
        return self._amounts[place]

    def held(self, place: int, default: int) -> int:
        """Return what had been reserved, `default` where that is not known."""
        return default if self._held[place] == _UNKNOWN else self._held[place]

    def _settle(self, request_id: str, provider: str, place: int) -> None:
        request = self._requests.get(request_id)
        if request is None:
            again = (request_id, provider) in self._others
            self._others[request_id, provider] = _SEVERAL if again else place + 1
        else:
            places = self._by_provider[provider]
            places[request] = _SEVERAL if places[request] else place + 1


def _price(call: CallRecord, attempt: Attempt) -> int | None:
    """Return what a call cost, in micro-dollars; None where nobody can know."""
    if call.provider == _LOCAL:
        return None
    if call.status is not None and call.status >= _ERRORS_FROM and attempt.status == call.status:
        return 0
    known = price_of(ModelType(call.provider), attempt.model)
    if call.behaviour != "healthy" or attempt.outcome != "ok" or not call.completed or known is None:
        return None
    return cost_micro_usd(known, Usage(prompt_tokens=call.prompt_tokens, completion_tokens=call.completion_tokens))

"""Invariants on what is booked for whom: every paid call is reserved for, and costs what it used. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from router.models import ModelType, Usage
from router.pricing import cost_micro_usd, price_of
from seawall.journal.events import Attempt, CallRecord, Spend
from seawall.journal.view import Timed
from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check, Evidence

__all__ = ["paid_calls_are_reserved", "settled_at_their_price"]

_LOCAL = str(ModelType.LOCAL)
_ERRORS_FROM = 400


def paid_calls_are_reserved(case: Case) -> Check:
    """No attempt at a provider that costs money starts without a reservation of its own, store or no store."""
    name = "every paid call is reserved for"
    for kind in ("attempt", "spend"):
        if not case.journal.observes(kind):
            return unobservable("invariant", name, kind)
    reserved: Counter[str] = Counter()
    for timed in case.journal.spends:
        step = timed.event
        reserved[step.request_id] += step.action == "reserve" and step.source != "unanswered"
    made: Counter[str] = Counter()

    def unpaid() -> Iterator[Evidence]:
        for attempt in case.journal.attempts:
            if attempt.provider == _LOCAL:
                continue
            made[attempt.request_id] += 1
            if made[attempt.request_id] > reserved[attempt.request_id]:
                text = f"{attempt.worker} called {attempt.provider} without a reservation"
                yield case.evidence(text, attempt.start_ns, attempt.request_id)

    examined = sum(attempt.provider != _LOCAL for attempt in case.journal.attempts)
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
    settled: defaultdict[tuple[str, str], list[Timed[Spend]]] = defaultdict(list)
    reserved: dict[str, int] = {}
    for timed in case.journal.spends:
        step = timed.event
        if step.action == "reserve":
            reserved[step.reservation_id] = step.micro_usd
        elif step.action == "settle":
            settled[step.request_id, step.provider].append(timed)
    fits = [
        (settled[attempt.request_id, attempt.provider][0], price)
        for call, attempt in ((pair.call, pair.attempt) for pair in case.joined)
        if attempt is not None
        and len(settled.get((attempt.request_id, attempt.provider), ())) == 1
        and (price := _price(call, attempt)) is not None
    ]

    def wrong() -> Iterator[Evidence]:
        for timed, price in fits:
            step = timed.event
            due = min(price, reserved.get(step.reservation_id, price))
            if step.micro_usd != due:
                text = f"{step.micro_usd} micro-dollars were settled for a call at {step.provider} that cost {due}"
                yield case.evidence(text, timed.mono_ns, step.request_id)

    return invariant(name, wrong(), examined=len(fits), of="settlements whose price is known")


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

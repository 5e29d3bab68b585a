"""
The run in buckets of time: rates, latencies, who answered, who was called.

Pure derivations from the journal. Times are seconds after the start of the load. The number of buckets is bounded, so
that a report of a hundred thousand requests is as easy to read, and nearly as small, as one of a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec

from seawall.journal.events import RequestRecord
from seawall.journal.view import Journal
from seawall.verdicts.case import served_by

__all__ = ["BUCKETS_MAX", "Bucket", "Timeline", "latency_s", "percentile", "providers_of", "timeline_of"]

BUCKETS_MAX = 90
_STEPS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_CHAIN = ("gemini", "claude", "openai", "local")


class Bucket(msgspec.Struct, kw_only=True):
    """What happened within one step of the time axis."""

    start_s: float
    intended: int = 0
    """Requests that were due in this step."""
    sent: int = 0
    whole: int = 0
    """Requests whose whole answer arrived in this step."""
    latencies_s: list[float] = []
    """Of the requests due in this step that were answered whole, sorted."""
    first_tokens_s: list[float] = []
    """The same, of whole streams: to their first byte."""
    served: dict[str, int] = {}
    """Requests due in this step, by provider when answered whole, else under `refused` or `failed`."""
    calls: dict[str, int] = {}


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """The time axis that all charts share, and what happened in each step of it."""

    start_s: float
    end_s: float
    step_s: float
    buckets: tuple[Bucket, ...]
    providers: tuple[str, ...]
    """Everybody who answered, was called or tried, in chain order."""
    calls_seen_by: str | None
    """Whose view `calls` is: `call` (the provider's), `attempt` (the router's), or None when nobody reports it."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest of the sorted `values` that at least `share` of them do not exceed; None of none."""
    if not values:
        return None
    return values[max(math.ceil(round(share * len(values), 9)) - 1, 0)]


def latency_s(request: RequestRecord) -> float:
    """Return the seconds from the moment the request was due to its end."""
    return max(request.end_ns - request.intended_ns, 0) / 1e9


def providers_of(journal: Journal) -> tuple[str, ...]:
    """Return everybody who answered, was called, tried or skipped: the chain first, then others by name."""
    names: set[str] = {call.provider for call in journal.calls}
    names.update(attempt.provider for attempt in journal.attempts)
    names.update(name for name in map(served_by, journal.requests) if name)
    names.update(change.event.provider for change in journal.breakers)
    known = [name for name in _CHAIN if name in names]
    return (*known, *sorted(names.difference(_CHAIN)))


def timeline_of(journal: Journal, fault_ends_s: Iterable[float]) -> Timeline:
    """Put the journal into buckets; `fault_ends_s` are moments that the axis must hold beside the requests'."""
    start_s, end_s = _extent(journal, fault_ends_s)
    step_s = next((step for step in _STEPS_S if (end_s - start_s) / step <= BUCKETS_MAX), None)
    if step_s is None:
        step_s = math.ceil((end_s - start_s) / BUCKETS_MAX / 3600) * 3600.0
    first = math.floor(start_s / step_s + 1e-9)
    count = max(math.ceil(end_s / step_s - 1e-9) - first, 1)
    buckets = tuple(Bucket(start_s=round((first + n) * step_s, 6)) for n in range(count))

    def bucket(ns: int) -> Bucket:
        place = math.floor(journal.seconds(ns) / step_s + 1e-9) - first
        return buckets[min(max(place, 0), count - 1)]

    for request in journal.requests:
        due = bucket(request.intended_ns)
        due.intended += 1
        if request.sent_ns is not None:
            bucket(request.sent_ns).sent += 1
        who = "failed"
        if request.outcome == "whole":
            bucket(request.end_ns).whole += 1
            due.latencies_s.append(latency_s(request))
            if request.stream and request.first_byte_ns is not None:
                due.first_tokens_s.append(max(request.first_byte_ns - request.intended_ns, 0) / 1e9)
            who = served_by(request) or "unknown"
        elif request.outcome == "refused":
            who = "refused"
        due.served[who] = due.served.get(who, 0) + 1
    seen_by = _count_calls(journal, bucket)
    for each in buckets:
        each.latencies_s.sort()
        each.first_tokens_s.sort()
    return Timeline(
        start_s=buckets[0].start_s,
        end_s=round(buckets[-1].start_s + step_s, 6),
        step_s=step_s,
        buckets=buckets,
        providers=providers_of(journal),
        calls_seen_by=seen_by,
    )


def _count_calls(journal: Journal, bucket: Callable[[int], Bucket]) -> str | None:
    if journal.calls or journal.observes("call"):
        moments = ((call.provider, call.arrival_ns) for call in journal.calls)
        seen_by = "call"
    elif journal.attempts or journal.observes("attempt"):
        moments = ((attempt.provider, attempt.start_ns) for attempt in journal.attempts)
        seen_by = "attempt"
    else:
        return None
    for provider, ns in moments:
        calls = bucket(ns).calls
        calls[provider] = calls.get(provider, 0) + 1
    return seen_by


def _extent(journal: Journal, fault_ends_s: Iterable[float]) -> tuple[float, float]:
    """Return where the axis begins and ends: it holds all requests, all faults and the load; at least one second."""
    start_s, end_s = 0.0, 1.0
    for moment_s in fault_ends_s:
        start_s, end_s = min(start_s, moment_s), max(end_s, moment_s)
    for request in journal.requests:
        start_s = min(start_s, journal.seconds(request.intended_ns))
        end_s = max(end_s, journal.seconds(request.end_ns), journal.seconds(request.intended_ns))
    end = journal.end
    if end is not None and end.load_end_ns is not None:
        end_s = max(end_s, journal.seconds(end.load_end_ns))
    return start_s, max(end_s, start_s + 1.0)

"""Metrics over a set of requests, and the judgement of a limit on one. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, get_args

import msgspec

from seawall.journal.events import RequestRecord
from seawall.scenario.model import Metric
from seawall.scenario.quantities import Limit
from seawall.verdicts.case import Case, percentile
from seawall.verdicts.checks import absent, sentence, timely, unobservable
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = [
    "METRICS",
    "REQUESTS_FOR_P99",
    "REQUESTS_FOR_RATE",
    "Measured",
    "durations_of",
    "judge_limit",
    "measure",
    "shown",
]

METRICS: tuple[str, ...] = get_args(Metric)
REQUESTS_FOR_P99 = 100
REQUESTS_FOR_RATE = 20
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

_NOT_SENT = frozenset({"dropped", "process_died"})

Unit = Literal["s", "share", "count", "usd"]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's value in base units (None: nothing to measure it on), and over how many requests."""

    value: float | None
    requests: int
    unit: Unit


def measure(case: Case, metric: str, requests: Collection[RequestRecord]) -> Measured:
    """
    Return `metric` over `requests`.

    Rates are shares of the requests that were sent; of `success_rate` refusals that the scenario allows are no part.
    Latencies run from the intended start: to the end over whole answers, to the first token over whole streams, to
    the end over refusals. `spend_usd` is what the run has paid, whatever the requests.
    """
    if metric == "spend_usd":
        closed = (timed.event for timed in case.journal.spends if timed.event.action != "reserve")
        spent = sum(step.micro_usd for step in closed) / 1_000_000
        return Measured(value=spent if case.journal.observes("spend") else None, requests=len(requests), unit="usd")
    if metric in ("requests", "success_rate", "refused_rate"):
        return _counted(case, metric, requests)
    what, _, quantile = metric.rpartition("_")
    sent, durations = durations_of(what, requests)
    value = percentile(durations, _QUANTILES[quantile])
    return Measured(value=None if value is None else value / 1e9, requests=sent, unit="s")


def durations_of(what: str, requests: Iterable[RequestRecord]) -> tuple[int, Sequence[int]]:
    """Return how many of `requests` count for `latency`, `first_token` or `refusal_latency`, and these, sorted."""
    sent = 0
    durations = array("q")
    outcome = _ended_as(what)
    for request in requests:
        if request.outcome in _NOT_SENT or (what == "first_token" and not request.stream):
            continue
        sent += 1
        if request.outcome != outcome:
            continue
        end_ns = request.first_byte_ns if what == "first_token" else request.end_ns
        if end_ns is not None:
            durations.append(end_ns - request.intended_ns)
    return sent, array("q", sorted(durations))


def _counted(case: Case, metric: str, requests: Iterable[RequestRecord]) -> Measured:
    sent = allowed = whole = refused = 0
    for request in requests:
        if request.outcome in _NOT_SENT:
            continue
        sent += 1
        whole += request.outcome == "whole"
        refused += request.outcome == "refused"
        allowed += request.outcome == "refused" and case.is_allowed(request)
    if metric == "requests":
        return Measured(value=sent, requests=sent, unit="count")
    part, of = (refused, sent) if metric == "refused_rate" else (whole, sent - allowed)
    return Measured(value=part / of if of else None, requests=sent, unit="share")


def judge_limit(
    case: Case,
    name: str,
    metric: str,
    limit: Limit,
    windows: Sequence[Collection[RequestRecord]],
    *,
    group: str = "threshold",
    severity: str = "required",
) -> Check:
    """
    Return the check of a limit that must hold in each of `windows`, each a set of requests.

    `invalid` where a window has too few requests for the metric, nothing to measure it on, or the limit another unit.
    """
    if metric == "spend_usd" and not case.journal.observes("spend"):
        return unobservable(group, name, "spend", limit=limit.text, severity=severity)
    if not windows:
        reason = f"The time that {metric} is measured over never came."
        return absent(group, name, reason, limit=limit.text)
    results = [(measure(case, metric, window), window) for window in windows]
    examined = sum(measured.requests for measured, _ in results)
    for measured, _ in results:
        if (problem := _unjudgeable(metric, measured, limit)) is not None:
            return absent(group, name, problem, limit=limit.text, examined=examined)
    # Of several windows the one furthest on the wrong side speaks for all.
    worst, window = max(results, key=lambda result: _distance(limit, result[0].value or 0.0))
    value = worst.value or 0.0
    held = limit.holds(value)
    evidence = () if held else timely(_culprits(case, metric, limit, window))
    figure = shown(value, worst.unit)
    reason = f"{metric} is {figure} over {worst.requests} requests"
    if evidence:
        reason += f"; the first: {sentence(evidence[0])}"
    verdict = Verdict.PASS if held else Verdict.PARTIAL if severity == "advisory" else Verdict.FAIL
    return Check(
        group=group,
        name=name,
        verdict=verdict,
        figure=figure,
        limit=limit.text,
        reason=f"{reason}.",
        severity=severity,
        margin=f"{shown(abs(value - limit.value), worst.unit)} {'inside' if held else 'outside'}",
        examined=examined,
        evidence=evidence,
    )


def shown(value: float, unit: Unit) -> str:
    """Return a value with its unit: percent, milliseconds, or a plain count."""
    match unit:
        case "share":
            return f"{value * 100:.2f} %"
        case "s":
            return f"{value * 1000:.1f} ms"
        case "usd":
            return f"{value:.6f} USD"
        case _:
            return f"{value:g}"


def _ended_as(what: str) -> str:
    return "refused" if what == "refusal_latency" else "whole"


def _duration_ns(what: str, request: RequestRecord) -> int | None:
    end_ns: int | None = None
    if request.outcome == _ended_as(what):
        end_ns = request.first_byte_ns if what == "first_token" else request.end_ns
    return None if end_ns is None else end_ns - request.intended_ns


def _unjudgeable(metric: str, measured: Measured, limit: Limit) -> str | None:
    if limit.unit != measured.unit:
        return f"The limit {limit.text!r} on {metric} has another unit than the metric."
    least = REQUESTS_FOR_P99 if metric.endswith("_p99") else REQUESTS_FOR_RATE if metric.endswith("_rate") else 0
    if measured.requests < least:
        return f"{measured.requests} requests are too few for {metric}; it takes {least}."
    if measured.value is None:
        return f"Nothing to measure {metric} on among {measured.requests} requests."
    return None


def _distance(limit: Limit, value: float) -> float:
    """Return how far `value` is on the wrong side; negative on the right one."""
    match limit.comparison:
        case ">=" | ">":
            return limit.value - value
        case "<=" | "<":
            return value - limit.value
        case _:
            return abs(value - limit.value)


def _culprits(case: Case, metric: str, limit: Limit, window: Iterable[RequestRecord]) -> Iterator[Evidence]:
    """Yield the requests that put the metric on the wrong side."""
    if metric in ("requests", "spend_usd"):
        return
    what, _, _ = metric.rpartition("_")
    for request in window:
        text = None
        if metric == "success_rate":
            hurts = request.outcome != "whole" and not case.is_allowed(request)
            text = f"{request.outcome}: {_detail(request)}" if hurts else None
        elif metric == "refused_rate":
            text = f"refused: {_detail(request)}" if request.outcome == "refused" else None
        else:
            seconds = (_duration_ns(what, request) or 0) / 1e9
            text = f"took {seconds * 1000:.1f} ms" if seconds and not limit.holds(seconds) else None
        if text is not None:
            yield case.evidence(text, request.intended_ns, request.request_id)


def _detail(request: RequestRecord) -> str:
    return request.problem or request.code or f"status {request.status}"

"""Metrics over a set of requests, and the judgement of a limit on one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from seawall.journal.events import RequestRecord
from seawall.scenario.model import Metric
from seawall.scenario.quantities import Limit
from seawall.verdicts.case import Case, percentile
from seawall.verdicts.checks import absent, sentence, timely
from seawall.verdicts.model import Check, Evidence, Verdict

__all__ = ["METRICS", "REQUESTS_FOR_P99", "REQUESTS_FOR_RATE", "Measured", "judge_limit", "measure", "shown"]

METRICS: tuple[str, ...] = get_args(Metric)
REQUESTS_FOR_P99 = 100
REQUESTS_FOR_RATE = 20
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

Unit = Literal["s", "share", "count"]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's value in base units (None: nothing to measure it on), and over how many requests."""

    value: float | None
    requests: int
    unit: Unit


def measure(case: Case, metric: str, requests: Sequence[RequestRecord]) -> Measured:
    """
    Return `metric` over `requests`.

    Rates are shares of the requests that were sent; of `success_rate` refusals that the scenario allows are no part.
    Latencies run from the intended start: to the end over whole answers, to the first token over whole streams, to
    the end over refusals.
    """
    sent = [request for request in requests if request.outcome not in ("dropped", "process_died")]
    if metric == "requests":
        return Measured(value=len(sent), requests=len(sent), unit="count")
    if metric == "success_rate":
        counted = [request for request in sent if not case.is_allowed(request)]
        whole = sum(request.outcome == "whole" for request in counted)
        return Measured(value=whole / len(counted) if counted else None, requests=len(sent), unit="share")
    if metric == "refused_rate":
        refused = sum(request.outcome == "refused" for request in sent)
        return Measured(value=refused / len(sent) if sent else None, requests=len(sent), unit="share")
    what, _, quantile = metric.rpartition("_")
    if what == "first_token":
        sent = [request for request in sent if request.stream]
    durations = sorted(d for request in sent if (d := _duration_ns(what, request)) is not None)
    value = percentile(durations, _QUANTILES[quantile])
    return Measured(value=None if value is None else value / 1e9, requests=len(sent), unit="s")


def judge_limit(
    case: Case,
    name: str,
    metric: str,
    limit: Limit,
    windows: Sequence[Sequence[RequestRecord]],
    *,
    group: str = "threshold",
    severity: str = "required",
) -> Check:
    """
    Return the check of a limit that must hold in each of `windows`, each a set of requests.

    `invalid` where a window has too few requests for the metric, nothing to measure it on, or the limit another unit.
    """
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
        case _:
            return f"{value:g}"


def _duration_ns(what: str, request: RequestRecord) -> int | None:
    end_ns: int | None = None
    if request.outcome == ("refused" if what == "refusal_latency" else "whole"):
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


def _culprits(case: Case, metric: str, limit: Limit, window: Sequence[RequestRecord]) -> list[Evidence]:
    if metric == "success_rate":
        hurt = [r for r in window if r.outcome != "whole" and not case.is_allowed(r)]
        return [case.evidence(f"{r.outcome}: {_detail(r)}", r.intended_ns, r.request_id) for r in hurt]
    if metric == "refused_rate":
        refused = [r for r in window if r.outcome == "refused"]
        return [case.evidence(f"refused: {_detail(r)}", r.intended_ns, r.request_id) for r in refused]
    if metric == "requests":
        return []
    what, _, _ = metric.rpartition("_")
    timed = [(r, (_duration_ns(what, r) or 0) / 1e9) for r in window]
    return [
        case.evidence(f"took {seconds * 1000:.1f} ms", r.intended_ns, r.request_id)
        for r, seconds in timed
        if seconds and not limit.holds(seconds)
    ]


def _detail(request: RequestRecord) -> str:
    return request.problem or request.code or f"status {request.status}"

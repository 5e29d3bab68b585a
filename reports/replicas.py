"""
Pods over time: how many are ready, how many the autoscaler wants, what CPU it was told, and which were killed. Pure.

Readiness and ends are the kubelets' reports, wishes the autoscaler's own, CPU what the metrics server answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from reports.timeline import Timeline
from seawall.journal.view import Journal

__all__ = ["Kill", "Replicas", "replicas_of"]


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A process of a pod that ended by a signal or with an error, or a pod that was told to end at once."""

    at_s: float
    pod: str
    code: int | None
    """None of a pod that was given no grace, however its process then ended."""


class Replicas(msgspec.Struct, frozen=True, kw_only=True):
    """For each step of the time axis, at its end; None where nobody has said anything yet."""

    ready: tuple[int, ...]
    desired: tuple[int | None, ...]
    cpu_milli: tuple[int | None, ...]
    """Of all pods in the last answer of the metrics server, in thousandths of a core."""
    utilization: tuple[int | None, ...]
    """The CPU that the autoscaler saw, in per cent of what the pods request."""
    target: tuple[int | None, ...]
    """What it aims at, in the same."""
    kills: tuple[Kill, ...]


def replicas_of(journal: Journal, line: Timeline) -> Replicas | None:
    """Return the pods of a run; None of one without any."""
    if not journal.pods and not journal.hpas:
        return None
    ready: set[str] = set()
    counts: list[tuple[float, int | None]] = []
    kills: list[Kill] = []
    hurried: set[str] = set()
    for stamped in journal.pods:
        pod, at_s = stamped.event, journal.seconds(stamped.mono_ns)
        if pod.action == "ready":
            ready.add(pod.uid)
        elif pod.action != "start":
            ready.discard(pod.uid)
        counts.append((at_s, len(ready)))
        if pod.action == "stop" and pod.grace_s == 0:
            hurried.add(pod.uid)
            kills.append(Kill(at_s=at_s, pod=pod.name, code=None))
        elif pod.action == "exit" and pod.code and pod.uid not in hurried:
            kills.append(Kill(at_s=at_s, pod=pod.name, code=pod.code))
    wishes = ((journal.seconds(stamped.mono_ns), stamped.event.desired) for stamped in journal.hpas)
    seen = ((journal.seconds(stamped.mono_ns), stamped.event.utilization) for stamped in journal.hpas)
    aims = ((journal.seconds(stamped.mono_ns), stamped.event.target_utilization) for stamped in journal.hpas)
    told = (
        (journal.seconds(stamped.mono_ns), sum(pod.cpu_milli for pod in stamped.event.pods))
        for stamped in journal.metrics_answers
        if stamped.event.status == 200
    )
    return Replicas(
        ready=tuple(value or 0 for value in _carried(line, counts)),
        desired=_carried(line, wishes),
        cpu_milli=_carried(line, told),
        utilization=_carried(line, seen),
        target=_carried(line, aims),
        kills=tuple(kills),
    )


def _carried(line: Timeline, moments: Iterable[tuple[float, int | None]]) -> tuple[int | None, ...]:
    """Return the last value of each step; a step without one is as the one before it."""
    values: list[int | None] = [None] * len(line.buckets)
    before: int | None = None
    for at_s, value in moments:
        place = math.floor((at_s - line.start_s) / line.step_s + 1e-9)
        if place < 0:
            before = value
        else:
            values[min(place, len(values) - 1)] = value
    for place, value in enumerate(values):
        before = before if value is None else value
        values[place] = before
    return tuple(values)

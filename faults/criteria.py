"""
How a fault of the wire shows itself to a probe: which probe to send, and by which criterion to judge it.

Pure arithmetic on a toxic's parameters. The table behind it was measured against Toxiproxy 2.12: a fresh
connection shows every toxic but those named unprovable here, if the probe's size follows from the toxic's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from faults.samples import Criterion, Protocol, Shape

__all__ = ["MAX_PROBE_BYTES", "PERIOD_S", "ProbePlan", "probe_plan"]

PERIOD_S = 0.2
"""A probe is started every so many seconds; probes overlap."""
MAX_PROBE_BYTES = 400_000
"""The largest probe, in bytes of one body: beyond it the evidence would be a load of its own."""

_MAX_EFFECT_S = 30.0
_DEADLINE_S = 1.5
_SILENCE_S = 1.0
_MIN_BODY = 64
# Rough sizes of the ping's request and reply heads, in bytes: slicer and bandwidth work on them too.
_REQUEST_HEAD = 100
_REPLY_HEAD = 80
_UNSEEN = 0.001
"""Share of runs in which all the needed probes may miss a toxic that takes only some connections."""
# PING and PONG are a few bytes: what works on sizes, or on the end of an answer, has nothing to work on.
_SHOWN_BY_RESP = ("down", "latency", "reset_peer", "timeout")


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to prove one toxic. Not `provable`: `why` says what stands in the way, and `shape` is a plain ping."""

    shape: Shape
    criterion: Criterion
    expected_s: float
    """How long one probe takes to show the effect."""
    provable: bool
    why: str
    chance: float = 1.0
    """How likely one probe meets the fault: toxicity, and jitter."""

    @property
    def probes(self) -> int:
        """How many probes leave at most one in a thousand without a meeting."""
        if self.chance >= 1:
            return 1
        return math.ceil(math.log(_UNSEEN) / math.log(1 - self.chance))

    @property
    def budget_s(self) -> float:
        """How long to wait for evidence: the effect, three periods, and one period for each further probe needed."""
        return self.expected_s + (2 + self.probes) * PERIOD_S


def probe_plan(
    toxic_type: str,
    stream: str,
    attributes: Mapping[str, int],
    toxicity: float = 1.0,
    protocol: Protocol = "http",
) -> ProbePlan:
    """
    Derive from a toxic's parameters how to prove it. `down` (a disabled proxy) counts as a type.

    Attributes by Toxiproxy's names and units. `protocol` is what the upstream of the proxy speaks. What cannot be
    proven, or has no effect, is said so.
    """
    row = _ROWS.get(toxic_type)
    if row is None:
        return _unprovable(f"nobody knows how the toxic {toxic_type!r} shows itself")
    if toxicity <= 0:
        return _unprovable("toxicity 0 takes no connection")
    if protocol == "resp" and toxic_type not in _SHOWN_BY_RESP:
        return _unprovable(f"{toxic_type} does not show in a PING to Redis; there use {', '.join(_SHOWN_BY_RESP)}")
    plan = row(attributes, stream == "upstream")
    if not plan.provable:
        return plan
    shape = msgspec.structs.replace(plan.shape, protocol=protocol)
    return _within_limits(msgspec.structs.replace(plan, shape=shape, chance=plan.chance * min(toxicity, 1.0)))


def _within_limits(plan: ProbePlan) -> ProbePlan:
    body = max(plan.shape.request_bytes, plan.shape.reply_bytes)
    if plan.expected_s > _MAX_EFFECT_S:
        return _unprovable(f"one probe would take {plan.expected_s:.0f} s, over the limit of {_MAX_EFFECT_S:.0f} s")
    if body > MAX_PROBE_BYTES:
        return _unprovable(f"a probe would carry {body} bytes, over the limit of {MAX_PROBE_BYTES}")
    if plan.chance < 1:
        why = (
            f"{plan.why}; a probe meets it with a chance of {plan.chance:.0%}, {plan.probes} miss it once in a thousand"
        )
        return msgspec.structs.replace(plan, why=why)
    return plan


def _provable(criterion: Criterion, shape: Shape, expected_s: float, *, chance: float = 1.0) -> ProbePlan:
    return ProbePlan(
        shape=shape, criterion=criterion, expected_s=expected_s, provable=True, why=criterion.describe(), chance=chance
    )


def _unprovable(why: str) -> ProbePlan:
    return ProbePlan(shape=Shape(), criterion=Criterion(name="none"), expected_s=0.0, provable=False, why=why)


def _patience_s(effect_s: float) -> float:
    return max(_DEADLINE_S, effect_s * 1.25 + 0.5)


def _latency(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    latency_s, jitter_s = attributes.get("latency", 0) / 1000, attributes.get("jitter", 0) / 1000
    if latency_s <= 0 and jitter_s <= 0:
        return _unprovable("latency 0 does nothing")
    # The delay is even between latency - jitter and latency + jitter: with a large jitter some probes fall short.
    limit_s = 0.8 * latency_s if latency_s > 0 else 0.5 * jitter_s
    chance = 1.0 if jitter_s <= 0 else min(1.0, round((latency_s + jitter_s - limit_s) / (2 * jitter_s), 6))
    longest_s = latency_s + jitter_s
    shape = Shape(deadline_s=_patience_s(longest_s))
    return _provable(Criterion(name="delayed", limit_s=limit_s, scale_s=limit_s), shape, longest_s, chance=chance)


def _timeout(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    timeout_s = attributes.get("timeout", 0) / 1000
    # 0 never closes; a long one need not be sat through, for nothing else keeps a ping silent for a whole second.
    if timeout_s <= 0 or timeout_s > 2 * _SILENCE_S:
        criterion = Criterion(name="silent", limit_s=_SILENCE_S, scale_s=_SILENCE_S)
        return _provable(criterion, Shape(deadline_s=_SILENCE_S), _SILENCE_S)
    shape = Shape(deadline_s=_patience_s(timeout_s))
    return _provable(Criterion(name="no_answer", limit_s=0.8 * timeout_s), shape, timeout_s)


def _reset_peer(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    timeout_s = attributes.get("timeout", 0) / 1000
    return _provable(
        Criterion(name="reset", limit_s=0.8 * timeout_s), Shape(deadline_s=_patience_s(timeout_s)), timeout_s
    )


def _bandwidth(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    rate = attributes.get("rate", 0)
    if rate <= 0:
        return _unprovable("bandwidth needs a rate above 0 KB/s")
    size = max(_MIN_BODY, 200 * rate)  # 0.2 s worth of bytes
    limit_s = 0.5 * size / (rate * 1000)
    expected_s = (size + _REQUEST_HEAD) / (rate * 1000)
    shape = Shape(request_bytes=size) if upstream else Shape(reply_bytes=size)
    return _provable(Criterion(name="delayed", limit_s=limit_s, scale_s=limit_s), shape, expected_s)


def _slicer(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    size, variation = attributes.get("average_size", 0), attributes.get("size_variation", 0)
    delay_s = attributes.get("delay", 0) / 1_000_000
    if size <= 0:
        return _unprovable("slicer needs an average_size above 0 bytes")
    if delay_s <= 0:
        return _unprovable("without a delay the slices of a slicer merge on their way; give it one")
    body = size * max(4, math.ceil(0.04 / delay_s))
    # Slices come out between half the average size and average size + variation.
    if upstream:
        body = max(0, body - _REQUEST_HEAD)
        total = body + _REQUEST_HEAD
        limit_s = 0.5 * total / (size + variation) * delay_s
        longest_s = 2 * total / size * delay_s
        shape = Shape(request_bytes=body, deadline_s=_patience_s(longest_s))
        return _provable(Criterion(name="delayed", limit_s=limit_s, scale_s=limit_s), shape, longest_s)
    body = max(_MIN_BODY, body)
    total = body + _REPLY_HEAD
    longest_s = 2 * total / size * delay_s
    # The spread shows after a few slices, so a long answer need not be awaited to its end.
    deadline_s = min(_patience_s(longest_s), max(3.0, 4 * delay_s))
    criterion = Criterion(
        name="spread", per_byte_s=0.5 * delay_s / (size + variation), scale_s=0.5 * total / (size + variation) * delay_s
    )
    return _provable(criterion, Shape(reply_bytes=body, deadline_s=deadline_s), min(longest_s, deadline_s))


def _limit_data(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    limit = attributes.get("bytes", 0)
    if upstream:
        return _provable(Criterion(name="no_answer"), Shape(request_bytes=2 * limit), 0.0)
    return _provable(Criterion(name="exact_bytes", bytes=limit), Shape(reply_bytes=max(_MIN_BODY, 2 * limit)), 0.0)


def _slow_close(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    delay_s = attributes.get("delay", 0) / 1000
    if delay_s <= 0:
        return _unprovable("slow_close without a delay does nothing")
    if upstream:
        # The client closes and sees nothing more; the provider's own record tells when the end reached it.
        shape = Shape(witnessed=True, deadline_s=_patience_s(delay_s))
        return _provable(Criterion(name="late_fin", limit_s=0.8 * delay_s, scale_s=0.8 * delay_s), shape, delay_s)
    shape = Shape(close=True, deadline_s=_patience_s(delay_s))
    return _provable(Criterion(name="late_close", limit_s=0.8 * delay_s, scale_s=0.8 * delay_s), shape, delay_s)


def _down(attributes: Mapping[str, int], upstream: bool) -> ProbePlan:
    return _provable(Criterion(name="refused"), Shape(), 0.0)


_ROWS: dict[str, Callable[[Mapping[str, int], bool], ProbePlan]] = {
    "bandwidth": _bandwidth,
    "down": _down,
    "latency": _latency,
    "limit_data": _limit_data,
    "reset_peer": _reset_peer,
    "slicer": _slicer,
    "slow_close": _slow_close,
    "timeout": _timeout,
}

"""
What one probe of the wire met, and whether that is evidence of a fault. Pure arithmetic on samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

__all__ = [
    "Baseline",
    "Criterion",
    "CriterionName",
    "Ending",
    "Protocol",
    "Sample",
    "Shape",
    "is_clean",
    "is_met",
    "measure",
]

_DEADLINE_S = 1.5
_MIN_BODY = 64

Protocol = Literal["http", "resp"]
"""What the upstream speaks: HTTP (the emulators' ping route), or RESP (Redis)."""
Ending = Literal["whole", "eof", "reset", "refused", "deadline"]
CriterionName = Literal[
    "delayed", "silent", "no_answer", "reset", "spread", "exact_bytes", "late_close", "late_fin", "refused", "none"
]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one probe met. Times in seconds since it began to connect, None for what did not come.

    `whole`: a complete HTTP answer (and, where the probe asked the server to close, the end of the connection after
    it). `bytes` counts all that was received, head included; `segments` the reads that it came in. `status` is that of
    an HTTP answer; of RESP 200 stands for PONG, and 500 for any other reply.
    """

    connect_s: float | None
    first_byte_s: float | None
    last_byte_s: float | None
    end_s: float
    bytes: int
    ended: Ending
    segments: int
    status: int | None = None
    fin_s: float | None = None
    """From our closing to the moment at which the provider saw it, where the probe asked."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to send: sizes of both bodies in bytes, whether the server shall close, and how long to wait at most.

    `witnessed`: after the answer the probe closes and asks the provider when it saw that. RESP has no bodies: PING.
    """

    protocol: Protocol = "http"
    request_bytes: int = 0
    reply_bytes: int = _MIN_BODY
    close: bool = False
    witnessed: bool = False
    deadline_s: float = _DEADLINE_S


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """
    What makes a sample evidence.

    `delayed`: whole, its last byte `limit_s` later than the baseline. `silent`: connected, no byte until the deadline.
    `no_answer`: EOF or reset without a byte, not before `limit_s`. `reset`: ECONNRESET, not before `limit_s`.
    `spread`: first to last byte took `per_byte_s` for each byte more than the baseline. `exact_bytes`: EOF after
    exactly `bytes`. `late_close`: whole, the end of the connection `limit_s` after the last byte. `late_fin`: whole,
    and our own end reached the provider after `limit_s`. `refused`: no connection. `none`: nothing is.
    """

    name: CriterionName
    limit_s: float = 0.0
    per_byte_s: float = 0.0
    bytes: int = 0
    scale_s: float | None = None
    """The time that the decision turns on, in seconds; None when it does not turn on time."""

    def describe(self) -> str:
        """Return the criterion in a few words, with its numbers."""
        limit_ms = f"{self.limit_s * 1000:g} ms"
        return {
            "delayed": f"whole, last byte at least {limit_ms} after the baseline's",
            "silent": "connected, no byte until the probe's deadline",
            "no_answer": f"end of connection without a byte, not before {limit_ms}",
            "reset": f"connection reset, not before {limit_ms}",
            "spread": f"first to last byte at least {self.per_byte_s * 1000:g} ms a byte over the baseline",
            "exact_bytes": f"end of connection after exactly {self.bytes} bytes",
            "late_close": f"whole, connection ended at least {limit_ms} after the last byte",
            "late_fin": f"whole, the provider saw our end of the connection at least {limit_ms} later",
            "refused": "connection refused",
            "none": "nothing",
        }[self.name]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the criterion's own measure is without the fault, in seconds."""

    median_s: float
    spread_s: float
    """Largest minus smallest."""
    probes: int


def measure(criterion: Criterion, sample: Sample) -> float:
    """Return the time of a whole sample that the criterion compares with the baseline, in seconds."""
    last, first = sample.last_byte_s or 0.0, sample.first_byte_s or 0.0
    if criterion.name == "spread":
        return last - first
    if criterion.name == "late_close":
        return sample.end_s - last
    if criterion.name == "late_fin":
        return sample.fin_s or 0.0
    return last


def is_met(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    """Return whether `sample` is evidence of the fault."""
    return _CRITERIA[criterion.name](criterion, sample, baseline)


def is_clean(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    """Return whether `sample` is a whole answer that shows nothing of the fault."""
    unseen = criterion.name == "late_fin" and sample.fin_s is None
    whole = sample.ended == "whole" and sample.status == 200
    return whole and not unseen and not is_met(criterion, sample, baseline)


def _is_delayed(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "whole" and (sample.last_byte_s or 0.0) >= baseline.median_s + criterion.limit_s


def _is_silent(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "deadline" and sample.connect_s is not None and sample.bytes == 0


def _is_no_answer(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended in {"eof", "reset"} and sample.bytes == 0 and sample.end_s >= criterion.limit_s


def _is_reset(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "reset" and sample.end_s >= criterion.limit_s


def _is_spread(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    needed_s = baseline.median_s + sample.bytes * criterion.per_byte_s
    return sample.segments >= 2 and (sample.last_byte_s or 0.0) - (sample.first_byte_s or 0.0) >= needed_s


def _is_exact(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "eof" and sample.bytes == criterion.bytes


def _is_late_close(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    late_s = sample.end_s - (sample.last_byte_s or 0.0)
    return sample.ended == "whole" and late_s >= baseline.median_s + criterion.limit_s


def _is_late_fin(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "whole" and (sample.fin_s or 0.0) >= baseline.median_s + criterion.limit_s


def _is_refused(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return sample.ended == "refused"


def _is_never(criterion: Criterion, sample: Sample, baseline: Baseline) -> bool:
    return False


_CRITERIA: dict[CriterionName, Callable[[Criterion, Sample, Baseline], bool]] = {
    "delayed": _is_delayed,
    "silent": _is_silent,
    "no_answer": _is_no_answer,
    "reset": _is_reset,
    "spread": _is_spread,
    "exact_bytes": _is_exact,
    "late_close": _is_late_close,
    "late_fin": _is_late_fin,
    "refused": _is_refused,
    "none": _is_never,
}

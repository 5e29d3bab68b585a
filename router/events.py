"""
What the router reports of itself, as it happens.

Times are nanoseconds of the router's clock (CLOCK_MONOTONIC outside simulation). A sink must not block and must not
raise; the gateway's writes the event to the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

__all__ = ["Attempt", "BreakerChange", "Event", "EventSink", "LatencyChange", "Skip", "SkipReason", "Spend"]


class Attempt(msgspec.Struct, gc=False, kw_only=True, tag_field="kind", tag="attempt", omit_defaults=True):
    """One call to one provider, reported when it has ended. `n` counts the attempts of a request from 1."""

    request_id: str
    provider: str
    model: str
    n: int
    stream: bool
    start_ns: int
    end_ns: int
    first_byte_ns: int | None
    outcome: Literal["ok", "failed", "cancelled"]
    reason: str
    """Why this provider was tried (`preferred`, `chain`, `failover`, `probe`, `continue`)."""
    error: str | None
    """The stable code of the error when `outcome` is `failed`."""
    status: int | None
    worker: str
    generation: int
    """The breaker's generation at the start."""
    deployment: str | None = None
    """Which of the provider's deployments; left out where the settings list none."""


SkipReason = Literal[
    "breaker_open", "airgap", "cooling_down", "budget", "no_key", "slow", "unsupported", "retry_budget"
]


class Skip(msgspec.Struct, gc=False, kw_only=True, tag_field="kind", tag="skip"):
    """A provider that the plan left out, and why."""

    request_id: str
    provider: str
    reason: SkipReason
    worker: str


class BreakerChange(
    msgspec.Struct, kw_only=True, tag_field="kind", tag="breaker", rename={"from_state": "from"}, omit_defaults=True
):
    """
    One transition of a breaker. States: `closed`, `open`, `half_open`.

    Where workers share their breakers, `cause` begins with `told by` when another worker's moved first.
    """

    worker: str
    provider: str
    from_state: str
    to: str
    generation: int
    cause: str
    deployment: str | None = None


# In a journal's line `source` is already the process that wrote it.
class Spend(msgspec.Struct, gc=False, kw_only=True, tag_field="kind", tag="spend", rename={"source": "reserved_by"}):
    """
    One step of the budget. Amounts in micro-dollars; `total` is reserved plus settled after it, as the store said.

    `source` of a `reserve`: `store`; `allowance`: the store is away, and total and limit are those of this worker's own
    allowance; `unanswered`: the store's answer was lost, so no call was made, and total is the last one known. A
    settlement always has the store's total; its source tells what it closes. An expiry of yesterday's has total 0.
    """

    action: Literal["reserve", "settle", "expire"]
    reservation_id: str
    request_id: str
    provider: str
    micro_usd: int
    total_micro_usd: int
    limit_micro_usd: int
    estimated: bool
    worker: str
    source: Literal["store", "allowance", "unanswered"] = "store"


class LatencyChange(msgspec.Struct, kw_only=True, tag_field="kind", tag="latency", omit_defaults=True):
    """The predictive breaker changed its mind: `slow` before anything has failed, or `fast` again."""

    worker: str
    provider: str
    to: Literal["slow", "fast"]
    average_ms: float
    limit_ms: float
    """The limit for streams; JSON answers are measured by their own and told as a share of that."""
    message: str
    deployment: str | None = None


Event = Attempt | Skip | BreakerChange | LatencyChange | Spend
EventSink = Callable[[Event], None]

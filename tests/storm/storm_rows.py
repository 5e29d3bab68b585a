"""The storm table: what the primary, and in two rows the fallback too, does wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["RECOVERY_S", "ROWS", "SETTINGS", "SLOW", "THROTTLED", "TIMEOUT_S", "Row"]

RECOVERY_S = 0.5
TIMEOUT_S = 4.0
# What a user would set who wants to be quick; the primary that answers after 3 s never fails by them. The rest is as it
# comes: threshold 3, latency limit 0.5 s.
SETTINGS = {
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": f"{RECOVERY_S}s",
    "FIRST_BYTE_TIMEOUT": f"{TIMEOUT_S}s",
    "IDLE_TIMEOUT": f"{TIMEOUT_S}s",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. `primary` and `fallback` are behaviours of an emulator; None: healthy."""

    name: str
    primary: dict[str, Any] | None = field(default=None, hash=False)
    fallback: dict[str, Any] | None = field(default=None, hash=False)
    refused: bool = False
    """Nobody listens at the primary's port."""
    first_answer_s: float = 0.0
    """How long the first clients have to wait: the time-out that finds the fault, or the slow answer itself."""
    cooldown_s: float = 0.0
    """What the throttled ones ask for."""

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is wrong."""
        return self.primary is None and not self.refused

    @property
    def nobody_answers(self) -> bool:
        """Whether an error is the right answer."""
        return self.fallback is not None


SLOW = Row(name="answers after 3 s", primary={"first_token_s": 3.0}, first_answer_s=3.0)
THROTTLED = Row(name="429, Retry-After: 30", primary={"status": 429, "retry_after_s": 30.0}, cooldown_s=30.0)
ROWS = (
    Row(name="nothing wrong"),
    Row(name="500", primary={"status": 500}),
    Row(name="connection refused", refused=True),
    Row(name="cut after 3 chunks", primary={"cut_after_chunks": 3}),
    Row(name="malformed JSON", primary={"malformed": True}),
    Row(name="empty body or stream", primary={"empty": True}),
    Row(name="HTML with 200", primary={"html": True}),
    Row(name="hang", primary={"hang": True}, first_answer_s=TIMEOUT_S),
    Row(name="hung stream", primary={"dribble_s": 60.0}, first_answer_s=TIMEOUT_S),
    Row(name="both 500", primary={"status": 500}, fallback={"status": 500}),
    Row(
        name="both 429",
        primary={"status": 429, "retry_after_s": 1.0},
        fallback={"status": 429, "retry_after_s": 1.0},
        cooldown_s=1.0,
    ),
    SLOW,
    THROTTLED,  # the last one: its cooldown outlasts it
)

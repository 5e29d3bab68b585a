"""
What an emulated provider does on the wire, as plain data.

`seawall.emulators.behaviour.respond` turns a call into steps; the server plays them on a socket and the simulation
plays the same steps into the transport. Nothing here does I/O.
"""

from __future__ import annotations

import msgspec

__all__ = ["Behaviour", "Body", "End", "Hang", "Head", "Healthy", "Reset", "Sleep", "Step"]


class Healthy(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider answers when nothing is wrong. Times in seconds."""

    first_token_p50_s: float = 0.02
    first_token_p99_s: float = 0.05
    tokens_per_second: float = 200.0
    tokens: int = 16


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """
    A fault that a provider itself commits: what TCP faults cannot make. All fields unset is a healthy answer.

    `injection_rate` is the share of *requests* it takes, drawn from the seed and the request's id.
    """

    fault_id: str
    injection_rate: float = 1.0
    status: int | None = None
    """Answer with this HTTP status and the vendor's error body."""
    retry_after_s: float | None = None
    """With `status`: the `retry-after` header, in seconds."""
    first_token_s: float | None = None
    """First token (or JSON body) after this long."""
    hang: bool = False
    """Take the request and never answer."""
    cut_after_chunks: int | None = None
    """Reset the connection after this many token events (JSON: in the middle of the body)."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Send status line and headers. `length` is the body's size in bytes, None for a chunked body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Send these bytes of the body as one chunk. `tokens` is how many answer tokens they carry."""

    data: bytes
    tokens: int = 0


class Sleep(msgspec.Struct, frozen=True, kw_only=True):
    """Wait."""

    seconds: float


class Reset(msgspec.Struct, frozen=True):
    """Break the connection with a TCP reset."""


class Hang(msgspec.Struct, frozen=True):
    """Send nothing more and keep the connection open until the peer leaves."""


class End(msgspec.Struct, frozen=True):
    """The answer is complete; the connection stays open for the next request."""


Step = Head | Body | Sleep | Reset | Hang | End
